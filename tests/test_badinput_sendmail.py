"""Section C of the catalogue of bad input: the sendmail command line.  A
test's id, or its name, begins with the number of its case.

What is about the command line alone is looked at where it arrives, at the
relayhost; what the daemon would never do is done by a scripted one."""

import dataclasses
import os
import pty
import re
import resource
import shutil
import signal
import socket
import subprocess
import threading

import pytest

from badinput import ROOT_MAIL, TEXT, Arrival, by_id, serve
from fake_daemon import (CONFIG, DATAERR, EHLO, IOERR, LOGIN, NOINPUT, NOPERM,
                         NOUSER, OK, OSERR, SENDMAIL, TEMPFAIL, UNAVAILABLE,
                         USAGE, HangUp, as_user, assert_nothing_sent,
                         run_with_passwd)
from harness import (BIN, PEERS, PRELOADABLE, SANITIZED, TIMEOUT, assert_valid,
                     private)

FROM = b"From: a@b.example\n"
FAKETIME = PEERS / "root/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


@pytest.fixture(scope="module")
def station(authority):
    with serve(authority) as one:
        yield one


@pytest.fixture
def run(station, tmp_path):
    """Call sendmail; returns what became of it."""
    def runner(*arguments, data=TEXT, program=SENDMAIL, env=(), **more):
        if "stdin" not in more:
            more["input"] = data
        return subprocess.run(
            [program, *arguments], capture_output=True, timeout=TIMEOUT,
            check=False, cwd=tmp_path, env={
                "PATH": os.environ["PATH"], "TMPDIR": str(tmp_path),
                "RELAYD_SOCKET": str(station.daemon.socket),
                "RELAYD_CONTROL": str(station.daemon.run / "control.sock"),
                **dict(env)}, **more)

    return runner


# ---- what becomes of arguments and text ----

@dataclasses.dataclass
class Case:
    """One command line.

    stderr   all that is said, or with "..." at its end how it begins
    to       whom it arrives at; none: nobody, and nothing is left in the spool
    """

    id: str
    arguments: tuple
    status: int = OK
    stderr: str = ""
    to: tuple = (ROOT_MAIL,)
    sender: str = None
    data: bytes = TEXT
    has: tuple = ()
    lacks: tuple = ()
    body: bytes = b"body\r\n"


def refused(number, *arguments, status=DATAERR, stderr="", **more):
    return Case(number, arguments, status, f"sendmail: {stderr}", (), **more)


def mode(number, *arguments):
    return refused(number, *arguments, status=USAGE,
                   stderr=f"there is no mode -b{arguments[0][2:]}\n")


