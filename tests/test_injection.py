"""Every octet in every place where a client, a caller or a file gives text:
no control character gets into the stored envelope, into a command or the
header on the wire, or into the log."""

import concurrent.futures
import itertools
import re
import socket
import subprocess

import pytest

from harness import BIN, TIMEOUT
from relayhost import EXTENSIONS, Relayhost
from wire import READERS, read_wire

CONTROLS = [*range(32), 127]
OCTETS = [bytes([value]) for value in range(256)]
ENVELOPE_AT = 512   # in a spool file

# Parts of a transaction; % is where the octet comes.  What is not there is
# taken from DEFAULT.
DEFAULT = {"helo": "client.example", "mail": "<a@b.example>",
           "rcpt": "<c@d.example>", "field": "From: a@b.example"}
ADDRESSES = ("<a%b@c.example>", '<"a%b"@c.example>', '<"a\\%b"@c.example>',
             "<a@b%c.example>", "<a@[127.0.0.1%]>", "<a%b>", "a%b@c.example",
             "<@r%.example:a@c.example>", "<a@c.example>%")
FIELDS = (
    "From: \"a%b\" <a@c.example>", "From: a%b <a@c.example>",
    "From: a@c.example (a%b)", "From: a%b@c.example", "From: ro%ot (a%b)",
    "From: \"a%b\" <root>", "From: a%b", "To: \"a%b\" <root>, x (a%b)",
    "Cc: a%b@localhost", "Reply-To: root (a%b), \"a%b\"@localhost",
    "Sender: root (a%b)", "Bcc: a%b@c.example", "Subject: a%b",
    "Message-ID: <a%b@c.example>", "Date: Tue, 24 Nov% 2026 05:14:29 +0000",
    "X%Y: z", "X-Folded: a\r\n %b")
PARAMETERS = ("SIZE=1%", "BODY=8BITMIME%", "RET=FULL%", "ENVID=a%b", "FOO=%",
              "%", "SMTPUTF8%", "%=x")
RECIPIENTS = (*ADDRESSES, *(DEFAULT["rcpt"] + " " + one for one in (
    "NOTIFY=NEVER%", "NOTIFY=%", "ORCPT=rfc822;a%b@c.example", "ORCPT=x%y;z",
    "FOO=%")))
UTF8 = DEFAULT["mail"] + " SMTPUTF8"
SLOTS = [
    *({"helo": f"{name}%"} for name in ("a.example", "[127.0.0.1]", "x")),
    *({"mail": one} for one in ADDRESSES),
    *({"mail": DEFAULT["mail"] + " " + one} for one in PARAMETERS),
    *({"mail": mail, "rcpt": "\r\nRCPT TO:".join(RECIPIENTS[at::2])}
      for mail in (DEFAULT["mail"], UTF8) for at in (0, 1)),
]
WITH_UTF8 = [{"mail": one + " SMTPUTF8"} for one in ADDRESSES[:-3]]
FIELD_SLOTS = [{"field": one} for one in FIELDS]
ALL_FIELDS = {"field": "\r\n".join(FIELDS)}
# What no value mends.
NONSENSE = [{"mail": "<a@b.example> FOO=%"}, {"mail": "<a@b.example> %=x"}]
XTEXT = [{"mail": DEFAULT["mail"] + " ENVID=a%b"},
         {"rcpt": DEFAULT["rcpt"] + " ORCPT=rfc822;a%b@c.example"}]


def transaction(slot, value):
    part = {key: text.encode().replace(b"%", value)
            for key, text in {**DEFAULT, **slot}.items()}
    text = part["field"] + b"\r\n\r\nbody\r\n"
    return (b"EHLO %s\r\nMAIL FROM:%s\r\nRCPT TO:%s\r\nBDAT %d LAST\r\n" % (
        part["helo"], part["mail"], part["rcpt"], len(text)) + text)


