"""Section H of the catalogue of bad input: what may lie in the spool when
relayd starts, and what may happen to the spool while it runs.  Of G, what
concerns the process.  Octet by octet and bit by bit: tests/test_queue.c."""

import base64
import contextlib
import json
import os
import pathlib
import pwd
import re
import shutil
import socket
import stat
import subprocess
import tempfile

import pytest

import spool_file
from harness import (BIN, DAEMON_USER, PASSWORD, PEERS, ROOT, SANITIZED,
                     TIMEOUT, USER, Daemon, peak)
from relayhost import Relayhost
from spool_file import ENVELOPE_AT

TEXT = b"Subject: x\n\nbody\n"
FAKETIME = PEERS / "root/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
UNTRACED = {"trace": False}


class Template:
    """A message as relayd has stored it, to be had under any id.  Ids in
    order of their last octet; that in the content stays."""

    def __init__(self, directory, host):
        daemon = Daemon(directory, host, trace=False)
        dialogue = (b"EHLO c\r\nMAIL FROM:<app@example.net>\r\nRCPT TO:<root>"
                    b"\r\nDATA\r\nSubject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n")
        subprocess.run([BIN / "relayd", "-f", daemon.file, "--stdio"],
                       input=dialogue, check=True, timeout=TIMEOUT,
                       stdout=subprocess.DEVNULL)
        self.id, = daemon.queued("new")
        self.data = (daemon.spool / "new" / self.id).read_bytes()

    def name(self, number):
        return f"{self.id[:-2]}{number:02d}"

    def as_(self, name):
        return spool_file.under(self.data, name)


@pytest.fixture(scope="module")
def template(authority):
    directory = pathlib.Path(tempfile.mkdtemp(prefix="relayd-test-"))
    directory.chmod(0o755)
    with Relayhost(authority) as host:
        yield Template(directory, host)
    shutil.rmtree(directory)


def own(path):
    """Make it the daemon's."""
    if ROOT:
        shutil.chown(path, DAEMON_USER)
    return path


def put(path, data, mode=0o600):
    path.write_bytes(data)
    path.chmod(mode)
    return own(path)


@pytest.fixture
def daemon(make_daemon):
    """One with a spool, not started."""
    one = make_daemon(**UNTRACED)
    for place in ("", "tmp", "new", "cur", "hold", "failed"):
        (one.spool / place).mkdir(mode=0o700)
        own(one.spool / place)
    return one


# Planted files.  Each takes the path and what would be a good message there.

def changed(change):
    return lambda path, good: put(path, change(good))


def flipped(at):
    def flip(good):
        where = at(good)
        return good[:where] + bytes([good[where] ^ 4]) + good[where + 1:]
    return changed(flip)


def head(old, new):
    """Replaces in the first line; length stays."""
    def change(good):
        line, rest = good[:72], good[72:]
        assert re.search(old, line)
        return (re.sub(old, new, line, count=1) + rest)
    return changed(change)


def envelope(change, crc=True):
    return changed(lambda good: spool_file.with_envelope(good, change, crc))


def line(pattern, *instead):
    """Other octets in place of the line of the envelope."""
    def change(lines):
        found, = re.findall(rb"(?m)^%s.*\n" % pattern, lines)
        return lines.replace(found, b"".join(instead or (found, found)))
    return envelope(change)


def recipient(address):
    return line(b"rcpt", b"rcpt\t-\t%s\troot\t\n" % address)


MILLION = envelope(lambda lines: lines + 10**6 * b"rcpt\t-\ta@b\ta@b\t\n",
                   crc=False)


def linked(path, good):
    os.link(put(path.parent.parent / f"other-{path.parent.name}", good), path)


def bound(path, _):
    with socket.socket(socket.AF_UNIX) as sock:
        # The path may be too long for an address.
        place = os.open(path.parent, os.O_DIRECTORY)
        sock.bind(f"/proc/self/fd/{place}/{path.name}")
        os.close(place)
    own(path)