CASES = [
    refused("C1-no-recipient", status=USAGE, data=b"",
            stderr="usage: no recipients\n"),
    refused("C2-empty", "-t", data=b"", stderr="no recipients in header\n"),
    refused("C2-empty-To", "-t", data=b"To:\n\nTo: a@b.example\n",
            stderr="no recipients in header\n"),
    Case("C4-options-of-an-attacker",
         ("-t", "-i", "-OQueueDirectory=/tmp", "-X/var/www/html/x.php"),
         to=("c@d.example",)),
    refused("C5-options-in-the-sender", "-t", "-i",
            "-fa@b.example -OQueueDirectory=/tmp -X/tmp/x",
            stderr="bad sender: "
            "a@b.example -OQueueDirectory=/tmp -X/tmp/x\n"),
    Case("C6-attached", ("-C/etc/shadow", "root")),
    Case("C6-separate", ("-C", "/tmp/evil.cf", "root")),
    mode("C7-be", "-be", "${run{/usr/bin/id}}"), mode("C7-bt", "-bt"),
    mode("C7-bh", "-bh"), mode("C7-bH", "-bH"), mode("C7-bxyz", "-bxyz"),
    refused("C7-b", "-b", status=USAGE,
            stderr="a value is missing behind b\n"),
    Case("C8-debug", ("-D/tmp/log", "-d99.9", "root")),
    Case("C8-debug-separate", ("-D", "/tmp/log", "-d", "root")),
    Case("C8-log-level", ("-oL9", "root")),
    Case("C8-aliases", ("-oA/tmp/aliases", "root")),
    Case("C8-newaliases", ("-bi", "-oA/tmp/x"), to=()),
    refused("C9-behind-dashes", "--", "-bp", stderr="bad recipient: -bp\n"),
    refused("C9-no-permutation", "root", "-bp",
            stderr="bad recipient: -bp\n"),
    Case("C10-empty", ("-f", "", "root"), sender=""),
    Case("C10-angles", ("-f", "<>", "root"), sender=""),
    Case("C10-attached", ("-f<>", "root"), sender=""),
    refused("C10-no-value", "-f", status=USAGE,
            stderr="a value is missing behind f\n"),
    *(refused(f"C11-{name}", "-f", sender, "root",
              stderr=f"bad sender: {shown}\n") for name, sender, shown in (
        ("lf", "a@b.example\nRCPT TO:<c@d>", r"a@b.example\x0aRCPT TO:<c@d>"),
        ("cr", "a@b.example\rx", r"a@b.example\x0dx"),
        ("del", "a\x7f@b.example", r"a\x7f@b.example"),
        ("esc", "a\x1b@b.example", r"a\x1b@b.example"))),
    *(Case(f"C12-{name}", ("-f", sender, "root"), sender="root@example.com")
      for name, sender in (("comment", "root (Cron Daemon)"),
                           ("name", "Root <root>"), ("bare", "root"),
                           ("angles", "<root>"))),
    *(Case(f"C13-{name}", ("-F", text, "root"), data=b"\nbody\n",
           has=(b"\r\nFrom: %s <%s@example.com>\r\n" % (shown,
                                                        LOGIN.encode()),),
           lacks=(b"\r\nbcc",))
      for name, text, shown in (
          ("lf", "x\nBcc: e@x.example", b'"x Bcc: e@x.example"'),
          ("crlf", "x\r\nBcc: e@x.example", b'"x  Bcc: e@x.example"'),
          ("quotes", 'a "b" \\c', b'"a \\"b\\" \\\\c"'),
          ("utf-8", "J\u00fcrgen", b"=?utf-8?q?J=C3=BCrgen?="),
          ("8-bit", b"J\xfcrgen", b"=?unknown-8bit?q?J=FCrgen?="),
          ("encoded", "=?utf-8?q?J=C3=BCrgen?=",
           b"=?utf-8?q?J=C3=BCrgen?="),
          ("encoded-line", "=?utf-8?q?x?=\nx", b'"=?utf-8?q?x?= x"'),
          ("encoded-lf", "=?utf-8?q?x?=\nBcc: e@x.example",
           b'"=?utf-8?q?x?= Bcc: e@x.example"'))),
    refused("C15-empty", "", stderr="bad recipient: \n"),
    refused("C15-blank", " ", stderr="bad recipient:  \n"),
    Case("C15-list", ("a@b.example,c@d.example",),
         to=("a@b.example", "c@d.example")),
    *(Case(f"C15-{name}", (text,), to=("a@b.example",)) for name, text in (
        ("angles", "<a@b.example>"), ("name", "A <a@b.example>"),
        ("comment", "a@b.example (x)"))),
    Case("C16-pipe", ("|id",), to=("|id@example.com",)),
    Case("C16-file", ("/tmp/x",), to=("/tmp/x@example.com",)),
    refused("C16-include", ":include:/etc/passwd",
            stderr="bad recipient: :include:/etc/passwd\n"),
    Case("C16-quoted-pipe", ('"|id"@x.example',), to=('"|id"@x.example',)),
    refused("C17-100-KiB", "x" * 100000,
            stderr=f"bad recipient: {'x' * 200}\n"),
    *(Case(f"C18-pipe{option}", (*filter(None, [option]), "root"),
           data=FROM + b"\na\n.\nb\n", body=b"a\r\n.\r\nb\r\n")
      for option in ("", "-i", "-oi")),
    Case("C19-dsn", ("-N", "never", "-R", "hdrs", "-V", "id", "root")),
    *(refused(f"C19{option}", option, value, "root", status=USAGE,
              stderr="bad value of -N, -R or -V: ...")
      for option, value in (("-N", "x"), ("-R", "x"), ("-V", "a\nb"))),
    *(refused(f"C22{option}", option, status=USAGE, stderr="the daemon is "
              f"relayd, not {option}\n") for option in ("-bd", "-bD")),
]


# Of C13: 8-bit of no known charset, quotes that disarm an encoded word.
@pytest.mark.defective_input("from: UndecodableBytesDefect",
                             "from: InvalidHeaderDefect")
@pytest.mark.parametrize("case", by_id(CASES))
def test_command_line(station, run, case):
    done = run(*case.arguments, data=case.data)
    assert done.returncode == case.status, done.stderr
    stderr = done.stderr.decode()
    if case.stderr.endswith("..."):
        assert stderr.startswith(case.stderr[:-3])
        assert stderr.count("\n") == 1
    else:
        assert stderr == case.stderr
    assert done.stdout == b""
    if case.to:
        station.assert_arrives(Arrival(case.to, case.sender, case.has,
                                       case.lacks, case.body))
    else:
        station.assert_nothing()


def test_c1_nothing_is_read(run):
    ours, theirs = os.pipe()
    os.write(theirs, b"unread")
    os.close(theirs)
    with open(ours, "rb") as pipe:
        assert run(stdin=pipe).returncode == USAGE
        assert pipe.read() == b"unread"


