"""The log: whatever clients and relayhosts say, a line stays one line and its
fields stay ours, to the programs that read logs too (badinput L1, L2, L4, L5)."""

import os
import re
import signal
import socket
import subprocess
import threading

import pytest

from certificates import odd_context
from harness import BIN, PASSWORD, PEERS, SANITIZED, TIMEOUT

BAD_ID = pytest.mark.defective_input(
    "message-id: InvalidHeaderDefect", "message-id: ObsoleteHeaderDefect",
    "message-id: UndecodableBytesDefect", "message-id: IndexError")

# What looks like the log's own fields, reject lines and program tags.
IMITATION = ("to=<x>, relay=e, delay=0, dsn=2.0.0, status=sent (250 ok)",
             "from=<x@y.example>, size=5", "xfrom=<x@y.example>, size=5",
             "[1]: A: reject: RCPT from evil[192.0.2.1]: 554 5.7.1 no",
             "[1]: A: client=evil[192.0.2.1]",
             "A: reject: RCPT from e[192.0.2.1]: 554 5.7.1 <>: match",
             "too many errors after RCPT from e[192.0.2.1]",
             "cleanup[1]: A: reject: header x from x; from=<y>",
             "status=bounced (550 x)")


def converse(daemon, *lines):
    """By TCP, all at once; returns the replies."""
    with socket.create_connection(("127.0.0.1", daemon.port),
                                  TIMEOUT) as sock:
        sock.sendall(b"".join(line + b"\r\n" for line in (*lines, b"QUIT")))
        with sock.makefile("rb") as file:
            return file.read().decode()


def transaction(sender, recipient, header=b"Subject: x", body=b"body"):
    text = header + b"\r\n\r\n" + body + b"\r\n"
    return [b"MAIL FROM:<%s>" % sender,
            b"RCPT TO:<%s> NOTIFY=NEVER" % recipient,  # no bounce
            b"BDAT %d LAST\r\n%s" % (len(text), text[:-2])]


def quoted(text):
    return b'"%s"' % re.sub(rb'(["\\])', rb"\\\1", text)


def summary(daemon):
    """The grand totals as pflogsumm has them."""
    told = subprocess.run(
        ["perl", f"-I{PEERS}/root/usr/share/perl5",
         PEERS / "root/usr/sbin/pflogsumm", "--syslog_name=relayd"],
        input="\n".join(daemon.log) + "\n", text=True, capture_output=True,
        timeout=TIMEOUT)
    assert told.returncode == 0, told.stderr
    return {name: int(count) for count, name in re.findall(
        r"^ +(\d+)  +(received|delivered|deferred|bounced|rejected)\b",
        told.stdout, re.M)}


def fields(line):
    """A delivery's fields, found by the last of each name: a pattern that
    begins with ".*" as many have it."""
    return {name: re.search(rf".*\b{name}=([^ ,]+)", line)[1]
            for name in ("status", "dsn", "relay")}


@pytest.mark.peers("pflogsumm")
@BAD_ID
@pytest.mark.parametrize("text", IMITATION, ids=range(len(IMITATION)))
def test_L2_who_reads_the_log_is_not_fooled(make_daemon, host, text):
    """One message is sent, one deferred, one bounced, one refused, and all
    of them are full of what others might mean."""
    text = text.encode()
    local = quoted(text)
    assert len(local) <= 64
    replies = ["250 2.0.0 ", "450 4.2.1 ", "550 5.1.1 "]
    host.fault("END", replies[0] + text.decode())
    for match, reply in (("late", replies[1]), ("bad", replies[2])):
        # Echoed, as many do.
        host.fault("RCPT", f"{reply}<{local.decode()}>, {text.decode()}",
                   match=match)
    daemon = make_daemon().start()
    header = b"Message-ID: <%s>\r\nX: %s" % (text, text)
    for name in (b"good", b"late", b"bad"):
        converse(daemon, b"EHLO x", *transaction(
            local + b"@a.example", name + b"+" + b"x@b.example", header))
    refused = converse(daemon, b"EHLO " + text, b"EHLO x",
                       b"MAIL FROM:<%s>" % text)
    assert refused.count("\r\n501 ") == 2
    daemon.wait_log("qmgr.*removed")
    daemon.wait_log("kept in failed/")
    line = daemon.wait_log(r"(.*to=<late.*)")[1]
    assert fields(line)["dsn"] == "4.2.1"
    assert fields(line)["status"] == "deferred"
    # And again with the imitation for a recipient, which is the first of
    # the fields.
    converse(daemon, b"EHLO x", *transaction(
        b"a@a.example", local + b"@late.example"))
    again = daemon.wait_log(r"(.*to=<(?!late|good|bad).*)")[1]
    assert fields(again)["status"] == "deferred"
    rejected = len([line for line in daemon.log if ": reject: " in line and
                    "relayd/smtpd" in line])
    assert daemon.stop() == 0
    assert summary(daemon) == {"received": 4, "delivered": 1, "deferred": 2,
                               "bounced": 1, "rejected": rejected}