def device(kind, major, minor):
    def make(path, _):
        os.mknod(path, kind | 0o600, os.makedev(major, minor))
        own(path)
    return make


def directory_of(user):
    def make(path, _):
        path.mkdir(0o700)
        shutil.chown(path, user)
    return make


def foreign(path, good):
    shutil.chown(put(path, good), "games")


def sparse(path, good):
    os.truncate(put(path, good), 10 << 30)


ODD = "it is no regular file"
SHORT = "it is not complete"
HEAD = "its first line is damaged"
NONE = "it is no message of relayd's"
LINES = "its envelope is damaged"
PLANTED = {
    "H1-empty": (changed(lambda good: b""), SHORT),
    "H2-head": (changed(lambda good: good[:71]), SHORT),
    "H2-state": (changed(lambda good: good[:ENVELOPE_AT - 1]), SHORT),
    "H2-envelope": (changed(lambda good: good[:ENVELOPE_AT + 9]), SHORT),
    "H2-body": (changed(lambda good: good[:-40]), SHORT),
    "H2-end": (changed(lambda good: good[:-1]), SHORT),
    "H3-octet": (changed(lambda good: good + b"\n"),
                 "something follows its end mark"),
    "H3-twice": (changed(lambda good: good + good),
                 "something follows its end mark"),
    "H4": (changed(lambda good: bytes(len(good))), NONE),
    "H5-envelope": (flipped(lambda good: good.index(b"you@")),
                    "its envelope does not match its checksum"),
    "H5-body": (flipped(lambda good: good.rindex(b"body")),
                "its content does not match its checksum"),
    "H5-end": (flipped(lambda good: len(good) - 5),
               "its end mark is missing"),
    "H6": (head(rb"^relayd 1", b"relayd 2"),
           "it was written by a newer relayd"),
    **{f"H7-envelope-{length}": (head(rb" \d{10} ", b" %010d " % length),
                                 words)
       for length, words in ((2**31, HEAD), (2**32, HEAD), (2**27, SHORT))},
    **{f"H7-content-{length}": (head(rb" \d{16} ", b" %016d " % length), words)
       for length, words in ((2**31, SHORT), (2**32, SHORT),
                             (10**16 - 1, SHORT))},
    "H7-content-2^63": (head(rb" 000(\d{7}) \d{16} ",
                             rb" \1 9223372036854775808 "), HEAD),
    "H7-content-2^64": (head(rb" 0000(\d{6}) \d{16} ",
                             rb" \1 18446744073709551615 "), HEAD),
    "H7-envelope-2^63": (head(rb" \d{10} \d{16} ",
                              b" 9223372036854775808 0000000 "), HEAD),
    "H7-negative": (head(rb" 0(\d{9}) ", rb" -\1 "), HEAD),
    "H7-negative-content": (head(rb" 0(\d{15}) ", rb" -\1 "), HEAD),
    "H7-two-senders": (line(b"sender"), LINES),
    "H7-no-sender": (line(b"sender", b""), "its envelope is incomplete"),
    "H7-no-recipient": (line(b"rcpt", b""), "its envelope is incomplete"),
    **{f"H7-recipient-{name}": (recipient(address), LINES)
       for name, address in {
           "CR-LF": b"a@b.example\r\nDATA", "CR": b"a@b.example\rDATA",
           "NUL": b"a@b.example\0", "empty": b""}.items()},
    "H7-10^6-recipients": (MILLION, "its envelope has too many recipients"),
    "H8": (lambda path, _: path.symlink_to("/etc/shadow"),
           "it is a symbolic link"),
    "H9": (linked, r"it has another name somewhere \(a hard link\)"),
    "H10": (lambda path, _: (os.mkfifo(path, 0o600), own(path)), ODD),
    "H11-socket": (bound, ODD),
    "H11-character": (device(stat.S_IFCHR, 1, 5), ODD),
    "H11-block": (device(stat.S_IFBLK, 7, 250), ODD),
    "H12": (directory_of(DAEMON_USER), ODD),
    "H12-roots": (directory_of("root"), ODD),
    "H13": (foreign, "it belongs to another user"),
    "H14-000": (lambda path, good: put(path, good, 0),
                "its owner may not read and write it"),
    "H14-0666": (lambda path, good: put(path, good, 0o666),
                 "others may read or write it"),
    "H15": (sparse, "too much follows its end mark"),
}


