"""Sections E and G of the catalogue of bad input: a configuration that is no
good, by every way that it is read.  tests/test_config.c has more rows, those
where only the text matters."""

import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile

import pytest

from harness import BIN, DAEMON_USER, ROOT, TIMEOUT, Daemon
from relayhost import Relayhost

RELAY = 'relay "x" {\nhost = "h.example"\n}\n'
# What belongs to nobody and must never be shown.
FOREIGN = "root:$6$SeCrEt$hash:19000:0:99999:7:::\n"
# To read a configuration takes a moment, whatever it holds.
SANITIZED = b"__asan_init" in (BIN / "relayd").read_bytes()
CPU_SECONDS = 20 if SANITIZED else 4


def give(path, mode=None, user=DAEMON_USER):
    """Make it the daemon's."""
    if ROOT:
        shutil.chown(path, user)
    if mode is not None:
        path.chmod(mode)


def run(program, *arguments, wrapper=(), **environment):
    return subprocess.run(
        ["prlimit", f"--cpu={CPU_SECONDS}", *wrapper, BIN / program,
         *map(str, arguments)], stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT,
        errors="surrogateescape", env={**os.environ, **environment})


def hello(daemon):
    """The name it greets with: it answers, by the configuration it has."""
    with socket.create_connection(("127.0.0.1", daemon.port),
                                  TIMEOUT) as sock:
        return sock.makefile("rb").readline().split()[1].decode()


class Running:
    """A daemon for a whole table: its file is replaced, row by row."""

    def __init__(self, directory, host):
        self.daemon = Daemon(directory, host, trace=False).start()
        self.file = self.daemon.file
        self.good = self.file.read_bytes()
        self.failed = 0

    @contextlib.contextmanager
    def in_place(self):
        """The file is gone, for another of its name; it comes back."""
        self.file.unlink()
        try:
            yield self.file
        finally:
            if self.file.is_dir() and not self.file.is_symlink():
                self.file.rmdir()
            else:
                self.file.unlink(missing_ok=True)
            self.file.write_bytes(self.good)

    def reload_fails(self):
        """The lines logged; the old configuration is in force."""
        before = len(self.daemon.log)
        self.daemon.reload()
        self.failed += 1
        self.daemon.wait_log("error: reload failed; the old configuration "
                             "stays in force", self.failed)
        assert hello(self.daemon) == "web1.example.com"
        return [match[1] for line in self.daemon.log[before:]
                if (match := re.search(r"relayd\[\d+\]: error: (.*)", line))
                and "reload failed" not in line]

    def outputs(self):
        """By each way that it is read: what is said, the file being bad."""
        said = {}
        for name, status, *command in (
                ("-n", 78, "relayd", "-n", "-f", self.file),
                ("start", 78, "relayd", "-f", self.file),
                ("check", 1, "relayctl", "-f", self.file, "check")):
            done = run(*command)
            assert done.returncode == status, (name, done)
            said[name] = done.stdout.splitlines()
        said["reload"] = self.reload_fails()
        return said

    def assert_refused(self, expected):
        """expected: of each error "LINE: KEY" and a pattern in its text."""
        for way, lines in self.outputs().items():
            assert len(lines) == len(expected), (way, lines)
            for line, (start, words) in zip(lines, expected):
                line = line.removeprefix("relayctl: ")
                assert line.startswith(f"{self.file}:{start}: "), (way, line)
                assert re.search(words, line), (way, line)
                assert line.isprintable() and len(line) < 1100, (way, line)
                assert "SeCrEt" not in line, (way, line)


@pytest.fixture(scope="module")
def running(authority):
    directory = pathlib.Path(tempfile.mkdtemp(prefix="relayd-test-"))
    directory.chmod(0o755)
    with Relayhost(authority) as host:
        one = Running(directory, host)
        yield one
        assert one.daemon.stop() == 0, one.daemon.log[-20:]
        assert not any("Sanitizer" in line for line in one.daemon.log)
    shutil.rmtree(directory)


# Section E: the text.

def relay(*lines):
    return 'relay "x" {\nhost = "h.example"\n' + "\n".join(lines) + "\n}\n"