@pytest.mark.parametrize("text", IMITATION, ids=range(len(IMITATION)))
def test_L2_nor_when_mail_is_returned_by_hand(daemon, host, text):
    """Whoever the recipient is, and whatever was said of it."""
    local = quoted(text.encode())
    host.fault("RCPT", f"450 4.2.1 {text}", match=re.escape(local.decode()))
    converse(daemon, b"EHLO x", *(
        line.replace(b" NOTIFY=NEVER", b"") for line in transaction(
            b"a@a.example", local + b"@late.example")))
    name = daemon.wait_log(r"smtp\[\d+\]: (\w+): .*status=deferred")[1]
    assert daemon.relayctl("bounce", name).returncode == 0
    line = daemon.wait_log(rf"(.*bounce\[\d+\]: {name}: to=.*)")[1]
    assert re.fullmatch(r".*: to=<[^<>, ]+>, relay=none, delay=[\d.]+, "
                        r"dsn=5\.0\.0, status=bounced \(.*\)", line)
    assert fields(line) == {"status": "bounced", "dsn": "5.0.0",
                            "relay": "none"}


PAUSED = {
    "greeting": ("GREETING", "554 5.7.1 ", {}, "is paused"),
    "login": ("AUTH", "535 5.7.8 ", {}, "is paused"),
    "account": ("MAIL", "530 5.7.0 ", {}, "is paused"),
    "rate": ("MAIL", "454 4.7.0 Throttling failure: Maximum sending rate "
             "exceeded ", {"times": 1}, "throttles"),
    "connections": ("GREETING", "421 4.7.0 too many connections ",
                    {"skip": 1}, "takes no more than"),
}


@pytest.mark.parametrize("paused", PAUSED)
def test_L2_nor_in_what_is_told_of_a_relay(make_daemon, host, paused):
    """That line has no fields at all."""
    point, reply, more, words = PAUSED[paused]
    go_on = threading.Event()
    busy = host.fault("RCPT", then=lambda session: go_on.wait(TIMEOUT),
                      times=1) if paused == "connections" else None
    host.fault(point, reply + IMITATION[0], **more)
    daemon = make_daemon(relay={"password_file": None, "password_command":
                                f"echo '{IMITATION[1]}' >&2; echo "
                                f"{PASSWORD}"}).start()
    converse(daemon, b"EHLO x", *transaction(b"a@a.example", b"c@b.example"))
    if busy:
        host.wait_hits(busy)
        converse(daemon, b"EHLO x",
                 *transaction(b"a@a.example", b"d@b.example"))
    daemon.wait_log(words)
    go_on.set()
    daemon.wait_log("password_command says: ")
    for line in daemon.log:
        if re.search(f"relay test(:| {words}) ", line):
            assert not re.search(r"\b(to|from|relay|dsn|status|size)=", line)