def state_of(path):
    one = path.lstat()
    return one.st_ino, one.st_mode, one.st_uid, one.st_size


@pytest.mark.root
@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_file(daemon, host, template, kind):
    """In every place at once, a good message beside each; H23: what lies in
    hold/ and failed/ stays there."""
    make, words = PLANTED[kind]
    paths = {}
    for number, place in enumerate(("new", "cur", "hold", "failed", "tmp")):
        name = template.name(10 + number)
        paths[place] = daemon.spool / place / name
        make(paths[place], template.as_(name))
        name = template.name(20 + number)
        put(daemon.spool / place / name, template.as_(name))
    before = {place: state_of(path) for place, path in paths.items()}
    moved = kind != "H12-roots"     # or else it can't be
    daemon.start()
    host.wait_messages(2)
    daemon.wait_log(r"\w+: removed", 2)
    for place in "new", "cur":
        # Content is looked at when it is sent, which is then put off.
        found = "cur" if kind == "H5-body" else place
        line = daemon.wait_log(
            rf"error: {found}/{paths[place].name} can't be sent: {words}; "
            f"{'moved to failed/' if moved else 'left there: '}")
        assert line.string.isprintable()
        here = daemon.spool / (("failed" if moved else place)) / \
            paths[place].name
        assert state_of(here) == before[place]
    assert state_of(paths["failed"]) == before["failed"]
    # What we had been writing when we ended was promised to nobody.
    if stat.S_ISREG(before["tmp"][1]):
        assert not paths["tmp"].exists()
    else:
        assert state_of(paths["tmp"]) == before["tmp"]
    # What is on hold is looked at when somebody asks for it, but its content
    # only when it is sent.
    shown = kind != "H5-body"
    assert daemon.relayctl("status").stdout.count(
        f"{2 + (2 + shown) * moved} failed") == 1
    if shown:
        daemon.wait_log(
            f"error: hold/{paths['hold'].name} can't be sent: {words}")
    assert state_of(daemon.spool / ("failed" if moved and shown else "hold") /
                    paths["hold"].name) == before["hold"]
    listed = daemon.relayctl("queue", "--failed").stdout
    for place in ("new", "cur", "failed") if moved else ("failed",):
        assert paths[place].name in listed
    # Told once, and nothing else was sent.
    told = [line for line in daemon.log if "can't be sent" in line]
    assert len(told) == 2 + shown or not moved, told
    assert daemon.stop() == 0
    assert len(host.messages) == 2


def test_H7_a_million_recipients_cost_no_memory(daemon, template):
    """Nothing is made of more of them than a message may have."""
    MILLION(daemon.spool / "new" / template.id, template.data)
    daemon.start()
    daemon.wait_log("has too many recipients; moved to failed/")
    file = daemon.spool / "failed" / template.id
    if not SANITIZED:
        assert peak(daemon) < file.stat().st_size / (1 << 20) + 60


@pytest.mark.parametrize("place", ["hold", "failed"])
def test_H23_what_is_released_goes_out_once(daemon, host, template, place):
    put(daemon.spool / place / template.id, template.data)
    daemon.start()
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    host.wait_messages(1)
    assert daemon.queued(place) == [template.id]
    for status in 0, 1:
        assert daemon.relayctl("release", template.id).returncode == status
        host.wait_messages(2)
        daemon.wait_log(f"{template.id}: removed")
    assert daemon.stop() == 0
    assert len(host.messages) == 2 and daemon.queued() == []


NAMES = ["..x", "x" * 255, "a\nb", "\x1b[2J", "\u00e4", "core", "lock",
         "0123456789a.tmp~", "0123456789AB", "0123456789il", "\x1b" * 12,
         "0123456789ab.bak"]