PORTS = "1 to 65535"
ROWS = [
    ("E1", 'relay "x" { host="h"',
     [("1: relay.x", 'section relay "x" opened at line 1 is not closed')]),
    ("E2", RELAY + "/* never closed", [("4: syntax", "not closed")]),
    ("E3", RELAY + 'hostname = "h', [("4: syntax", "end on its line")]),
    ("E4", "a = x\0y\n", [("1: syntax", "NUL byte in line 1")]),
    ("E5", RELAY + 'from = "a\nb"\n', [("4: syntax", "end on its line")]),
    ("E6", RELAY + 'relay "x" {\nport = 25\n}\n',
     [("4: relay.x", "duplicate")]),
    ("E7", RELAY + "log = auto\nlog = auto\n", [("5: log", "duplicate")]),
    ("E7-in-a-section", relay("port = 25", "port = 26"),
     [("4: relay.x.port", "duplicate")]),
    ("E8-key", RELAY + "hostnam = a\n", [("4: hostnam", '"hostname"')]),
    ("E8-key-of-64", RELAY + "k" * 64 + " = 1\n",
     [("4: " + "k" * 64, "unknown")]),
    ("E8-key-of-65", RELAY + "k" * 65 + " = 1\n", [("4: syntax", "key")]),
    ("E8-key-of-64-KiB", RELAY + "k" * 65536 + " = 1\n",
     [("4: syntax", "key")]),
    ("E8-section", RELAY + "dkimm x { }\n", [("4: dkimm.x", "unknown.*dkim")]),
    ("E8-in-a-section", relay("conections = 1"),
     [("3: relay.x.conections", '"connections"')]),
    ("E9-no-sign", relay("port 25"), [("3: relay.x.port", '"=" is missing')]),
    ("E9-list", relay("port = {25}"), [("3: relay.x.port", "not a list")]),
    *((f"E9-port={value}", relay(f"port = {value}"),
       [("3: relay.x.port", PORTS)])
      for value in ("25abc", "99999999999999999999")),
    *((f"E10-port={value}", relay(f"port = {value}"),
       [("3: relay.x.port", PORTS)]) for value in (-1, 0, 65536)),
    *((f"E10-connections={value}", relay(f"connections = {value}"),
       [("3: relay.x.connections", "1 to 1000")])
      for value in (0, -5, 1000000)),
    *((f"E10-size={value}", RELAY + f'message_size_limit = "{value}"\n',
       [("4: message_size_limit", "1K to 4G")])
      for value in ("-1", "1X", "99999999T")),
    ("E10-no-retry", RELAY + "retry = {}\n", [("4: retry", "1 to 32")]),
    ("E10-retry-at-once", RELAY + 'retry = {"0s"}\n',
     [("4: retry", "1s to 7d")]),
    ("E10-lifetime", RELAY + 'queue_lifetime = "5"\n',
     [("4: queue_lifetime", "1s to 365d")]),
    *((f"E11-port={value}", relay(f"port = {value}"),
       [("3: relay.x.port", PORTS)]) for value in ("0x19", "0587")),
    ("E12-host", 'relay "x" {\nhost = "a\\r\\nb"\n}\n',
     [("2: relay.x.host", "control")]),
    ("E12-hostname", RELAY + 'hostname = "\\x0d\\x0aRCPT"\n',
     [("4: hostname", "control")]),
    ("E12-header_add", RELAY + 'header_add = {"X: y\\nBcc: e"}\n',
     [("4: header_add", "control")]),
    ("E13-unquoted", relay("user = u", "password = SeCrEt"),
     [("4: relay.x.password", "in quotes")]),
    ("E13-unset", 'relay "x" {\nhost = "${RELAYD_NEVER_SET}"\n}\n',
     [("2: relay.x.host", r"host is empty \(environment variable "
       r"RELAYD_NEVER_SET is not set\)")]),
    ("E13-unterminated", RELAY + 'from = "${X:-"\n', [("4: syntax", r"\$\{")]),
    ("E14-itself", RELAY + 'include("relayd.conf")\n',
     [("4: include", "includes itself")]),
    ("E14-missing", RELAY + 'include("none.conf")\n',
     [("4: include", "No such file")]),
    ("E14-directory", RELAY + 'include("/etc")\n',
     [("4: include", "directory|regular file")]),
    ("E14-glob", RELAY + 'include("*.conf")\n',
     [("4: include", "No such file")]),
    ("E14-device", RELAY + 'include("/dev/zero")\n',
     [("4: include", "regular file")]),
    ("E15-empty", "", [("1: relay", "no relay")]),
    ("E16-mark-twice", "\ufeff\ufeff" + RELAY, [("1: syntax", "key")]),
    ("E17", "log = auto\n", [("1: relay", "no relay")]),
    ("E17-behind-a-maildir", 'relay "m" {\nmaildir = "/tmp/m"\n}\n' + RELAY,
     [("4: relay.x", 'behind the maildir "m"')]),
    *((f"E18-{tls}", relay("user = u", "password = 'SeCrEt'", f"tls = {tls}"),
       [("5: relay.x.tls", "in clear")]) for tls in ("none", "opportunistic")),
    ("E20-relative", RELAY + 'spool = "spool"\n', [("4: spool", "absolute")]),
    ("E20-home", RELAY + 'spool = "~/spool"\n', [("4: spool", "absolute")]),
    ("E20-dots", RELAY + 'spool = "/var/../etc"\n', [("4: spool", r"\.\.")]),
    ("E20-root", RELAY + 'spool = "/"\n', [("4: spool", 'below "/"')]),
    ("E20-file", RELAY + 'spool = "/etc/passwd"\n',
     [("4: spool", "no directory")]),
    ("E22-too-long", RELAY + f'listen "unix:/{"x" * 107}" {{\n}}\n',
     [(f"4: listen.unix:/{'x' * 107}", "107 octets")]),
    ("G6-missing", relay('tls_ca_file = "/none/ca.pem"'),
     [("3: relay.x.tls_ca_file", "No such file")]),
    ("G6-device", relay('tls_ca_file = "/dev/null"'),
     [("3: relay.x.tls_ca_file", "")]),
    ("G6-no-pem", relay('tls_ca_file = "/etc/passwd"'),
     [("3: relay.x.tls_ca_file", "PEM")]),
    ("all-at-once", "hostnam = a\nretry = {}\n" + relay("port = 0") +
     'spool = "spool"\n',
     [("1: hostnam", ""), ("2: retry", ""), ("5: relay.x.port", ""),
      ("7: spool", "")]),
]