@pytest.mark.parametrize("arguments", [
    ("-t", "-i", "-OQueueDirectory={0}/q", "-X{0}/x.php"),
    ("-C{0}/shadow", "root"), ("-C", "{0}/evil.cf", "root"),
    ("-D{0}/log", "-d99.9", "-oL9", "-oA{0}/aliases", "root"),
    ("-bi", "-oA{0}/x"),
], ids=["C4", "C6-attached", "C6-separate", "C8", "C8-bi"])
def test_files_that_options_name_are_not_touched(run, station, tmp_path,
                                                 arguments):
    (tmp_path / "named").mkdir()
    done = run(
        "-f", "-qq", "-o", "trace", "-e", "trace=file,creat", SENDMAIL,
        *(one.format(tmp_path / "named") for one in arguments),
        program="strace", env={"ASAN_OPTIONS": "detect_leaks=0"})
    assert (done.returncode, done.stderr) == (OK, b"")
    execve, calls = (tmp_path / "trace").read_text().split("\n", 1)
    assert "execve" in execve and "open" in calls
    assert "/named" not in calls and not os.listdir(tmp_path / "named")
    if arguments[0] != "-bi":
        station.assert_arrives(Arrival(
            ("c@d.example",) if "-t" in arguments else (ROOT_MAIL,)))


def test_c13_a_long_name_keeps_lines_short(station, run):
    for name in "\u20ac" * 5000, "x" * 5000, "x y" * 5000:
        assert run("-F", name, "root", data=b"\n").returncode == OK
        message = station.assert_arrives(Arrival(body=b""))
        assert max(map(len, message.header.split(b"\r\n"))) <= 400
        assert message.header.count(b"\r\nFrom: ") == 1


def test_c17_a_thousand_recipients_and_no_more(station, run):
    """Never the first thousand of many."""
    names = [f"user{n}@example.com" for n in range(1000)]
    for more in (["root"], [f"more{n}@example.com" for n in range(4000)],
                 [f"{n}-{'x' * 50}@example.com" for n in range(20000)]):
        done = run(*names, *more)
        assert done.returncode == DATAERR
        assert b"452 4.5.3 Too many recipients\n" in done.stderr
        station.assert_nothing()
    assert run(*names).returncode == OK
    arrived = []
    while len(arrived) < len(names):
        message = station.host.wait_messages(station.seen + 1)[station.seen]
        station.seen += 1
        arrived += message.recipients
    assert sorted(arrived) == sorted(names)


def test_c17_a_daemon_that_has_had_enough(place):
    """It hangs up on so many: the first refusal decides all the same."""
    replies = iter(["250 2.1.5 ok", "452 4.5.3 too many recipients",
                    "421 4.7.0 too many errors"])
    place.serve(RCPT=lambda _: next(replies, None))
    done = place.run(*(f"user{n}@example.com" for n in range(2000)))
    assert done.returncode == DATAERR
    assert done.stderr == (
        b"sendmail: user1@example.com: 452 4.5.3 too many recipients\n"
        b"sendmail: user2@example.com: 421 4.7.0 too many errors\n"
        b"sendmail: relayd closed the connection\n")
    assert_nothing_sent(place)


@pytest.mark.parametrize("option, body", [
    ((), b"a\r\n"), (("-i",), b"a\r\n.\r\nb\r\n"), (("-oi",),
                                                 b"a\r\n.\r\nb\r\n"),
], ids=["C18-terminal", "C18-terminal-i", "C18-terminal-oi"])
def test_dot_ends_the_message_on_a_terminal(station, run, option, body):
    ours, theirs = pty.openpty()
    os.write(ours, FROM + b"\na\n.\nb\n\x04")
    try:
        assert run(*option, "root", stdin=theirs).returncode == OK
    finally:
        os.close(ours)
        os.close(theirs)
    station.assert_arrives(Arrival(body=body))