def test_H16_names_that_are_no_ids_are_left_alone(daemon, host, template):
    for place in "new", "cur", "hold", "failed", "tmp":
        for name in NAMES:
            put(daemon.spool / place / name, template.data)
    put(daemon.spool / "new" / template.id, template.data)
    daemon.start()
    host.wait_messages(1)
    daemon.wait_log(f"{template.id}: removed")
    for place in "new", "cur":
        daemon.wait_log(f"warning: {place}/.* is no message; left alone",
                        len(NAMES) - 1)     # of hidden ones nothing is said
    assert all(line.isprintable() for line in daemon.log)
    assert daemon.stop() == 0
    for place in "new", "cur", "hold", "failed", "tmp":
        assert sorted(os.listdir(daemon.spool / place)) == sorted(NAMES)
        for name in NAMES:
            assert (daemon.spool / place / name).read_bytes() == template.data
    assert len(host.messages) == 1


def test_H16_of_one_id_in_two_places_one_goes_out(daemon, host, template):
    for place in "new", "cur":
        put(daemon.spool / place / template.id, template.data)
    daemon.start()
    host.wait_messages(1)
    daemon.wait_log(f"{template.id}: removed")
    daemon.wait_log(f"error: new/{template.id} can't be sent: cur/ has one of "
                    "that name; moved to failed/")
    assert daemon.stop() == 0
    assert len(host.messages) == 1
    assert daemon.queued() == daemon.queued("failed") == [template.id]


# While it runs.

def test_H19_after_kill_nine_the_lock_is_free(make_daemon, host):
    daemon = make_daemon(**UNTRACED).start()
    daemon.kill()
    assert (daemon.spool / "lock").exists()
    daemon.start()
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    host.wait_messages(1)


def test_H20_a_file_removed_by_hand(make_daemon, host):
    """While it is sent, and while it waits."""
    daemon = make_daemon(relay={"connections": 1, "pipeline": 1},
                         **UNTRACED).start()
    slow = host.fault("END", slow=0.05, times=1)
    for _ in range(2):
        assert daemon.sendmail("root", data=TEXT).returncode == 0
    host.wait_hits(slow)
    for place in "new", "cur":
        for file in (daemon.spool / place).iterdir():
            file.unlink()
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    host.wait_messages(2)
    daemon.wait_log("removed")
    assert not any("can't be read" in line for line in daemon.log)
    assert daemon.stop() == 0
    assert len(host.messages) == 2 and daemon.queued() == []


@pytest.fixture
def read_only():
    """with read_only(daemon): what changes a file system fails, as on one that
    the kernel has remounted; by hand that is not possible while it is used."""
    @contextlib.contextmanager
    def remount(daemon):
        calls = "renameat2,linkat,unlinkat,mkdirat,pwrite64,fdatasync"
        with subprocess.Popen(
                ["strace", "-p", str(daemon.process.pid), "-o", "/dev/null",
                 "-e", f"trace=openat,{calls}", "-e",
                 f"inject=openat,{calls}:error=EROFS"],
                stderr=subprocess.PIPE, text=True) as strace:
            assert "attached" in strace.stderr.readline()
            try:
                yield
            finally:
                strace.terminate()
    return remount


@pytest.mark.root
def test_H20_a_spool_remounted_read_only(make_daemon, host, read_only):
    """Clients are told to come again, what is due meanwhile waits, and nothing
    spins; then all goes on."""
    host.fault("RCPT", "450 4.2.1 later", times=1)
    daemon = make_daemon(top={"retry": ["1s"]}, **UNTRACED).start()
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    daemon.wait_log("status=deferred")
    with read_only(daemon):
        before = len(daemon.log)
        daemon.wait_log("the spool can't be read: Read-only file system")
        for _ in range(2):
            done = daemon.sendmail("root", data=TEXT)
            assert done.returncode == 75 and b"451 4.3" in done.stderr, done
        assert len(daemon.log) - before < 20
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    assert daemon.relayctl("flush").returncode == 0
    host.wait_messages(2)
    daemon.wait_log("removed", 2)
    assert daemon.stop() == 0
    assert len(host.messages) == 2 and daemon.queued() == []