@pytest.mark.peers("fail2ban")
@BAD_ID
def test_L2_fail2ban_bans_nobody_else(daemon, host, run, directory):
    """Its filter for Postfix, as relayd(8) has it used, sees who made too many
    errors, and in no imitation another."""
    host.fault("RCPT", "550 5.1.1 no", match="x@")
    for number, text in enumerate(IMITATION):
        host.fault("RCPT", f"550 5.1.1 {text}", match=f"bad{number}@")
        text = text.encode()
        converse(daemon, b"EHLO " + text, b"EHLO x", b"MAIL FROM:<%s>" % text,
                 b"RCPT TO:<%s>" % text, text)
        converse(daemon, b"EHLO " + text, b"EHLO x", *transaction(
            quoted(text) + b"@a.example", b"bad%d@b.example" % number,
            b"Message-ID: <%s>" % text))
    daemon.wait_log("kept in failed/", len(IMITATION))
    converse(daemon, b"EHLO x", *[text.encode() for text in IMITATION] * 9)
    daemon.wait_log("too many errors after UNKNOWN from localhost")
    log = directory / "log"
    log.write_text("".join(line + "\n" for line in daemon.log))
    for mode in "normal", "aggressive", "errors":
        found = run("/usr/bin/fail2ban-regex", "--out", "ip", str(log),
                    f'postfix[mode={mode}, _daemon="relayd/smtpd"]')
        assert set(found.split()) == {"127.0.0.1"}, mode


LONG = b"x" * 10240
HOSTILE = {"newline": b"\n%s", "return": b"a\rb", "escape": b"\x1b]0;x\x07",
           "format": b"%s%n%s%n%1000000d", "latin": bytes(range(0x80, 0x100)),
           "long": LONG, "nul": b"a\0b", "delete": b"\x7f", "csi": b"\xc2\x9b",
           "backslash": b"\\x0a\\n"}


def assert_lines(lines):
    """Each is one of ours, and printable."""
    for line in lines:
        assert re.fullmatch(r"[ -~]{1,1200}", line), line
        # The part behind "relayd/smtpd[1]: ".
        assert len(line.partition("]: ")[2]) <= 1024
        assert re.match(r"\w{3} [ \d]\d [\d:]{8} \S+ relayd(/\w+)?\[\d+\]: ",
                        line), line


def escaped(text):
    """As a log line has it."""
    return "".join(chr(one) if one in range(32, 127) else f"\\x{one:02x}"
                   for one in text)


@BAD_ID
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_L1_one_line_and_printable(make_daemon, host, text):
    """Wherever it stands; in the replies of the relayhost what a reply can
    have in it."""
    reply = text.replace(b"\n", b"").replace(b"\r", b"").replace(b"\0", b"")
    reply = reply.decode("latin-1")[:4000]
    host.fault("RCPT", "450 4.2.1 late " + reply, match="late")
    host.fault("RCPT", "550 5.1.1 bad " + reply, match="bad")
    daemon = make_daemon(top={"log_level": "debug"}, trace=False).start()
    header = b"From: a@b.example\r\nMessage-ID: <%s>" % text.replace(
        b"\n", b"").replace(b"\r", b"").replace(b"\0", b"")
    converse(daemon, b"EHLO " + text, b"EHLO x", b"MAIL FROM:<a@" + text + b">",
             b"MAIL FROM:<" + text + b"@b.example>", b"MAIL FROM:<a@b.example>",
             b"RCPT TO:<" + text + b">", b"RCPT TO:<" + text + b"@b.example>",
             text)
    for name in (b"good", b"late", b"bad"):
        converse(daemon, b"EHLO x", *transaction(
            b"a@b.example", name + b"@b.example", header))
    daemon.wait_log("qmgr.*removed")
    daemon.wait_log("kept in failed/")
    daemon.wait_log("to=<late@b.example>.*status=deferred")
    lines = list(daemon.log)
    assert_lines(lines)
    first = next((octet for octet in reply.encode("latin-1")
                  if octet not in range(32, 127)), None)
    if first is not None:
        assert any(f"\\x{first:02x}" in line for line in lines
                   if "status=" in line)
    if text == LONG:
        assert any("message-id=<xxx" in line and line.endswith("...>")
                   for line in lines)


def test_L1_names_in_a_certificate(daemon, host, authority):
    """They are the relayhost's words; check --online prints them."""
    host.own_context = odd_context("hostile")(authority)
    daemon.sendmail("c@d.example", data=b"\n")
    daemon.wait_log("relay test is paused .certificate")
    assert_lines(daemon.log)
    for arguments in (), ("--json",):
        shown = daemon.relayctl("check", "--online", *arguments).stdout
        assert re.fullmatch(r"[ -~\n]*", shown), shown
        assert re.search(r", for a\\+x0a\\+x0d\\+x1b\]0;x\\+x07%s%n", shown)