def test_c18_a_program_line_by_line(station, run):
    """Each line is read by itself, as from a terminal."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for line in FROM, b"\n", b"a\n", b".\n", b"b\n":
            ours.send(line)
        ours.shutdown(socket.SHUT_WR)
        assert run("root", stdin=theirs).returncode == OK
    station.assert_arrives(Arrival(body=b"a\r\n.\r\nb\r\n"))


def test_c18_a_file(station, run, tmp_path):
    (tmp_path / "text").write_bytes(FROM + b"\na\n.\nb\n")
    with open(tmp_path / "text", "rb") as file:
        assert run("root", stdin=file).returncode == OK
    station.assert_arrives(Arrival(body=b"a\r\n.\r\nb\r\n"))


@pytest.mark.root
def test_c21_the_queue_shows_ones_own_messages(station, run):
    deferred = station.host.fault("RCPT", "450 4.2.1 later")
    for user, name in (0, "of-root"), (12345, "of-user"):
        assert run("-f", f"{name}@b.example", f"{name}@d.example",
                   user=user).returncode == OK
    station.host.wait_hits(deferred, 2)
    for user, sees in (12345, [b"of-user"]), (0, [b"of-root", b"of-user"]):
        for program, arguments in ((SENDMAIL, ("-bp",)),
                                   (str(BIN / "mailq"), ()),
                                   (str(BIN / "mailq"), ("-v",))):
            done = run(*arguments, program=program, user=user)
            assert done.returncode == OK, done
            assert sorted(set(re.findall(rb"of-\w+", done.stdout))) == sees
    station.host.mend(deferred)
    assert run("-q").returncode == OK
    arrived = station.host.wait_messages(station.seen + 2)[station.seen:]
    station.seen += 2
    assert {one.sender for one in arrived} == {"of-root@b.example",
                                               "of-user@b.example"}


DIALOGUES = {
    "A11-no-mail": b"EHLO x\r\nRCPT TO:<c@d.example>\r\nQUIT\r\n",
    "A20-nul": b"EHLO a\0b\r\nQUIT\r\n",
    "A29-brackets": b"EHLO x\r\nMAIL FROM:<a@b.example>>\r\nQUIT\r\n",
    "A49-http": b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
    "A51-errors": b"x\r\n" * 30,
    "B31-bdat": b"EHLO x\r\nBDAT -1\r\nQUIT\r\n",
    "B34-dropped": b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<@>\r\n"
                   b"BDAT 3 LAST\r\nabcQUIT\r\n",
    "end-of-input": b"EHLO x\r\nNOOP\r\n",
}


@pytest.mark.parametrize("options", [("-bs",), ("-bs", "-i"), ("-i", "-bs")],
                         ids=" ".join)
@pytest.mark.parametrize("dialogue", [
    pytest.param(text, id=f"C22-{name}") for name, text in DIALOGUES.items()])
def test_smtp_mode_says_what_the_socket_says(station, run, dialogue, options):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(str(station.daemon.socket))
        sock.sendall(dialogue)
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile("rb") as replies:
            said = replies.read()
    done = run(*options, data=dialogue)
    assert (done.returncode, done.stderr, done.stdout) == (OK, b"", said)
    assert re.fullmatch(rb"(\d\d\d[ -][^\r\n]*\r\n)+", said)
    station.assert_nothing()


def test_c22_smtp_mode_sends(station, run):
    done = run("-bs", data=b"EHLO x\r\nMAIL FROM:<a@b.example>\r\n"
               b"RCPT TO:<c@d.example>\r\nDATA\r\nSubject: x\r\n\r\n..\r\n"
               b".\r\nQUIT\r\n")
    assert (done.returncode, done.stderr) == (OK, b"")
    station.assert_arrives(Arrival(("c@d.example",), "a@b.example",
                                   body=b".\r\n"))


@pytest.mark.parametrize("name, status, stdout", [
    ("mailq", OK, rb"Mail queue is empty\n|"),
    ("-mailq", OK, rb"Mail queue is empty\n|"),
    ("/x/y/mailq", OK, rb"Mail queue is empty\n|"),
    ("newaliases", OK, rb""), ("/x/newaliases", OK, rb""),
    ("/x/y/sendmail", USAGE, rb""), ("-sendmail", USAGE, rb""),
    ("", USAGE, rb""), ("mailqx", USAGE, rb""),
], ids=lambda value: f"C25-{value}" if isinstance(value, str) else "")
def test_the_name_chooses_the_mode(run, name, status, stdout):
    done = run(program=name, executable=SENDMAIL, data=b"")
    assert done.returncode == status, done
    assert re.fullmatch(stdout, done.stdout)
    assert done.stderr == (b"sendmail: usage: no recipients\n"
                           if status == USAGE else b"")


def test_c25_no_arguments_at_all(run):
    done = run("-c", "import ctypes, sys; none = (ctypes.c_char_p * 1)(None);"
               "ctypes.CDLL(None).execve(sys.argv[1].encode(), none, none)",
               SENDMAIL, program="/usr/bin/python3")
    # A kernel since 5.18 makes an empty one of none.
    assert done.returncode == USAGE
    assert re.fullmatch(rb"sendmail: (called without a name|"
                        rb"usage: no recipients)\n", done.stderr)


# ---- C28: what standard input may be ----

def test_c28_a_terminal_is_read(station, run):
    ours, theirs = pty.openpty()
    os.write(ours, FROM + b"\nbody\n\x04")
    try:
        assert run("root", stdin=theirs).returncode == OK
    finally:
        os.close(ours)
        os.close(theirs)
    station.assert_arrives(Arrival(body=b"body\r\n"))


def test_c28_a_directory_is_no_input(station, run, tmp_path):
    directory = os.open(tmp_path, os.O_RDONLY)
    done = run("root", stdin=directory)
    os.close(directory)
    assert (done.returncode, done.stderr) == (
        NOINPUT, b"sendmail: can't read the message: Is a directory\n")
    station.assert_nothing()


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/full"],
                         ids=lambda path: f"C28-{path[5:]}")
def test_endless_input_stops_at_the_limit(place, path):
    limit = 5 << 20
    place.serve(EHLO=f"250-test\r\n250-SIZE {limit}\r\n250 CHUNKING")
    with open(path, "rb") as endless:
        done = place.run(f"--fsize={limit + (64 << 10)}", SENDMAIL, "root",
                         program="prlimit", stdin=endless)
    assert (done.returncode, done.stderr) == (
        UNAVAILABLE, b"sendmail: message too big\n")
    # It was asked once, and told nothing.
    assert place.daemon.lines == ["EHLO localhost", "QUIT"]
    assert [file.name for file in place.path.iterdir()] == ["submit.sock"]


def test_c28_endless_input_and_the_daemon(station, run):
    with open("/dev/zero", "rb") as endless:
        done = run("root", stdin=endless)
    assert (done.returncode, done.stderr) == (
        UNAVAILABLE, b"sendmail: message too big\n")
    station.assert_nothing()


def test_c28_the_limit_is_not_waited_for(place, tmp_path):
    """Without a daemon, or with one that does not answer, the text is read
    all the same; and then there is time to wait."""
    text = FROM + b"\n" + b"x" * (2 << 20)
    daemon = place.serve()
    daemon.replies["EHLO"] = \
        lambda _: b"" if len(daemon.lines) == 1 else EHLO
    assert place.run("root", text=text).returncode == OK
    assert daemon.contents == [text]
    done = place.run(*as_user([SENDMAIL, "root"]), program="unshare",
                     text=text, env={"RELAYD_SOCKET": f"{tmp_path}/none"})
    assert done.returncode == TEMPFAIL
    assert done.stderr.startswith(b"sendmail: relayd is not running: ")


def test_c28_a_fifo_that_nobody_writes(station, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    fifo = os.open(tmp_path / "fifo", os.O_RDWR)
    process = start(station, "root", stdin=fifo)
    assert signalled(process, signal.SIGTERM)
    os.close(fifo)
    station.assert_nothing()


# ---- C29: limits and signals ----

def interruptible():
    """What runs in the background of a shell may have been told to ignore
    this, and we with it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(station, *arguments, stdin=subprocess.PIPE, env=(), **more):
    return subprocess.Popen(
        [SENDMAIL, *arguments], stdin=stdin, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, preexec_fn=interruptible, env={
            "PATH": os.environ["PATH"],
            "RELAYD_SOCKET": str(station.daemon.socket), **dict(env)}, **more)