@pytest.mark.parametrize("place", ["tmp", "new", "cur", "failed"])
def test_H20_a_directory_removed(make_daemon, host, place):
    """One client at most is told to come again."""
    daemon = make_daemon(**UNTRACED).start()
    (daemon.spool / place).rmdir()
    if place == "cur":      # where a message is once it was deferred
        host.fault("RCPT", "450 4.2.1 mailbox busy", times=1)
    done = daemon.sendmail("root", data=TEXT)
    if place in ("tmp", "new"):
        assert done.returncode == 75 and b"451 4.3" in done.stderr, done
        done = daemon.sendmail("root", data=TEXT)
    assert done.returncode == 0, done
    if place == "cur":
        daemon.wait_log("status=deferred")
        daemon.relayctl("flush")
    host.wait_messages(1)
    daemon.wait_log("removed$")
    if place != "failed":
        daemon.wait_log(f"error: {place}/ in the spool was removed; it is "
                        "made again")
        assert stat.S_IMODE((daemon.spool / place).stat().st_mode) == 0o700
    else:
        (daemon.spool / place).mkdir(mode=0o700)
    assert daemon.stop() == 0
    assert len(host.messages) == 1 and daemon.queued() == []


@pytest.mark.peers("faketime")
@pytest.mark.parametrize("first, then", [
    ("@1970-01-02 00:00:00", "+0"), ("+0", "@1970-01-02 00:00:00"),
    ("+0", "@2040-01-01 00:00:00"), ("@2040-01-01 00:00:00", "+0"),
    ("+0", "+1d"), ("+1d", "+0"), ("-1d", "+0")])
def test_H21_the_clock_is_set(make_daemon, host, first, then):
    """In clear, for certificates have their time too.  It waits at one time
    and goes out at the other, the relay being at fault at first; nothing
    expires, and no wait is longer than the longest."""
    host.tls, host.auth_in_clear = "none", True
    daemon = make_daemon(relay={"tls": "none", "tls_ca_file": None},
                         top={"retry": ["1s"]}, **UNTRACED)

    def start(clock):
        daemon.wrapper = ("env", f"LD_PRELOAD={FAKETIME}",
                          f"FAKETIME={clock}", "FAKETIME_DONT_FAKE_MONOTONIC=1",
                          "ASAN_OPTIONS=verify_asan_link_order=0")
        daemon.start()

    fault = host.fault("RCPT", "450 4.2.1 later")
    start(first)
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    host.wait_hits(fault)
    daemon.wait_log("status=deferred")
    assert daemon.stop() == 0
    name, = daemon.queued("cur")
    os.utime(daemon.spool / "cur" / name, (2**33, 2**33))
    host.mend()
    down = host.fault("GREETING", "421 4.3.2 not now")
    start(then)
    daemon.wait_log(f"{name}: .*status=deferred .*421 4.3.2")
    listing = json.loads(daemon.relayctl("queue", "--json").stdout)
    assert [one["id"] for one in listing] == [name]
    host.mend(down)
    host.wait_messages(1)
    daemon.wait_log(f"{name}: removed")
    assert daemon.stop() == 0
    assert len(host.messages) == 1 and daemon.queued() == []


