"""Power cuts, as real as they come: below a busy relayd's spool the file system
is shut down, which drops whatever is not durable yet, relayd is killed, the
file system mounted again with the recovery that this means, and relayd started
again on what is left.  Each message that was acknowledged has to arrive at the
relayhost, octet for octet, or the report about it.

usage: power_cuts.py [--cuts N] [--without file|directory] ext4|xfs

With --without relayd runs without those syncs (no_sync.c), and at least 95 % of
the cuts have to show it.  Without cuts it only tries to mount.  Mounts are
those of a namespace of its own.  Needs root and loop devices.
"""

import argparse
import collections
import contextlib
import fcntl
import os
import pathlib
import random
import re
import smtplib
import struct
import subprocess
import sys
import tempfile
import threading
import time

from harness import HERE, PASSWORD, TIMEOUT, USER, Daemon, crlf
from network import own_mounts
from relayhost import Authority, Relayhost

FS_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2   # linux/fs.h
MAKE = {"ext4": ("mkfs.ext4", "-q", "-F"), "xfs": ("mkfs.xfs", "-q", "-f")}
OCTETS = 320 << 20      # what XFS asks for at least
SMTP_CLIENTS, SENDMAILS = 5, 2    # besides one
ACKNOWLEDGED_MOST = 60  # until the next cut
# By chance: the recipients' local parts.  What is refused is reported.
KINDS = (("now",), ("now",), ("now", "later"), ("later",), ("refused",),
         ("now", "refused"))
LINES = (1, 40, 500, 16000)     # the last is written in several pieces


class Disk:
    """A file system in an image below directory."""

    def __init__(self, kind, directory):
        self.image, self.path = directory / "image", directory / "disk"
        self.path.mkdir()
        with open(self.image, "wb") as image:
            image.truncate(OCTETS)
        subprocess.run([*MAKE[kind], self.image], check=True)
        self._held = None

    def mount(self):
        subprocess.run(["mount", "-o", "loop", self.image, self.path],
                       check=True)
        self._held = os.open(self.path, os.O_RDONLY)

    def cut(self):
        fcntl.ioctl(self._held, FS_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))

    def unmount(self):
        os.close(self._held)
        subprocess.run(["umount", self.path], check=True)


def body(name):
    """Tells its message, and whether it is whole."""
    number = int(name.rpartition("-")[2])
    size = LINES[number % 3 if number % 32 else 3]
    return f"message {name}\r\n" + f"{number:020d}\r\n" * size + "end\r\n"


class Ledger:
    """What was acknowledged, and what has arrived."""

    def __init__(self, kinds):
        self.kinds, self.lock = kinds, threading.Lock()
        self.numbers = iter(range(1, 1 << 30))
        self.wanted = {}    # name: (name, recipient) and reports to arrive
        self.arrived = {}   # such a thing: when
        self.damaged = []
        self.repeated = []  # when it had arrived before

    def next(self, chance):
        with self.lock:
            return f"m-{next(self.numbers)}", chance.choice(self.kinds)

    def acknowledge(self, name, kind):
        with self.lock:
            self.wanted[name] = {
                (name, "report" if one == "refused" else one) for one in kind}

    def take(self, message):
        """The relayhost's."""
        if message.sender:
            name = re.search(rb"(?m)^Subject: (\S+)\r$",
                             message.header)[1].decode()
            what = {(name, one.partition("@")[0])
                    for one in message.recipients}
            whole = message.body == crlf(body(name).encode())
        else:
            name = message.recipients[0].partition("@")[0]
            what = {(name, "report")}
            whole = b"refused@example.net" in message.body
        now = time.monotonic()
        with self.lock:
            if not whole:
                self.damaged.append(name)
            self.repeated += [self.arrived[one] for one in what
                              if one in self.arrived]
            self.arrived.update((one, now) for one in what)

    def settle(self):
        """What is missing and what is damaged; from now on others count."""
        with self.lock:
            lost = {one for wanted in self.wanted.values() for one in wanted
                    if one not in self.arrived}
            damaged, count = self.damaged, len(self.wanted)
            self.wanted, self.damaged = {}, []
        return count, lost, damaged


class Load:
    """Clients that hand over mail until they are refused."""

    def __init__(self, daemon, ledger, chance, cut, single):
        self.daemon, self.ledger, self.cut = daemon, ledger, cut
        # Acknowledgements until the power is cut.
        self.left = chance.randint(1, ACKNOWLEDGED_MOST)
        self.cut_at, self.late = float("inf"), 0
        self.lock = threading.Lock()
        clients = [self.smtp]
        if not single:
            clients += [self.smtp] * SMTP_CLIENTS + [self.sendmail] * SENDMAILS
        self.threads = [
            threading.Thread(target=run, args=(random.Random(chance.random()),))
            for run in clients]
        for thread in self.threads:
            thread.start()

    def acknowledged(self, name, kind):
        """The cut comes as soon after it as can be.  It takes some time, in
        which nothing counts: XFS says that it has synced what it gives up,
        and where the power is gone nobody is told."""
        now = time.monotonic()
        with self.lock:
            if now > self.cut_at:
                self.late += 1
                return
            self.ledger.acknowledge(name, kind)
            self.left -= 1
            if self.left == 0:
                self.cut_at = time.monotonic()
                self.cut()

    def smtp(self, chance):
        # Refused, or cut off: what was not acknowledged was not promised.
        with contextlib.suppress(OSError, smtplib.SMTPException), \
                smtplib.SMTP("127.0.0.1", self.daemon.port,
                             timeout=TIMEOUT) as client:
            while True:
                name, kind = self.ledger.next(chance)
                client.sendmail(f"{name}@example.org",
                                [f"{one}@example.net" for one in kind],
                                f"Subject: {name}\r\n\r\n{body(name)}")
                self.acknowledged(name, kind)

    def sendmail(self, chance):
        while True:
            name, kind = self.ledger.next(chance)
            text = f"Subject: {name}\n\n{body(name)}".replace("\r", "")
            if self.daemon.sendmail(
                    "-f", f"{name}@example.org",
                    *(f"{one}@example.net" for one in kind),
                    data=text.encode(), RELAYD_WAIT="0").returncode != 0:
                return
            self.acknowledged(name, kind)

    def join(self):
        for thread in self.threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()