def signalled(process, number):
    """Did it end by this signal?"""
    process.send_signal(number)
    process.communicate(timeout=TIMEOUT)
    return process.returncode == -number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM],
                         ids=lambda number: f"C29-{number.name}")
def test_signals_in_the_message(station, number):
    process = start(station, "root")
    # More than a pipe holds: it has begun to read.
    process.stdin.write(FROM + b"\n" + b"x" * (2 << 20))
    assert signalled(process, number)
    station.assert_nothing()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM],
                         ids=lambda number: f"C29-{number.name}")
def test_signals_in_the_content(place, number):
    """When a part of it has been handed over."""
    process = None

    def interrupt(_):
        process.send_signal(number)
        process.wait(TIMEOUT)
        raise HangUp

    daemon = place.serve(EARLY=interrupt)
    process = subprocess.Popen(
        [SENDMAIL, "root"], stdin=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=interruptible,
        env={"RELAYD_SOCKET": str(place.path / "submit.sock")})
    process.communicate(FROM + b"\n" + b"x" * (1 << 19), TIMEOUT)
    assert process.returncode == -number
    assert daemon.contents == []


@pytest.mark.parametrize("action", [signal.SIG_IGN, signal.SIG_DFL],
                         ids=["C29-SIGPIPE-ignored", "C29-SIGPIPE"])
def test_a_daemon_that_is_gone(place, action):
    def hang_up(_):
        raise HangUp

    place.serve(EARLY=hang_up)
    done = place.run("root", text=FROM + b"\n" + b"x" * 4000000,
                     preexec_fn=lambda: signal.signal(signal.SIGPIPE, action))
    assert done.returncode == TEMPFAIL
    assert place.daemon.contents == []


LIMITS = [
    ("C29-fsize", "--fsize=0", b"x" * (1 << 20), {IOERR}),
    ("C29-cpu", "--cpu=1", b"x" * (1 << 20), {OK}),
    ("C29-nofile", "--nofile=3", b"", {OSERR, 127}),    # 127: of the loader
    *(() if SANITIZED else
      [("C29-as", f"--as={20000 << 10}", b"x" * (8 << 20), {OK})]),
]


@pytest.mark.parametrize("limit, text, statuses", [
    pytest.param(*row[1:], id=row[0]) for row in LIMITS])
def test_limits(station, run, limit, text, statuses):
    done = run(limit, SENDMAIL, "root", program="prlimit",
               data=FROM + b"\n" + text)
    assert done.returncode in statuses, done
    if done.returncode == OK:
        station.assert_arrives(Arrival())
    else:
        assert done.stderr.count(b"\n") == 1
        station.assert_nothing()


def test_c29_no_descriptor_for_the_socket(station):
    """The limit comes when all that starting takes has been opened."""
    process = start(station, "root", env={"ASAN_OPTIONS": "detect_leaks=0"})
    # More than a pipe holds: it has begun to read.
    process.stdin.write(TEXT + b"x" * 100000)
    process.stdin.flush()
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, 3))
    _, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode == OSERR
    assert stderr.endswith((b": Too many open files\n",
                            b": No file descriptors available\n"))  # musl's
    station.assert_nothing()