@pytest.mark.peers("faketime")
def test_H21_the_clock_is_set_while_it_runs(make_daemon, host):
    """As at boot: the message is dated 1970, and its second refusal comes
    after the clock was set.  It waits on."""
    host.tls, host.auth_in_clear = "none", True
    fault = host.fault("RCPT", "450 4.2.1 later")
    daemon = make_daemon(relay={"tls": "none", "tls_ca_file": None},
                         **UNTRACED)
    clock = daemon.directory / "clock"  # where the daemon may read
    clock.write_text("@1970-01-02 00:00:00\n")
    daemon.wrapper = (
        "env", f"LD_PRELOAD={FAKETIME}", "FAKETIME_NO_CACHE=1",
        f"FAKETIME_TIMESTAMP_FILE={clock}", "FAKETIME_DONT_FAKE_MONOTONIC=1",
        "ASAN_OPTIONS=verify_asan_link_order=0")
    daemon.start()
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    daemon.wait_log("status=deferred")
    clock.write_text("+0\n")
    for tries in (2, 3):
        assert daemon.relayctl("flush").returncode == 0
        daemon.wait_log("status=deferred", tries)
    assert not any("queue_lifetime" in line for line in daemon.log)
    listed, = json.loads(daemon.relayctl("queue", "--json").stdout)
    assert listed["arrived"].startswith("1970") and listed["attempts"] == 3
    host.mend(fault)
    assert daemon.relayctl("flush").returncode == 0
    host.wait_messages(1)


# Section G: the process and its secrets.

HOSTILE = """
import os, sys
os.umask(0)
for fd in range(50, 60):
    os.dup2(os.open("/etc/passwd", os.O_RDONLY), fd)
for fd in map(int, sys.argv[1].split(",")):
    os.close(fd)
os.execv("/usr/bin/env", ["env", *sys.argv[2:]])
"""