def make_daemon(directory, disk, host, without):
    wrapper = ()
    if without != "nothing":
        library = directory / "no_sync.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-o",
                        library, HERE / "no_sync.c"], check=True)
        wrapper = ("env", f"LD_PRELOAD={library}", f"NO_SYNC={without}")
    (directory / "relayd").mkdir()
    spool = disk.path / "spool"
    daemon = Daemon(directory / "relayd", host, trace=False, wrapper=wrapper,
                    top={"spool": str(spool)})
    daemon.spool = spool
    return daemon


def recover(daemon, host, disk):
    """Until all that the cut has left is delivered or reported."""
    disk.unmount()
    disk.mount()
    host.mend(*(fault for fault in host.faults if fault.match == "later"))
    daemon.start()
    assert daemon.relayctl("flush").returncode == 0
    daemon.wait(lambda: not daemon.queued("new") and not daemon.queued("cur"))


def history(daemon, names):
    """What the log has of these messages."""
    ids = {match[1] for line in daemon.log if (match := re.search(
        r": (\w{12}): from=<([^@>]*)@", line)) and match[2] in names}
    return [line for line in daemon.log if any(one in line for one in ids)]


def run(disk, cuts, without, chance, directory):
    """Yields, for each cut: how many were acknowledged, what was lost and
    damaged, how long before the cut the oldest had arrived that came again."""
    # What is synced later makes the names before it durable, too: one client.
    single = without == "directory"
    # What has left already is not missed.
    ledger = Ledger(KINDS if without == "nothing" else
                    [one for one in KINDS if "later" in one])
    with Relayhost(Authority(directory / "ca"), users={USER: PASSWORD},
                   on_message=ledger.take) as host:
        daemon = make_daemon(directory, disk, host, without).start()
        host.fault("RCPT", "550 5.1.1 nobody", match="refused")
        # The spool itself is not what is lost.
        subprocess.run(["sync", "-f", disk.path], check=True)
        for _ in range(cuts):
            host.fault("RCPT", "450 4.2.1 not now", match="later")
            load = Load(daemon, ledger, chance, disk.cut, single)
            load.join()
            daemon.kill()
            recover(daemon, host, disk)
            oldest = max((load.cut_at - before for before in ledger.repeated),
                         default=0)
            ledger.repeated.clear()
            count, lost, damaged = ledger.settle()
            if (lost or damaged) and without == "nothing":
                print("lost:", sorted(lost), "damaged:", damaged,
                      *history(daemon, {*damaged, *(one for one, _ in lost)}),
                      sep="\n")
            yield count, lost, damaged, oldest
        daemon.stop()


@contextlib.contextmanager
def mounted(kind):
    """A directory with such a disk in it, both in memory."""
    own_mounts()
    with tempfile.TemporaryDirectory(prefix="relayd-power-") as scratch:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "none",
                        scratch], check=True)
        directory = pathlib.Path(scratch)
        disk = Disk(kind, directory)
        disk.mount()
        yield directory, disk
        disk.unmount()
        subprocess.run(["umount", scratch], check=True)


def is_possible():
    """Are there root, loop devices and file systems on this machine?"""
    return all(subprocess.run([sys.executable, __file__, "--cuts", "0", kind],
                              stderr=subprocess.DEVNULL,
                              check=False).returncode == 0 for kind in MAKE)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=MAKE)
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--without", default="nothing",
                        choices=("nothing", "file", "directory"))
    parser.add_argument("--seed", type=int,
                        default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    total, caught, oldest = collections.Counter(), 0, 0
    with mounted(options.kind) as (directory, disk):
        if options.cuts == 0:
            return
        for acknowledged, lost, damaged, age in run(
                disk, options.cuts, options.without,
                random.Random(options.seed), directory):
            total.update(acknowledged=acknowledged, lost=len(lost),
                         damaged=len(damaged))
            caught += bool(lost or damaged)
            oldest = max(oldest, age)
    print(f"{options.kind} without {options.without} (seed {options.seed}): "
          f"{options.cuts} cuts, {total['acknowledged']} acknowledged, "
          f"{total['lost']} lost, {total['damaged']} damaged, in {caught} "
          f"cuts; what came again had come at most {oldest:.1f} s before one")
    if options.without == "nothing":
        sys.exit(caught > 0)
    sys.exit(caught < .95 * options.cuts)


if __name__ == "__main__":
    main()