@pytest.mark.parametrize("text, expected", [
    pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_text(running, text, expected):
    with running.in_place() as file:
        file.write_text(text)
        give(file, 0o600)
        running.assert_refused(expected)


def test_E14_eleven_levels(running):
    files = [running.file.parent / f"{level}.inc" for level in range(11)]
    for file, following in zip(files, files[1:]):
        file.write_text(f'include("{following.name}")\n')
    files[10].write_text("")
    try:
        with running.in_place() as file:
            file.write_text(RELAY + 'include("0.inc")\n')
            for lines in running.outputs().values():
                assert len(lines) == 1 and "too deeply" in lines[0], lines
                assert "/9.inc:1: include: " in lines[0]
            file.write_text(RELAY + 'include("1.inc")\n')
            assert run("relayd", "-n", "-f", file).returncode == 0
    finally:
        for file in files:
            file.unlink()


def test_E14_all_that_is_included_is_limited(running):
    """Each file is less than 1 MiB."""
    half = running.file.parent / "half.inc"
    other = running.file.parent / "other.inc"
    for file in half, other:
        file.write_text(f'header_add = {{"X: {"x" * (600 << 10)}"}}\n')
    try:
        with running.in_place() as file:
            file.write_text(RELAY + f'include("{half.name}")\n'
                            f'include("{other.name}")\n')
            running.assert_refused([("5: include", "larger than 1 MiB")])
    finally:
        half.unlink()
        other.unlink()


@pytest.mark.parametrize("mode", [0o644, 0o646], ids=["shadow", "writable"])
def test_E14_nothing_of_a_foreign_file_is_shown(running, mode):
    """Neither by an include nor as the file itself."""
    foreign = running.file.parent / "foreign"
    foreign.write_text(FOREIGN)
    foreign.chmod(mode)
    try:
        with running.in_place() as file:
            file.write_text(RELAY + f'include("{foreign}")\n')
            for lines in running.outputs().values():
                assert len(lines) == 1, lines
                assert "SeCrEt" not in lines[0] and "root" not in lines[0]
                assert ("chmod o-w" in lines[0]) == (mode == 0o646), lines
        with running.in_place() as file:
            file.symlink_to(foreign)
            for lines in running.outputs().values():
                assert len(lines) == 1 and "SeCrEt" not in lines[0], lines
    finally:
        foreign.unlink()


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def sparse(path):
    path.touch()
    os.truncate(path, 1 << 30)


KINDS = {
    "directory": (pathlib.Path.mkdir, "directory|regular file"),
    "FIFO": (os.mkfifo, "regular file"),
    "socket": (unix_socket, "regular file|No such device"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "regular file"),
    "terminal": (lambda path: path.symlink_to("/dev/tty"),
                 "regular file|No such device"),
    "missing": (lambda path: None, "No such file"),
    "1 GiB": (sparse, "is larger than 1 MiB"),
    "50 MB token": (lambda path: path.write_bytes(
        b'hostname = "' + b"a" * 50_000_000 + b'"\n'),
                    "is larger than 1 MiB"),
    "loop": (lambda path: path.symlink_to(path), "symbolic links"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_E15_what_is_no_file_of_a_fair_size(running, kind):
    make, words = KINDS[kind]
    with running.in_place() as file:
        make(file)
        running.assert_refused([("1: file", words)])


@pytest.mark.root
def test_E15_a_file_that_cannot_be_read(running):
    with running.in_place() as file:
        file.write_text(RELAY)
        file.chmod(0)
        for status, program, option in ((78, "relayd", "-n"),
                                        (1, "relayctl", "check")):
            done = run(program, "-f", file, option, wrapper=[
                "setpriv", f"--reuid={DAEMON_USER}", "--clear-groups"])
            assert done.returncode == status
            assert re.search(rf"{file}:1: file: .*Permission denied",
                             done.stdout)
        line, = running.reload_fails()
        assert re.fullmatch(rf"{file}:1: file: .*Permission denied", line)


def assert_accepted(file, words=None):
    """words: one warning, about line 4, holds them."""
    done = run("relayd", "-n", "-f", file)
    assert done.returncode == 0, done.stdout
    if words is None:
        assert done.stdout == ""
        return
    checked = run("relayctl", "-f", file, "check")
    for output in done.stdout, checked.stdout:
        line, = [line for line in output.splitlines() if f"{file}:4: " in line]
        assert re.search(words, line), line


def test_E16_a_byte_order_mark_and_crlf_are_accepted(running):
    with running.in_place() as file:
        file.write_bytes(b"\xef\xbb\xbf# \xc3\xa4\r\n" +
                         RELAY.replace("\n", "\r\n").encode())
        assert_accepted(file)


def test_E17_a_second_relay_is_no_warning(running):
    with running.in_place() as file:
        file.write_text(RELAY + RELAY.replace('"x"', '"y"'))
        assert_accepted(file)


@pytest.mark.parametrize("password", ['"SeCrEt${HOME}rd"', r'"SeCrEt\\b"'],
                         ids=["variable", "backslash"])
def test_E13_an_expanded_secret_is_a_warning(running, password):
    with running.in_place() as file:
        file.write_text(relay('user = "u"', f"password = {password}"))
        file.chmod(0o600)
        assert_accepted(file, r"relay\.x\.password: (?!.*SeC).*single quotes")


def test_E18_in_clear_to_loopback(running):
    with running.in_place() as file:
        file.write_text('relay "x" {\nhost = "127.0.0.1"\ntls = none\n'
                        "user = u\npassword = 'p'\n}\n")
        file.chmod(0o600)
        assert_accepted(file)


def test_E19_no_verification_is_told_again_and_again(make_daemon):
    daemon = make_daemon(relay={"tls_verify": False}, trace=False)
    for starts in (1, 2):
        daemon.start()
        daemon.wait_log(r"warning: .*relay\.test\.tls_verify: .*not verified",
                        starts)
        assert "warning: its certificate is not verified" in \
            daemon.relayctl("status").stdout
        assert daemon.stop() == 0


@pytest.mark.parametrize("text, words, count", [
    ("".join(f'relay "r{i}" {{\nhost = h\n}}\n' for i in range(10_000)),
     "at most 1000 relay sections", 100),
    (RELAY + "masquerade = {" + ", ".join(
        f'"a{i}@b=c@d"' for i in range(50_000)) + "}\n",
     "masquerade: has over 1000 values", 1),
], ids=["relays", "masquerade"])
def test_E24_many_entries_end_in_a_limit(running, text, words, count):
    """Within the time that run() grants to the processor."""
    with running.in_place() as file:
        file.write_text(text)
        for lines in running.outputs().values():
            assert all(words in line for line in lines[:count]), lines
            assert lines[count:] == ["more errors are not shown"] * (
                count == 100)


# Sections E and G: what is there when it starts.

def refusal(daemon, status=78, **options):
    """What it says instead of starting."""
    done = run("relayd", "-f", daemon.file, **options)
    assert done.returncode == status, done
    return "\n".join(line for line in done.stdout.splitlines()
                     if "listening on" not in line)


@pytest.mark.root
@pytest.mark.parametrize("user", ["root", "games"])
def test_E20_G9_a_spool_of_another_user(make_daemon, user):
    daemon = make_daemon()
    daemon.spool.mkdir(0o700)
    give(daemon.spool, user=user)
    line = refusal(daemon)
    assert "belongs to uid" in line and "chown" in line
    assert os.listdir(daemon.spool) == []


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o750, 0o701])
def test_G9_a_spool_that_is_open(make_daemon, mode):
    daemon = make_daemon()
    daemon.spool.mkdir()
    give(daemon.spool, mode)
    assert f"chmod 700 {daemon.spool}" in refusal(daemon)
    assert os.listdir(daemon.spool) == []


@pytest.mark.root
@pytest.mark.parametrize("call, words", [
    ("fsync:error=EINVAL", "Invalid argument"),
    ("linkat:error=EPERM", "hard link.*Operation not permitted"),
    ("renameat2:error=EINVAL", "rename.*Invalid argument"),
], ids=["fsync-of-directories", "hard-links", "rename"])
def test_G9_a_file_system_that_cannot_do_it(make_daemon, call, words):
    """As NFS and FAT may: better no start than mail that can't be kept."""
    daemon = make_daemon()
    said = refusal(daemon, wrapper=[
        "timeout", "20", "strace", "-f", "-o", "/dev/null",
        "-e", f"trace={call.partition(':')[0]}", "-e", f"inject={call}"],
        ASAN_OPTIONS="detect_leaks=0:" + os.environ.get("ASAN_OPTIONS", ""))
    assert re.search(f"{daemon.spool}: .*{words}", said), said
    assert not list(daemon.spool.glob("tmp/*"))


SOCKETS = pytest.mark.parametrize("which", ["submit", "control"])


def place_of(daemon, which):
    """The path of a socket that is to come; its directory is there."""
    daemon.run.mkdir()
    give(daemon.run)
    return daemon.run / f"{which}.sock"


@SOCKETS
def test_E22_a_regular_file_is_kept(make_daemon, which):
    daemon = make_daemon()
    path = place_of(daemon, which)
    path.write_text("mine\n")
    said = refusal(daemon)
    assert f"{path}: File exists" in said
    assert path.read_text() == "mine\n"


@SOCKETS
def test_E22_a_stale_socket_is_removed(make_daemon, which):
    daemon = make_daemon(trace=False)
    path = place_of(daemon, which)
    unix_socket(path)
    give(path)
    daemon.start()
    assert daemon.relayctl("status").returncode == 0
    assert daemon.sendmail("-bv", "root").returncode == 0


@SOCKETS
def test_E22_a_socket_in_use_is_left_alone(make_daemon, which):
    daemon = make_daemon()
    path = place_of(daemon, which)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        path.chmod(0o666)
        other.listen()
        said = refusal(daemon, 75)
        assert f"{path}: " in said and "already running" in said
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