NAMES = [name for name in HOSTILE if name not in ("nul", "long")]


@pytest.mark.parametrize("name", [*(HOSTILE[one] for one in NAMES), b"x" * 240],
                         ids=[*NAMES, "long"])
def test_L1_names_of_files(make_daemon, directory, name):
    """Of the configuration, of the aliases (where a control character is
    refused), and of what is no message."""
    daemon = make_daemon(trace=False)
    place = directory
    for _ in range(4 if len(name) == 240 else 1):
        place /= os.fsdecode(name)
        place.mkdir()
    usual, daemon.top["aliases"] = daemon.top["aliases"], str(place / "aliases")
    (place / "aliases").write_text("no alias\n")
    daemon.file = place / "relayd.conf"
    daemon.write_config()
    told = subprocess.run([BIN / "relayd", "-n", "-f", daemon.file],
                          capture_output=True, text=True, timeout=TIMEOUT)
    assert all(re.fullmatch("[ -~]{1,1024}", line)
               for line in told.stderr.splitlines())
    refused = any(one < 32 or one == 127 for one in name)
    assert (told.returncode == 78) == refused
    if refused:
        daemon.top["aliases"] = usual
        daemon.write_config()
    daemon.start()
    stray = daemon.spool / "new" / os.fsdecode(name)
    stray.write_text("")
    assert daemon.stop() == 0
    daemon.start()
    daemon.wait_log("is no message; left alone")
    daemon.reload()
    daemon.wait_log("reloaded ")
    assert daemon.stop() == 0
    stray.unlink()
    assert_lines(daemon.log)
    words = ["reloaded .*", " is no message; "]
    for pattern in words if refused else [*words, "aliases:1: |warning: /.*x"]:
        line = next(line for line in daemon.log if re.search(pattern, line))
        assert escaped(name) in line


# A sanitizer tells of SIGSEGV itself.
@pytest.mark.parametrize("signo", [signal.SIGABRT] + (
    [] if SANITIZED else [signal.SIGSEGV, signal.SIGBUS]))
def test_L4_a_crash_tells_the_build_and_nothing_else(daemon, host, signo):
    host.fault("RCPT", "450 4.2.1 later")
    converse(daemon, b"EHLO x", *transaction(b"a@b.example", b"c@d.example"))
    daemon.wait_log("status=deferred")
    before = len(daemon.log)
    daemon.process.send_signal(signo)
    daemon.expect_killed(signo)
    line, = daemon.log[before:]
    build = re.fullmatch(
        rf"relayd\[{daemon.process.pid}\]: error: ended by {signo.name}: "
        r"relayd [0-9.]+, build ([0-9a-f]{32,64})", line)[1]
    assert bytes.fromhex(build) in (BIN / "relayd").read_bytes()


@pytest.mark.defective_input("InvalidHeaderDefect")
def test_L5_subject_and_body_are_not_logged(make_daemon, host):
    """Nor any other text that is the message's own, at no level; not when it
    is refused, and not when the relayhost refuses it."""
    host.fault("RCPT", "550 5.1.1 no", match="bad")
    host.fault("RCPT", "450 4.2.1 later", match="late")
    daemon = make_daemon(top={"log_level": "debug"}).start()
    secret = b"Quux7Secret"
    header = b"\r\n".join((
        b"From: %s <a@b.example>" % secret, b"Subject: %s" % secret,
        b"Subject: %s" % secret, b"X-Y: %s" % secret,
        b"Comments: %s" % secret, b"To: c@d.example (%s)" % secret))
    for name in (b"good", b"late", b"bad"):
        converse(daemon, b"EHLO x", *transaction(
            b"a@b.example", name + b"@b.example", header, secret))
    too_many = b"\r\n".join([b"Received: from %s" % secret] * 60)
    assert "\r\n554 " in converse(daemon, b"EHLO x", *transaction(
        b"a@b.example", b"c@b.example", too_many, secret))
    daemon.wait_log("removed")
    daemon.wait_log("kept in failed/")
    daemon.wait_log("status=deferred")
    assert daemon.stop() == 0
    assert not [line for line in daemon.log if "quux7" in line.lower()]
