"""The agents that are compared, each with all its processes in a control
group of its own, and the relayhost that they all send to."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent
TOOLS = TOP / "build/bench"
TIMEOUT = 60
USER, PASSWORD = "relay@example.com", "pass-word-7"
POSTFIX_ROOT = TOP / "build/peers/root"

sys.path.insert(0, str(TOP / "tests"))
# pylint: disable=wrong-import-position
from harness import keys, quote


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_until(condition, what, timeout=TIMEOUT):
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.002)


def output_of(*command, check=True, **options):
    return subprocess.run([str(one) for one in command], check=check,
                          text=True, stdout=subprocess.PIPE, **options).stdout


class Cgroup:
    """What is started in it, and all that this starts."""

    def __init__(self, name):
        mounts = pathlib.Path("/proc/mounts").read_text().splitlines()
        top = next(fields[1] for fields in map(str.split, mounts)
                   if fields[2] == "cgroup2")
        self.path = pathlib.Path(top, f"relayd-bench-{os.getpid()}-{name}")
        self.path.mkdir()

    def enter(self):
        (self.path / "cgroup.procs").write_text("0")

    def cpu(self):
        """Seconds used by all, the dead too."""
        stat = (self.path / "cpu.stat").read_text()
        return int(re.search(r"usage_usec (\d+)", stat)[1]) / 1e6

    def pids(self):
        return (self.path / "cgroup.procs").read_text().split()

    def remove(self):
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        wait_until(lambda: not self.pids(), "processes do not end")
        # The last of them may still be on its way out.
        while True:
            try:
                return self.path.rmdir()
            except OSError:
                time.sleep(0.01)


class Relayhost:
    """bench/relayhost.c"""

    def __init__(self, authority):
        self.ca_file = authority.ca_file
        self.process = subprocess.Popen(
            [TOOLS / "relayhost", *authority.certificate()], text=True,
            bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline())
        self.is_up = False

    def _ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        return self.process.stdout.readline().strip()

    def down(self):
        if self.is_up:
            self._ask("down")
        self.is_up = False

    def up(self, rtt_ms=0, extensions=("PIPELINING", "CHUNKING")):
        self._ask("set", rtt_ms, "8BITMIME", *extensions)
        if not self.is_up:
            self._ask("up")
        self.is_up = True

    def reset(self):
        self._ask("reset")

    def wait(self, count, timeout=TIMEOUT):
        """Seconds of CLOCK_MONOTONIC when the first and the last arrived,
        and on how many connections since the reset."""
        arrived, doubles, _, connections, first, last = map(
            int, self._ask("wait", count, timeout).split())
        if arrived < count:
            raise TimeoutError(f"{arrived} of {count} messages arrived")
        if doubles > 0:
            raise AssertionError(f"{doubles} arrived twice")
        return first / 1e9, last / 1e9, connections

    def nth(self, count):
        return int(self._ask("nth", count)) / 1e9

    def when(self, number):
        return int(self._ask("when", number)) / 1e9

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Agent:
    """One that runs with an empty queue below directory, which is on a disk."""

    name = None

    def __init__(self, directory, relayhost, **settings):
        self.directory = pathlib.Path(directory, self.name)
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir()
        self.relayhost, self.settings = relayhost, settings
        self.cgroup = Cgroup(self.name)
        self.port = free_port()
        self.process = None
        self.configure()
        self.start()

    def launch(self, *command, **options):
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                [str(one) for one in command], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, preexec_fn=self.cgroup.enter,
                **options)

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port),
                                          TIMEOUT) as peer:
                peer.sendall(b"QUIT\r\n")
                return peer.makefile("rb").read().startswith(b"220")
        except ConnectionError:
            return False

    def start(self):
        raise NotImplementedError

    def configure(self):
        raise NotImplementedError

    def flush(self):
        raise NotImplementedError

    def stop(self):
        self.process.terminate()
        self.process.wait(TIMEOUT)

    def close(self):
        self.stop()
        self.cgroup.remove()
        shutil.rmtree(self.directory)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Relayd(Agent):
    name = "relayd"

    def configure(self):
        place = self.directory
        (place / "password").write_text(PASSWORD)
        (place / "password").chmod(0o600)
        shutil.chown(place / "password", "nobody")
        (place / "aliases").write_text("root: you@example.com\n")
        top = {"hostname": "web1.example.com", "origin": "example.com",
               "aliases": str(place / "aliases"), "spool": str(place / "spool"),
               "user": "nobody", "control": f"unix:{place}/control.sock",
               "log": "stderr", **self.settings.get("top", {})}
        relay = {"host": "localhost", "port": self.relayhost.port,
                 "family": "ipv4", "tls_ca_file": str(self.relayhost.ca_file),
                 "user": USER, "password_file": str(place / "password"),
                 **self.settings.get("relay", {})}
        (place / "relayd.conf").write_text(
            keys(top) + f"listen \"127.0.0.1:{self.port}\" {{\n}}\n"
            f"listen {quote(f'unix:{place}/submit.sock')} {{\n}}\n"
            f"relay \"bench\" {{\n{keys(relay)}}}\n")

    def start(self):
        self.launch(TOP / "relayd", "-f", self.directory / "relayd.conf")
        wait_until(self.answers, "relayd does not start")

    def restart(self):
        self.stop()
        self.start()

    def sendmail(self, recipient):
        return ["env", f"RELAYD_SOCKET={self.directory}/submit.sock",
                TOP / "sendmail", "-f", "app@example.com", recipient]

    def fill(self, messages):
        self.stop()
        output_of(TOOLS / "fill", self.directory / "spool", messages, 2048)
        subprocess.run(["chown", "-R", "nobody", self.directory / "spool"],
                       check=True)
        self.start()

    def list_queue(self):
        self.ctl("queue")

    def ctl(self, *arguments, fails=False):
        return output_of(TOP / "relayctl", "-f",
                         self.directory / "relayd.conf", *arguments,
                         check=not fails)

    def flush(self):
        self.ctl("flush")


class Private(Agent):
    """One that runs where its package is unpacked over the system's files."""

    peers = None    # where its package is unpacked, as tests/peers.sh does
    set_up = None   # shell script; ends with exec of the agent
    spool = None    # its directory there, to be on the disk

    def start(self):
        for name in ("private", "spool"):
            (self.directory / name).mkdir(exist_ok=True)
        self.launch(TOP / "tests/private.sh", "--end-all",
                    self.directory / "private",
                    f"{self.directory / 'spool'}:{self.spool}", "--",
                    "sh", "-euc", self.set_up, "sh", self.directory, self.port,
                    env={**os.environ, "PEERS": str(self.peers),
                         "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
        wait_until(self.answers, f"{self.name} does not start")
        spool = f"/proc/{self.pid()}/root{self.spool}"
        if os.stat(spool).st_dev != self.directory.stat().st_dev:
            raise AssertionError(f"{self.spool} is not on the disk: choose "
                                 "another --directory than one in /var")

    def pid(self):
        """Of one that has not changed its root; the first are private.sh's."""
        return next(pid for pid in reversed(self.cgroup.pids())
                    if os.readlink(f"/proc/{pid}/root") == "/")

    def inside(self, *command):
        """A command line that runs there."""
        return ("nsenter", "-t", self.pid(), "-m", "-p", "--", *command)

    def stop(self):
        self.process.kill()
        self.process.wait(TIMEOUT)


POSTFIX_MAIN = """\
# Debian's own, for a satellite system.
smtpd_banner = $myhostname ESMTP $mail_name (Debian/GNU)
biff = no
append_dot_mydomain = no
readme_directory = no
compatibility_level = 3.6
myhostname = web1.example.com
myorigin = example.com
mydestination = $myhostname, localhost.localdomain, localhost
mynetworks = 127.0.0.0/8
mailbox_size_limit = 0
recipient_delimiter = +
alias_maps =
inet_interfaces = loopback-only
inet_protocols = ipv4
maillog_file = /var/log/mail.log
relayhost = [localhost]:{relayhost}
smtp_host_lookup = native
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = texthash:/etc/postfix/sasl_passwd
smtp_sasl_security_options = noanonymous
smtp_tls_security_level = secure
smtp_tls_CAfile = {ca_file}
smtp_tls_session_cache_database = btree:${{data_directory}}/smtp_scache
"""


class Postfix(Private):
    name = "postfix"
    peers = TOP / "build/peers"
    spool = "/var/spool/postfix"
    set_up = r"""
getent passwd postfix >/dev/null ||
    echo 'postfix:x:390:390::/var/spool/postfix:/usr/sbin/nologin' >>/etc/passwd
printf 'postfix:x:390:\npostdrop:x:391:\n' >>/etc/group
cp "$1/main.cf" "$1/sasl_passwd" /etc/postfix/
sed -e 's/^\([a-z].*\s\)y\(\s\+[-0-9]*\s\+[-0-9?]*\s\)/\1n\2/' \
    -e "s/^smtp      inet/127.0.0.1:$2 inet/; s/^#tlsproxy/tlsproxy/" \
    /usr/share/postfix/master.cf.dist >/etc/postfix/master.cf
mkdir -p /var/lib/postfix
chown postfix /var/lib/postfix
chgrp postdrop /usr/sbin/postqueue /usr/sbin/postdrop
chmod g+s /usr/sbin/postqueue /usr/sbin/postdrop
exec postfix start-fg </dev/null
"""

    def configure(self):
        settings = self.settings.get("main", {})
        (self.directory / "main.cf").write_text(POSTFIX_MAIN.format(
            relayhost=self.relayhost.port, ca_file=self.relayhost.ca_file) +
            "".join(f"{key} = {value}\n" for key, value in settings.items()))
        (self.directory / "sasl_passwd").write_text(
            f"[localhost]:{self.relayhost.port} {USER}:{PASSWORD}\n")

    def flush(self):
        subprocess.run(self.inside("postqueue", "-f"), check=True)

    def sendmail(self, recipient):
        return self.inside("sendmail", "-f", "app@example.com", recipient)

    def fill(self, messages):
        """Copies of one that was deferred, under other names."""
        load(self.port, 1, 1)
        deferred = self.directory / "spool/deferred"
        wait_until(lambda: list(deferred.glob("*/*")), "nothing is deferred")
        time.sleep(1)
        original = next(deferred.glob("*/*"))
        status = original.stat()
        content = original.read_bytes()
        for number in range(messages):
            name = f"{number:05X}{number:05X}"
            place = deferred / name[0]
            if not place.exists():
                place.mkdir(0o700)
                os.chown(place, status.st_uid, status.st_gid)
            (place / name).write_bytes(content)
            os.chown(place / name, status.st_uid, status.st_gid)
            (place / name).chmod(0o700)
            # Not due soon.
            os.utime(place / name, (status.st_atime + 3600,) * 2)

    def list_queue(self):
        output_of(*self.inside("postqueue", "-p"))


class PostfixReuse(Postfix):
    name = "postfix+reuse"

    def __init__(self, directory, relayhost, **settings):
        settings = {**settings, "main": {
            "smtp_tls_connection_reuse": "yes", **settings.get("main", {})}}
        super().__init__(directory, relayhost, **settings)


class OpenSMTPD(Private):
    name = "opensmtpd"
    peers = TOOLS / "peers/opensmtpd"
    spool = "/var/spool/smtpd"
    set_up = r"""
printf '%s\n' 'opensmtpd:x:392:392::/var/lib/opensmtpd/empty:/bin/false' \
    'opensmtpq:x:393:393::/var/lib/opensmtpd/empty:/bin/false' >>/etc/passwd
printf 'opensmtpd:x:392:\nopensmtpq:x:393:\n' >>/etc/group
mkdir -p /var/lib/opensmtpd/empty
chmod 711 /var/spool/smtpd
cp "$1/smtpd.conf" "$1/secrets" /etc/
chmod 640 /etc/secrets
chgrp opensmtpd /etc/secrets
chgrp opensmtpq /usr/sbin/smtpctl
chmod g+s /usr/sbin/smtpctl
exec smtpd -d </dev/null
"""

    def configure(self):
        (self.directory / "smtpd.conf").write_text(
            "table secrets file:/etc/secrets\n"
            f"listen on 127.0.0.1 port {self.port} hostname web1.example.com\n"
            "listen on socket\n"
            "action \"out\" relay host "
            f"smtp+tls://bench@localhost:{self.relayhost.port} "
            "auth <secrets> tls no-verify\n"
            "match from any for any action \"out\"\n")
        (self.directory / "secrets").write_text(f"bench {USER}:{PASSWORD}\n")

    def sendmail(self, recipient):
        return self.inside("sendmail", "-f", "app@example.com", recipient)


class Nullmailer(Private):
    name = "nullmailer"
    peers = TOOLS / "peers/nullmailer"
    spool = "/var/spool/nullmailer"
    set_up = r"""
echo 'mail:x:8:8::/var/mail:/usr/sbin/nologin' >>/etc/passwd
mkdir -p /etc/nullmailer "$1/spool/queue" "$1/spool/tmp" "$1/spool/failed"
mkdir -p /var/spool/nullmailer/queue /var/spool/nullmailer/tmp \
    /var/spool/nullmailer/failed
[ -p /var/spool/nullmailer/trigger ] ||
    mkfifo -m 622 /var/spool/nullmailer/trigger
chown -R mail:mail /var/spool/nullmailer
chown mail:mail /usr/sbin/nullmailer-queue
chmod u+s /usr/sbin/nullmailer-queue
cp "$1/remotes" /etc/nullmailer/
echo web1.example.com >/etc/nullmailer/me
exec setpriv --reuid mail --regid mail --clear-groups nullmailer-send
"""

    def configure(self):
        (self.directory / "remotes").write_text(
            f"localhost smtp --port={self.relayhost.port} --starttls "
            f"--insecure --user={USER} --pass={PASSWORD}\n")

    def answers(self):
        with contextlib.suppress(OSError):  # one may end meanwhile
            for pid in self.cgroup.pids():
                name = pathlib.Path("/proc", pid, "comm").read_text()
                if name.startswith("nullmailer-send"):
                    return True
        return False

    def sendmail(self, recipient):
        return self.inside("sendmail", "-f", "app@example.com", recipient)


# What they are loaded with, and the machine alone.

def load(port, sessions, messages, octets=2048, first=0):
    """Messages a second, each of which was accepted, and the longest wait for
    an acceptance in seconds."""
    seconds, longest = map(float, output_of(
        TOOLS / "load", port, sessions, messages, octets, first).split())
    return messages / seconds, longest / 1e3


def client(agent, uid, kind, count):
    """The command line of bench/slow.py."""
    return [sys.executable, HERE / "slow.py", str(uid),
            agent.directory / "submit.sock", kind, str(count)]


@contextlib.contextmanager
def slow_clients(agent, uid, count):
    with subprocess.Popen(client(agent, uid, "slow", count),
                          stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        if process.stdout.readline() != b"ready\n":
            raise ConnectionRefusedError(f"{count} slow clients")
        yield
        if process.poll() is not None:
            raise ConnectionResetError("slow clients were sent away")


def times(agent, uid, messages):
    """In seconds, of one message after the other."""
    return [float(line) for line in
            output_of(*client(agent, uid, "timed", messages)).splitlines()]


def smtp_source(port, sessions, messages, octets=2048):
    """The same by Postfix's own, where each session sends message after
    message as well."""
    began = time.monotonic()
    output_of(POSTFIX_ROOT / "usr/sbin/smtp-source", "-d", "-N",
              "-s", sessions, "-m", messages, "-l", octets,
              "-f", "app@example.com", "-t", "you@example.net",
              f"127.0.0.1:{port}",
              env={"LD_LIBRARY_PATH": f"{POSTFIX_ROOT}/usr/lib/postfix"})
    return messages / (time.monotonic() - began)


def limit(directory, messages, octets=2048, group=32):
    place = pathlib.Path(directory, "limit")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        return float(output_of(TOOLS / "limit", place, messages, octets,
                               group))
    finally:
        shutil.rmtree(place)


def spawn(command, message, calls, pause_ms):
    """When each call began, how long it took and its CPU time, in seconds.
    What only leads into a namespace or sets the environment is left out."""
    command = [str(one) for one in command]
    tool = [str(TOOLS / "spawn"), str(calls), str(pause_ms), str(message)]
    if command[0] == "nsenter":
        at = command.index("--") + 1
        command = command[:at] + tool + command[at:]
    elif command[0] == "env":
        command = command[:2] + tool + command[2:]
    else:
        command = tool + command
    lines = output_of(*command, stderr=subprocess.DEVNULL).splitlines()
    return [tuple(int(one) / 1e9 for one in line.split()) for line in lines]


def openssl_client(relayhost, scratch, messages, octets):
    """The same octets through openssl s_client."""
    with open(scratch, "wb") as out:
        out.write(b"EHLO x\r\nAUTH PLAIN AGEAYg==\r\n")
        for number in range(messages):
            out.write(b"MAIL FROM:<a@example.com>\r\n"
                      b"RCPT TO:<u%d@example.net>\r\nBDAT %d LAST\r\n"
                      % (number, octets) + bytes(octets))
        out.write(b"QUIT\r\n")
    with open(scratch, "rb") as source:
        # It fails as the connection ends without TLS's close_notify.
        subprocess.run(["openssl", "s_client", "-quiet", "-starttls", "smtp",
                        "-connect", f"127.0.0.1:{relayhost.port}"],
                       stdin=source, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, check=False)


def memory(agent, key):
    """Of smaps_rollup or status, summed over the lines that begin so and over
    all processes; VmHWM: of the largest.  In MB."""
    values = []
    for pid in agent.cgroup.pids():
        text = "".join(pathlib.Path("/proc", pid, name).read_text()
                       for name in ("smaps_rollup", "status"))
        values.append(sum(int(size) for size in re.findall(
            rf"(?m)^{key}\S*\s+(\d+) kB", text)))
    return (max if key == "VmHWM" else sum)(values) * 1024 / 1e6


def wakeups(agent):
    return sum(int(number) for pid in agent.cgroup.pids()
               for status in pathlib.Path("/proc", pid, "task").glob(
                   "*/status")
               for number in re.findall(
                   r"(?m)^(?:non)?voluntary_ctxt_switches:\s+(\d+)",
                   status.read_text()))
