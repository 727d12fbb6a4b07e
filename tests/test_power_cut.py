"""The power is cut under a spool on a real file system: what was acknowledged
is there afterwards, whole.  The kernel drops what is not on stable storage yet
(FS_IOC_SHUTDOWN), which is what a power cut leaves."""

import fcntl
import os
import re
import smtplib
import struct
import subprocess
import threading

import pytest

from harness import TIMEOUT

pytestmark = [pytest.mark.root, pytest.mark.soak]

CUTS, CLIENTS, EACH = 5, 4, 40
SHUTDOWN, WITHOUT_LOG_FLUSH = 0x8004587D, 2
MAKE = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q"]}
# A disk that only says that it has written.
LYING = ("strace", "-D", "-f", "-q", "-o", "/dev/null",
         "-e", "inject=fdatasync:retval=0")


class Disk:
    """A file system in a file, of which the power can be cut."""

    def __init__(self, directory, kind):
        self.image, self.place = directory / "image", directory / "mount"
        self.place.mkdir()
        with open(self.image, "wb") as image:
            image.truncate(400 << 20)
        self.run(*MAKE[kind], self.image)
        self.mount()

    @staticmethod
    def run(*command):
        subprocess.run(command, check=True, timeout=TIMEOUT,
                       stdout=subprocess.DEVNULL)

    def mount(self):
        self.run("mount", "-o", "loop", self.image, self.place)

    def cut(self):
        descriptor = os.open(self.place, os.O_RDONLY)
        fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", WITHOUT_LOG_FLUSH))
        os.close(descriptor)

    def again(self):
        self.run("umount", self.place)
        self.mount()


@pytest.fixture
def disk(directory, request):
    one = Disk(directory, request.param)
    yield one
    one.run("umount", one.place)


def body(name):
    return f"message {name}\r\n" * 100


def send(daemon, prefix, acknowledged, enough):
    """Until the power is cut."""
    number = 0
    try:
        with smtplib.SMTP("127.0.0.1", daemon.port, timeout=TIMEOUT) as client:
            while True:
                name = f"{prefix}-{number}"
                client.sendmail("root", ["root"],
                                f"Subject: {name}\r\n\r\n{body(name)}")
                acknowledged.append(name)
                number += 1
                if number == EACH:
                    enough.release()
    except (OSError, smtplib.SMTPException):
        pass


def cut_power(daemon, disk, host, wrapper=()):
    """Returns the names of those that were acknowledged, and that arrived."""
    good, daemon.relay["port"] = daemon.relay["port"], 1
    daemon.wrapper, acknowledged = wrapper, []
    daemon.write_config()
    for cut in range(CUTS):
        daemon.start()
        enough = threading.Semaphore(0)
        clients = [threading.Thread(target=send, args=(
            daemon, f"{cut}-{one}", acknowledged, enough))
                   for one in range(CLIENTS)]
        for client in clients:
            client.start()
        for _ in clients:
            assert enough.acquire(timeout=TIMEOUT)
        disk.cut()
        for client in clients:
            client.join(TIMEOUT)
        daemon.kill()
        disk.again()
    daemon.relay["port"], daemon.wrapper = good, ()
    daemon.write_config()
    daemon.start()
    daemon.wait_log(r"qmgr.*removed|moved to failed/")
    daemon.wait(lambda: not daemon.queued("new") and not daemon.queued("cur"))
    assert daemon.stop() == 0
    arrived = set()
    for message in host.messages:
        name = re.search(rb"(?m)^Subject: (\S+)\r$", message.header)[1].decode()
        assert message.body == body(name).encode(), name
        arrived.add(name)
    assert len(arrived) == len(host.messages)
    return set(acknowledged), arrived


@pytest.mark.parametrize("disk", MAKE, indirect=True)
def test_what_was_acknowledged_survives(make_daemon, disk, host):
    daemon = make_daemon(top={"spool": str(disk.place / "spool")}, trace=False)
    daemon.spool = disk.place / "spool"
    acknowledged, arrived = cut_power(daemon, disk, host)
    assert len(acknowledged) >= CUTS * CLIENTS * EACH
    assert acknowledged <= arrived, acknowledged - arrived


@pytest.mark.parametrize("disk", MAKE, indirect=True)
def test_on_a_disk_that_lies_it_does_not(make_daemon, disk, host):
    """Or the test would prove nothing."""
    daemon = make_daemon(top={"spool": str(disk.place / "spool")}, trace=False)
    daemon.spool = disk.place / "spool"
    acknowledged, arrived = cut_power(daemon, disk, host, LYING)
    assert acknowledged - arrived