def test_c29_no_time_is_no_success(place):
    """A second of CPU is over before endless input is."""
    place.serve(EHLO="250-test\r\n250 CHUNKING")
    with open("/dev/zero", "rb") as endless:
        done = place.run("--cpu=1", "--fsize=2147483648", SENDMAIL, "root",
                         program="prlimit", stdin=endless)
    assert done.returncode in (UNAVAILABLE, -signal.SIGXCPU, -signal.SIGKILL)
    assert_nothing_sent(place)


# ---- C30, C31, C32, C33: what the daemon says ----

def test_c30_a_lost_reply_is_no_success(place):
    place.serve(BDAT=None)
    assert place.run("root").returncode == TEMPFAIL
    assert len(place.daemon.contents) == 1


def test_c31_a_good_reply_before_the_end_is_no_success(place):
    """The daemon hangs up having seen a part of the message only."""
    def hasty(_):
        yield b"250 2.0.0 ok\r\n"
        raise HangUp

    place.serve(EARLY=hasty)
    done = place.run("root", text=FROM + b"\n" + b"x" * 4000000)
    assert (done.returncode, done.stderr) == (
        TEMPFAIL, b"sendmail: relayd did not wait for the message\n")
    assert place.daemon.contents == []


ODD = {
    "354": "354 go on", "words": "blah", "closes": None, "empty": b"\r\n",
    "codes-differ": "250-x\r\n550 y", "http": "HTTP/1.1 200 OK",
    "nul": b"\0" * 100 + b"\r\n", "lines": b"250-x\r\n" * 100000,
    "line": b"2" * (1 << 22),
}


@pytest.mark.parametrize("verb", ["GREETING", "EHLO", "MAIL", "RCPT", "BDAT"])
@pytest.mark.parametrize("reply", [
    pytest.param(text, id=f"C31-{name}") for name, text in ODD.items()])
def test_what_is_no_relayd_gets_nothing(place, verb, reply):
    place.serve(**{verb: reply})
    done = place.run("root")
    assert done.returncode == TEMPFAIL
    assert done.stderr.startswith(b"sendmail: ")
    assert done.stderr.count(b"\n") == 1
    if verb != "BDAT":
        assert_nothing_sent(place)


@pytest.mark.parametrize("verb", ["GREETING", "MAIL", "BDAT"])
def test_c31_a_reply_without_end_is_not_kept(place, verb):
    """Nor read: a gibibyte of it."""
    sent = []

    def endless(_):
        piece = b"250-" + b"x" * 60 + b"\r\n"
        for _ in range((1 << 30) // len(piece)):
            yield piece
            sent.append(len(piece))

    place.serve(**{verb: endless})
    done = place.run(*([] if SANITIZED else [f"--as={20000 << 10}"]),
                     "--core=0", SENDMAIL, "root", program="prlimit")
    assert done.returncode == TEMPFAIL
    assert done.stderr.count(b"\n") == 1
    assert sum(sent) < 1 << 20


def hurried(speed):
    """Environment in which time goes by so many times as fast."""
    return {"LD_PRELOAD": str(FAKETIME), "FAKETIME": f"+0 x{speed}",
            "ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=0"}


@pytest.mark.peers("faketime")
@pytest.mark.parametrize("pace", [0.02, TIMEOUT],
                         ids=["C31-slow", "C31-silent"])
@pytest.mark.parametrize("verb", ["GREETING", "RCPT", "BDAT"])
def test_a_slow_reply_is_given_up(place, verb, pace):
    """An octet now and then does not prolong the five minutes."""
    over = threading.Event()

    def drip(_):
        while not over.wait(pace):
            yield b"2"

    place.serve(**{verb: drip})
    try:
        done = place.run("root", program=PRELOADABLE, env=hurried(300))
    finally:
        over.set()
    assert (done.returncode, done.stderr) == (
        TEMPFAIL, b"sendmail: relayd does not answer\n")


def test_c31_reply_text_is_escaped(place):
    place.serve(RCPT=b"550 5.1.1 \x1b[31m\xff\r\n")
    done = place.run("root")
    assert done.returncode == NOUSER
    assert done.stderr == b"sendmail: root: 550 5.1.1 \\x1b[31m\\xff\n"


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "BDAT"])
@pytest.mark.parametrize("reply, status", [
    pytest.param(*row, id=f"C32-{row[0].replace(' ', '-')}") for row in (
        ("452 4.3.1 full", TEMPFAIL), ("451 4.3.0 x", TEMPFAIL),
        ("421 4.3.2 x", TEMPFAIL), ("450 x", TEMPFAIL),
        ("451 5.7.1 x", TEMPFAIL), ("452 4.5.3 x", DATAERR),
        ("550 x", UNAVAILABLE), ("554 5.0.0 x", UNAVAILABLE),
        ("552 5.3.4 big", UNAVAILABLE), ("554 5.5.1 x", UNAVAILABLE),
        ("550 5.6.0 x", DATAERR), ("553 5.6.7 x", DATAERR),
        ("501 5.1.3 x", DATAERR), ("501 5.1.7 x", DATAERR),
        ("554 5.4.6 loop", DATAERR), ("550 5.1.1 x", NOUSER),
        ("550 5.1.10 x", NOUSER), ("550 5.7.1 x", NOPERM),
        ("554 5.7.0 x", NOPERM))])