@pytest.mark.parametrize("closed", ["0", "1", "0,1", "3"])
def test_G8_a_hostile_start(make_daemon, host, closed):
    daemon = make_daemon(wrapper=(
        "env", "TMPDIR=/nonexistent", "LD_LIBRARY_PATH=/nonexistent",
        "/usr/bin/python3", "-c", HOSTILE, closed), **UNTRACED).start()
    process = pathlib.Path(f"/proc/{daemon.process.pid}")
    assert "Umask:\t0077\n" in (process / "status").read_text()
    targets = {int(fd.name): os.readlink(fd)
               for fd in (process / "fd").iterdir()}
    assert {0, 1, 2} <= targets.keys()
    assert "/etc/passwd" not in targets.values()
    for fd in map(int, closed.split(",")):
        if fd < 3:
            assert targets[fd] == "/dev/null"
    stall = host.fault("END", then="stall", times=1)
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    host.wait_hits(stall)
    name, = daemon.queued()
    file = next(daemon.spool.glob(f"*/{name}"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for place in daemon.spool, *daemon.spool.glob("*/"):
        if place.is_dir():
            assert stat.S_IMODE(place.stat().st_mode) == 0o700
    host.disconnect()


def spoil_mode(path):
    path.chmod(0o644)
    return "chmod 6"


def spoil_group(path):
    shutil.chown(path, group="games")
    path.chmod(0o640)
    return "can be read by group"


def spoil_owner(path):
    shutil.chown(path, "games")
    return "belongs to user|Permission denied"


def spoil_owner_of_group(path):
    """The daemon can read it, and somebody else can write it."""
    shutil.chown(path, "games", pwd.getpwnam(DAEMON_USER).pw_gid)
    path.chmod(0o640)
    return "belongs to user"


def spoil_kind(path):
    path.unlink()
    os.mkfifo(path, 0o600)
    own(path)
    return "regular file"


def spoil_place(path):
    path.parent.chmod(0o777)
    return "everybody can write"


def spoil_place_of_link(path):
    """Who can put it there can name another."""
    path.rename(path.parent.parent / "good")
    path.symlink_to("../good")
    return spoil_place(path)


def spoil_place_of_file(path):
    other = path.parent.parent / "open"
    other.mkdir(exist_ok=True)
    path.rename(other / "password")
    path.symlink_to(other / "password")
    return spoil_place(other / "password")


@pytest.mark.root
@pytest.mark.parametrize("spoil", [spoil_mode, spoil_group, spoil_owner,
                                   spoil_owner_of_group, spoil_kind,
                                   spoil_place, spoil_place_of_link,
                                   spoil_place_of_file],
                         ids=["G1-0644", "G1-group", "G1-owner",
                              "G1-owner-0640", "G2-FIFO", "G2-directory",
                              "G2-link-in-an-open-one",
                              "G2-link-into-an-open-one"])
def test_a_password_file_that_is_no_secret(make_daemon, host, spoil):
    """78 at start; while it runs the relay is paused and mail is kept."""
    daemon = make_daemon(**UNTRACED)
    path = daemon.directory / "secrets" / "password"
    path.parent.mkdir()
    daemon.password_file = path
    daemon.set_password(PASSWORD)
    daemon.relay["password_file"] = str(path)
    daemon.write_config()
    daemon.start()
    words = spoil(path)
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    daemon.wait_log(f"relay test.*({words})")
    # Where it listens can't be read from such a configuration.
    status = subprocess.run(
        [BIN / "relayctl", "-f", daemon.file, "status"], text=True,
        stdout=subprocess.PIPE, timeout=TIMEOUT,
        env={**os.environ, "RELAYD_CONTROL": daemon.top["control"]})
    assert status.returncode == 1
    assert re.search(words, " ".join(status.stdout.split()))
    assert len(daemon.queued()) == 1 and host.messages == []
    assert daemon.queued("failed") == []
    path.parent.chmod(0o755)
    path.unlink()
    daemon.set_password(PASSWORD)
    assert daemon.relayctl("flush").returncode == 0
    host.wait_messages(1)
    assert daemon.stop() == 0
    spoil(path)
    done = subprocess.run([BIN / "relayd", "-f", daemon.file],
                          capture_output=True, timeout=TIMEOUT)
    assert done.returncode == 78
    assert re.search(words, done.stderr.decode()), done.stderr


@pytest.mark.parametrize("place", ["file", "configuration", "environment"])
@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
def test_G10_a_secret_shows_nowhere(make_daemon, host, place, right):
    secret = "sEcReT-4711"
    host.users[USER] = secret if right else "another"
    keys = {"password_file": None, "password": secret}
    daemon = make_daemon(top={"log_level": "debug"},
                         relay=keys if place != "file" else None, **UNTRACED)
    if place == "file":
        daemon.set_password(secret)
    if place == "environment":
        daemon.file.write_text(daemon.file.read_text().replace(
            f'"{secret}"', '"${RELAYD_TEST_PASSWORD}"'))
        daemon.wrapper = ("env", f"RELAYD_TEST_PASSWORD={secret}")
    if place == "configuration":
        own(daemon.file).chmod(0o600)
    daemon.start()
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    daemon.wait_log("status=sent" if right else "535 5.7.8")
    if right:
        host.fault("RCPT", "550 5.1.1 no", match="bad")
        assert daemon.sendmail("bad@example.net", data=TEXT).returncode == 0
        host.wait_messages(2)   # the report, which has all that can be had
    environment = {"RELAYD_TEST_PASSWORD": secret}
    shown = "\n".join(subprocess.run(
        [BIN / "relayctl", "-f", daemon.file, *verb.split()], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT,
        env={**os.environ, **environment}).stdout for verb in (
            "check", "check --online", "status", "status --json", "queue",
            "queue --json", "log", "explain root", "reload", "config",
            "metrics"))
    process = pathlib.Path(f"/proc/{daemon.process.pid}")
    shown += (process / "cmdline").read_text()
    if place != "environment":
        shown += (process / "environ").read_text()
    for task in (process / "task").iterdir():   # it has no children
        assert (task / "children").read_text() == ""
    if ROOT:    # its memory and environment are root's alone
        for name in "mem", "environ", "maps":
            assert (process / name).stat().st_uid == 0
    assert re.search(r"Max core file size +0 +0 ",
                     (process / "limits").read_text())
    assert daemon.stop() == 0
    shown += "\n".join(daemon.log)
    shown += "".join(message.data.decode() for message in host.messages)
    for form in (secret, base64.b64encode(secret.encode()).decode(),
                 base64.b64encode(f"\0{USER}\0{secret}".encode()).decode()):
        assert form not in shown
    for file in daemon.spool.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes()