def say(daemon, transactions):
    """All in one session; returns how many messages it took."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(str(daemon.socket))
        sock.sendall(b"".join(transactions) + b"QUIT\r\n")
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile("rb") as file:
            replies = file.read()
    assert replies.endswith(b"221 2.0.0 Bye\r\n"), replies
    assert re.fullmatch(rb"(\d\d\d[ -][ -~]*\r\n)+", replies), replies
    # Whatever is refused is refused for good, and by who reads it first.
    assert not re.search(rb"^4", replies, re.M), (transactions, replies)
    return replies.count(b"queued as")


def in_parallel(function, arguments):
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        return list(pool.map(function, arguments))


@pytest.fixture
def site(authority, make_daemon):
    """A daemon whose relayhost hears all and takes nothing, so that every
    message is on the wire and in the spool; and the check of both."""
    with Relayhost(authority, tls="none",
                   extensions=(*EXTENSIONS, "DSN")) as host:
        fault = host.fault("END", "450 4.2.0 later")

        def start(**options):
            return make_daemon(host=host, trace=False, relay={
                "tls": "none", "user": None, "password_file": None},
                top={"retry": ["1h"]}, **options).start()

        def check(daemon, count):
            assert count > 0
            host.wait_hits(fault, count)
            assert daemon.stop() == 0
            assert len(daemon.queued()) == count
            host.wait_ended()
            for name in daemon.queued("cur"):
                check_envelope((daemon.spool / "cur" / name).read_bytes())
            seen = [check_wire(session.clear) for session in host.sessions]
            assert sum(seen) == count
            for line in daemon.log:
                assert re.fullmatch(r"[ -~]{1,1024}", line), line

        yield start, check


def check_envelope(file):
    envelope = file[ENVELOPE_AT:].partition(b"\nReceived: from ")[0]
    flags = re.search(rb"(?m)^flags\t(\w+)$", envelope)[1]
    for line in envelope.split(b"\n"):
        assert re.fullmatch(rb"[ -~\x80-\xff\t]+", line), line
        assert flags == b"utf8" or line.isascii(), line
    assert {line.partition(b"\t")[0] for line in envelope.split(b"\n")} == \
        {b"arrived", b"uid", b"flags", b"client", b"sender", b"original",
         b"dsn", b"rcpt"}


def check_wire(wire):
    """Returns how many messages were sent."""
    messages = read_wire(wire, *READERS[0])
    for envelope, lines in messages:
        assert len(envelope) > 1 and envelope[0].startswith(b"FROM:<")
        for text in envelope:
            assert re.fullmatch(rb"[ -~\x80-\xff]+", text), text
            assert b" SMTPUTF8" in envelope[0] or text.isascii(), envelope
        header = lines[:lines.index(b"")]
        for line in header:
            assert re.fullmatch(rb"[\t -~\x80-\xff]+", line), line
        assert b" SMTPUTF8" in envelope[0] or \
            b"\n".join(header).partition(b"\nFrom:")[0].isascii()
    return len(messages)


def test_smtp(site):
    start, check = site
    daemon = start()
    # With nothing put in all is well, or the table proves nothing.
    slots = SLOTS + WITH_UTF8 + FIELD_SLOTS + XTEXT
    plain = [slot for slot in slots if say(daemon, [transaction(slot, b"")])]
    assert [slot for slot in slots if slot not in plain] == NONSENSE
    injections = [transaction(slot, octet) for octet in OCTETS
                  for slot in SLOTS + [ALL_FIELDS]]
    # 8-bit, and those that may end what they stand in.
    injections += [transaction(slot, octet) for octet in OCTETS
                   if not octet.isalnum() for slot in WITH_UTF8]
    injections += [transaction(slot, octet) for octet in (b"\r", b"\n", b"\0")
                   for slot in FIELD_SLOTS]
    injections += [transaction(slot, b"+%02X" % octet[0]) for slot in XTEXT
                   for octet in OCTETS]
    taken = in_parallel(lambda one: say(daemon, [one]), injections)
    check(daemon, len(plain) + sum(taken))


# Options of sendmail; each also takes the value without the octet.
OPTIONS = (("-f", "a%b@c.example"), ("-f", '"a%b"@c.example'),
           ("-r", "a%b@c.example"), ("-F", "a%b"), ("-F", "=?utf-8?q?a%b?="),
           ("-V", "a%b"), ("-N", "never%"), ("-R", "hdrs%"), ("-i", "a%b"),
           ("-i", "a (%) <a%b@c.example>"))


def test_sendmail(site):
    start, check = site
    daemon = start()

    def call(arguments):
        done = daemon.sendmail(*arguments, "root", data=b"Subject: x\n\nbody\n")
        assert done.returncode in (0, 64, 65), (arguments, done.stderr)
        assert re.fullmatch(rb"[ -~\n]*", done.stderr), done.stderr
        return done.returncode == 0

    assert all(call([option, text.replace("%", "")])
               for option, text in OPTIONS)
    octets = [octet for octet in OCTETS[1:] if not octet.isalnum()]
    taken = in_parallel(call, [
        [option, text.encode().replace(b"%", octet)]
        for option, text in OPTIONS for octet in octets])
    check(daemon, len(OPTIONS) + sum(taken))


def test_aliases(site):
    """A target for each octet; those that can't be used are left out."""
    start, check = site
    daemon = start(aliases="postmaster: p@d.example\n")
    targets = (b"a%b@c.example", b'"a%b"@c.example', b"a%b")
    (daemon.directory / "aliases").write_bytes(b"postmaster: p@d.example\n" +
        b"".join(b"n%d: good@d.example, " % number +
                 target.replace(b"%", octet) + b"\n"
                 for number, (octet, target) in enumerate(
                     itertools.product(OCTETS, targets))))
    taken = in_parallel(
        lambda number: say(daemon, [transaction({"rcpt": f"<n{number}>"},
                                                b"")]),
        range(len(OCTETS) * len(targets)))
    assert sum(taken) == len(taken)
    check(daemon, sum(taken))


def test_configuration(make_daemon):
    """A control character is an error in every key that is written on."""
    values = {"hostname": "a%b.example", "origin": "a%b.example",
              "from": "a%b@c.example", "local_to": "a%b@c.example",
              "redirect": "a%b@c.example",
              "masquerade": ["a@b.example=a%b@c.example"],
              "header_add": ["X-Env: a%b"], "local_names": ["a%b"]}
    daemon = make_daemon(top=values)
    template = daemon.file.read_bytes()

    def errors(value):
        daemon.file.write_bytes(template.replace(b"%", value))
        done = subprocess.run([BIN / "relayd", "-n", "-f", daemon.file],
                              capture_output=True, timeout=TIMEOUT)
        assert re.fullmatch(rb"[ -~\n]*", done.stderr), done.stderr
        return done.returncode, set(re.findall(
            r":\d+: (\w+): .*control character", done.stderr.decode()))

    assert errors(b"") == (0, set())
    for control in CONTROLS:
        escaped, raw = errors(b"\\x%02x" % control), errors(bytes([control]))
        assert escaped[0] == raw[0] == 78, control
        # For libconfuse NUL is an end; a raw line end is one for us.
        if control:
            assert escaped[1] == values.keys(), control
        if control not in b"\0\r\n":
            assert raw[1] == values.keys(), control