def test_refusal_is_the_exit_status(place, verb, reply, status):
    place.serve(**{verb: reply})
    done = place.run("root")
    assert done.returncode == status
    subject = {"MAIL": LOGIN, "RCPT": "root", "BDAT": "relayd"}[verb]
    assert done.stderr.decode() == f"sendmail: {subject}: {reply}\n"
    if verb != "BDAT":
        assert_nothing_sent(place)


def test_c32_one_refused_recipient_stops_all(place):
    replies = {"a": "250 2.1.5 ok", "b": "550 5.7.1 not you",
               "c": "451 4.3.0 later", "d": "250 2.1.5 ok"}
    place.serve(RCPT=lambda line: replies[line[9]])
    done = place.run("a", "b", "c", "d")
    place.daemon.stop()
    assert done.returncode == NOPERM
    assert done.stderr == (b"sendmail: b: 550 5.7.1 not you\n"
                           b"sendmail: c: 451 4.3.0 later\n")
    assert place.daemon.lines[-2:] == ["RSET", "QUIT"]
    assert_nothing_sent(place)
    place.daemon = None


@pytest.mark.parametrize("option", ["-oem", "-oee", "-oeq", "-oep", "-oew"],
                         ids=lambda option: f"C33{option}")
def test_what_is_not_stored_is_not_sent(place, option):
    place.serve(BDAT="550 5.7.1 no")
    assert place.run(option, "root").returncode == NOPERM
    done = place.run(*as_user([SENDMAIL, option, "root"]), program="unshare",
                     env={"RELAYD_SOCKET": f"{place.path}/none"})
    assert done.returncode == TEMPFAIL


# ---- C3: no daemon ----

@pytest.mark.peers("faketime")
def test_c3_ten_seconds_are_waited(place, alone):
    """By its own clock, which goes fast, and however rarely it has the
    processor: not much less, no try after them, half a second between two."""
    speed, trace = 20, place.path / "trace"
    shutil.copy(PRELOADABLE, alone)
    done = place.run(
        "-f", "-qq", "-ttt", "-o", str(trace), "-e",
        "trace=execve,connect,nanosleep,clock_nanosleep",
        "unshare", *as_user(["env", *(f"{name}={value}" for name, value in
                           hurried(speed).items()), alone, "root"]),
        program="strace", env={"RELAYD_WAIT": ""})
    assert done.returncode == TEMPFAIL
    assert re.fullmatch(rb"sendmail: relayd is not running: \S+submit.sock: "
                        rb"No such file or directory\n", done.stderr)
    text = trace.read_text()
    begun = [float(at) for at in re.findall(r"([\d.]+) execve\(", text)][-1]
    tries = [float(at) for at in re.findall(
        r"([\d.]+) connect\(.*/submit\.sock", text)]
    # Before the first it has set its deadline, and after each but the last
    # seen that it was not over.
    assert tries[-2] - tries[0] < 10 / speed <= tries[-1] - begun
    pauses = [int(ns) * speed / 1e9 for ns in re.findall(
        r"nanosleep\(.*tv_sec=0, tv_nsec=(\d+)\}", text)]
    assert len(pauses) == len(tries) - 1
    assert all(now == min(2 * before, 0.5)
               for before, now in zip(pauses, pauses[1:]))


@pytest.mark.root
def test_c3_root_does_without_the_daemon(make_daemon, host, directory):
    # Not to stderr, which is the caller's.
    daemon = make_daemon(trace=False, top={"log": "auto"})
    (directory / "private").mkdir()
    done = subprocess.run(
        private(directory / "private", [SENDMAIL, "root"],
                [(daemon.directory, "/etc/relayd")]),
        input=TEXT, capture_output=True, timeout=TIMEOUT,
        env={"PATH": os.environ["PATH"], "RELAYD_WAIT": "0"})
    assert (done.returncode, done.stderr) == (OK, b"")
    assert len(daemon.queued("new")) == 1
    daemon.start()
    message, = host.wait_messages(1)
    assert message.recipients == [ROOT_MAIL]
    assert message.body == b"body\r\n"


# ---- C34: who the caller is ----

