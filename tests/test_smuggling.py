"""One message stays one on its way through the daemon to the relayhost: what
tests/test_smuggling.c proves of the session, end to end for short strings."""

import concurrent.futures
import fcntl
import itertools
import os
import re
import socket
import struct
import termios

import pytest

from harness import TIMEOUT
from relayhost import EXTENSIONS, Relayhost
from wire import READERS, read_wire

HEADER = (b"Date: Tue, 24 Nov 2026 05:14:29 +0000\r\nFrom: a@b.example\r\n"
          b"Message-ID: <%d@b.example>\r\n")
SMUGGLED = b"MAIL FROM:<evil@b.example>"
# Where in a body a string stands.
PLACES = [(b"", SMUGGLED + b"\r\n"), (b"a\r\na", SMUGGLED + b"\r\nz\r\n"),
          (SMUGGLED + b"\r\na", b"")]
LENGTHS = range(1, 5)
ERRORS = 20     # end a session


# The model: what a strict reader makes of a client's octets.

def canonical(sent, dots):
    """All lines end in CRLF.  Behind CRLF a dot comes off a line that has
    more than it, behind a bare CR or LF only one of two."""
    lines, end = [], b"\r\n"
    for line, next_end in re.findall(rb"([^\r\n]*)(\r\n|[\r\n]|\Z)", sent):
        if not line and not next_end:
            break
        if dots and line != b"." and re.match(
                rb"\." if end == b"\r\n" else rb"\.\.", line):
            line = line[1:]
        lines.append(line + b"\r\n")
        end = next_end
    return b"".join(lines)


class Script:
    """What a client says in one session, and what is to come of it."""

    def __init__(self):
        self.text = b"EHLO client.example\r\n"
        self.codes, self.bodies, self.errors = ["250"], {}, 0

    def add(self, number, body, chunk):
        header = HEADER % number + b"\r\n"
        self.text += b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
        self.codes += ["250", "250"]
        if chunk:
            self.text += b"BDAT %d LAST\r\n" % len(header + body)
            self.text += header + body
            self.codes += ["250"]
            self.bodies[number] = canonical(body, False)
            return
        data = b"\r\n" + body + b"\r\n.\r\n"
        self.text += b"DATA\r\n" + header[:-2] + data + b"RSET\r\n"
        end = data.index(b"\r\n.\r\n")
        known = [line == SMUGGLED + b"\r"
                 for line in data[end + 5:].split(b"\n")[:-1]]
        self.codes += ["354", "250",
                       *("250" if one else "500" for one in known), "250"]
        self.errors += known.count(False)
        self.bodies[number] = canonical(data[2:end + 2], True)

    def play(self, port):
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
            sock.sendall(self.text + b"QUIT\r\n")
            with sock.makefile("rb") as file:
                replies = file.read().decode()
        codes = re.findall(r"^(\d{3}) ", replies, re.M)
        assert codes == ["220", *self.codes, "221"], (self.text, replies)


def scripts():
    numbers, script = itertools.count(), Script()
    strings = [b"".join(octets) for length in LENGTHS for octets in
               itertools.product((b"\r", b"\n", b".", b"x"), repeat=length)]
    assert len(strings) == 340
    for string, (before, after), chunk in itertools.product(
            strings, PLACES, (False, True)):
        script.add(next(numbers), before + string + after, chunk)
        if len(script.bodies) == 50 or script.errors > ERRORS / 2:
            yield script
            script = Script()
    yield script


@pytest.mark.parametrize("chunking", [True, False])
def test_no_string_makes_two_messages_of_one(authority, make_daemon,
                                             chunking):
    """B18: each of 340 strings, at three places of a body."""
    extensions = [one for one in EXTENSIONS if chunking or one != "CHUNKING"]
    with Relayhost(authority, tls="none", extensions=extensions) as host:
        daemon = make_daemon(host=host, trace=False, relay={
            "tls": "none", "user": None, "password_file": None}).start()
        bodies = {}
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            plays = []
            for script in scripts():
                bodies |= script.bodies
                plays.append(pool.submit(script.play, daemon.port))
            for play in plays:
                play.result()
        messages = host.wait_messages(len(bodies))
        assert daemon.stop() == 0
        host.wait_ended()
        wires = [session.clear for session in host.sessions]
    assert len(bodies) == 340 * 3 * 2 == len(host.messages)
    arrived = {int(re.search(rb"<(\d+)@", message.header)[1]): message.body
               for message in messages}
    assert arrived == bodies
    assert {message.verb for message in messages} == \
        {"BDAT" if chunking else "DATA"}
    strict, *others = [[message for wire in wires
                        for message in read_wire(wire, *reader)]
                       for reader in READERS]
    contents = [b"\r\n".join(lines) + b"\r\n" for _, lines in strict]
    assert sorted(contents) == sorted(message.data for message in messages)
    for other in others:
        assert other == strict


# How a client's octets are cut changes nothing.

TEXT = (HEADER % 1 + b"Subject: caf\xc3\xa9\r\nX: " + 1000 * b"x" +
        b"\r\nBcc: x@d.example,\r\n\ty@d.example\r\n\r\n"
        b"\xc3\xa4\r\n.\r\n..\r\n.a\nb\rc\r\n\r\nend")
ENVELOPE = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
SESSION = (b"EHLO x\r\n" + ENVELOPE + b"DATA\r\n" +
           TEXT.replace(b"\r\n.", b"\r\n..") + b"\r\n.\r\n" + ENVELOPE +
           b"BDAT 20\r\n" + TEXT[:20] + b"BDAT %d LAST\r\n" % len(TEXT[20:]) +
           TEXT[20:] + b"QUIT\r\n")


def say(path, segments):
    """On the unix socket, where a segment is known to have been read."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(str(path))
        for segment in segments:
            sock.sendall(segment)
            while struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ,
                                                 bytes(4)))[0]:
                os.sched_yield()
        with sock.makefile("rb") as file:
            return re.sub(rb"as \w+", b"as ID", file.read())


def test_segments_do_not_matter(daemon, host):
    """A7, for real."""
    whole = say(daemon.socket, [SESSION])
    assert whole.count(b"queued as") == 2
    end = SESSION.index(b"\r\n.\r\n" + ENVELOPE)
    cuts = [[SESSION[at:at + size] for at in range(0, len(SESSION), size)]
            for size in (1, 2, 3, 1000)]
    cuts += [[SESSION[:at], SESSION[at:]] for at in range(end, end + 6)]
    for segments in cuts:
        assert say(daemon.socket, segments) == whole
    messages = host.wait_messages(2 + 2 * len(cuts))
    first, = {message.data.partition(b"Date: ")[2] for message in messages}
    assert first.endswith(b"\r\n.\r\n..\r\n.a\r\nb\r\nc\r\n\r\nend\r\n")
    assert b"Bcc" not in first