@pytest.mark.parametrize("gecos, line", [
    ('a & b "x" \\, room 1, 555', '"a Root b \\"x\\" \\\\" <root>'),
    ("", "root"), (",,,", "root"), ("Super User", '"Super User" <root>'),
    ("J\u00fcrgen & Co", "=?utf-8?q?J=C3=BCrgen_Root_Co?= <root>"),
    ("\x1b[31m\t", '" [31m" <root>'),
], ids=["C34-gecos", "C34-empty", "C34-commas", "C34-plain", "C34-utf-8",
        "C34-control"])
def test_gecos_is_the_name(place, gecos, line):
    place.serve()
    done = run_with_passwd(place, f"root:x:0:0:{gecos}:/root:/bin/sh")
    assert done.returncode == OK
    assert place.daemon.contents == [f"From: {line}\r\n\n".encode()]


@pytest.mark.parametrize("answer, sender, line", [
    ("ada:x:0:0:Ada L,,:/:/bin/sh", "ada", '"Ada L" <ada>'),
    ("", "uid12345", "uid12345"), ("ada", "uid12345", "uid12345"),
    ("a b:x:0:0::/:", "uid12345", "uid12345"),
], ids=["C34-known", "C34-unknown", "C34-garbage", "C34-blank"])
def test_c34_who_is_not_in_passwd_may_be_known_to_getent(
        place, answer, sender, line):
    place.serve()
    asked = place.path / "asked"    # once, for login and name
    asked.touch()
    asked.chmod(0o666)
    done = run_with_passwd(
        place, "root:x:0:0:root:/root:/bin/sh",
        f'echo >>{asked}; [ "$*" = "passwd 12345" ] && echo "{answer}"; '
        "exit 2", ["unshare", *as_user([])])
    assert (done.returncode, done.stderr) == (OK, b"")
    assert place.daemon.contents == [f"From: {line}\r\n\n".encode()]
    assert place.daemon.sender.startswith(f"MAIL FROM:<{sender}>")
    assert asked.read_text() == "\n"


@pytest.mark.parametrize("name", ["a" * 200, "a b", "a\\b", "\u00fc", "a\x1b"],
                         ids=["C34-200-octets", "C34-blank", "C34-backslash",
                              "C34-utf-8", "C34-control"])
def test_login_that_is_no_address_is_replaced(place, name):
    place.serve()
    assert run_with_passwd(place, f"{name}:x:0:0::/:/bin/sh").returncode == OK
    assert place.daemon.contents == [b"From: uid0\r\n\n"]
    assert place.daemon.sender.startswith("MAIL FROM:<uid0>")


def test_c34_a_user_without_an_entry_has_a_number(place):
    place.serve()
    done = place.run(*as_user([SENDMAIL, "x"]), program="unshare", text=b"\n")
    assert done.returncode == OK
    assert place.daemon.contents == [b"From: uid12345\r\n\n"]


# ---- C35: what the machine is called ----

def named(name):
    """Command to run the daemon on a machine of this name."""
    return ("unshare", "--uts", "/usr/bin/python3", "-c",
            "import os, socket, sys; socket.sethostname(os.fsencode("
            "sys.argv[1])); os.execvp(sys.argv[2], sys.argv[2:])", name)


@pytest.mark.root
@pytest.mark.parametrize("name, said", [
    ("", None), ("localhost", "localhost"), ("a" * 64, None),
    ("a." + "b" * 62, "a." + "b" * 62), ("web_1.example.com",) * 2,
    (b"caf\xe9", None), ("caf\u00e9.example", None), ("-web1", None),
    ("a..b", None),
], ids=["C35-empty", "C35-localhost", "C35-64-octets", "C35-63-octet-label",
        "C35-underscore", "C35-8-bit", "C35-utf-8", "C35-hyphen",
        "C35-two-dots"])
def test_host_name(make_daemon, host, name, said):
    daemon = make_daemon(trace=False, wrapper=named(name), top={
        "hostname": None, "local_names": None}).start()
    warning = "this host's own name can't be used"
    daemon.wait_log("started as uid")
    assert sum(warning in line for line in daemon.log) == (said is None)
    assert daemon.sendmail("root", data=TEXT).returncode == OK
    message, = host.wait_messages(1)
    header = assert_valid(message)
    said = said or "localhost"
    assert f"\r\n\tby {said} (relayd) ".encode() in message.header
    assert header["message-id"].strip().endswith(
        f"@{said if '.' in said else 'example.com'}>")


@pytest.mark.root
@pytest.mark.parametrize("name, status", [
    ("", 0), ("localhost", 0), ("a" * 64, CONFIG), ("web_1.example.com", 0),
    ("caf\u00e9.example", CONFIG), ("x\x7f", CONFIG),
], ids=["C35-empty", "C35-localhost", "C35-64-octets", "C35-underscore",
        "C35-utf-8", "C35-control"])
def test_host_name_of_the_configuration(make_daemon, name, status):
    daemon = make_daemon(top={"hostname": name})
    done = subprocess.run([BIN / "relayd", "-n", "-f", daemon.file],
                          capture_output=True, timeout=TIMEOUT)
    assert done.returncode == status
    assert (b": hostname: " in done.stderr) == (status == CONFIG)
