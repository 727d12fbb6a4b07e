"""Dialogues with relayd, octet by octet: what is sent, every reply, and what
becomes of it in spool, log and at the relayhost.  For test_badinput_*.py."""

import dataclasses
import fcntl
import itertools
import os
import re
import select
import socket
import struct
import termios

from harness import Daemon
from relayhost import TIMEOUT, Relayhost

HELLO = b"EHLO client.example\r\n"
MAIL = b"MAIL FROM:<a@b.example>\r\n"
RCPT = b"RCPT TO:<c@d.example>\r\n"
QUIT = b"QUIT\r\n"
END = b"\r\n.\r\n"
HEADER = (b"From: a@b.example\r\nDate: Tue, 24 Nov 2026 05:14:29 +0000\r\n"
          b"Message-ID: <1@b.example>\r\n")
TEXT = HEADER + b"\r\nbody\r\n"
MAIL_OK, RCPT_OK, OK = "250 2.1.0 Ok", "250 2.1.5 Ok", "250 2.0.0 Ok"
QUEUED, BYE = "250 2.0.0 Ok: queued as", "221 2.0.0"

# What a row begins with, and what that is answered.
STAGES = {
    "": (b"", []),
    "hello": (HELLO, ["250"]),
    "mail": (HELLO + MAIL, ["250", MAIL_OK]),
    "rcpt": (HELLO + MAIL + RCPT, ["250", MAIL_OK, RCPT_OK]),
    "data": (HELLO + MAIL + RCPT + b"DATA\r\n",
             ["250", MAIL_OK, RCPT_OK, "354"]),
}


def bdat(text, last=True):
    return b"BDAT %d%s\r\n%s" % (len(text), b" LAST" if last else b"", text)


@dataclasses.dataclass
class Row:
    """A session.  The greeting, and QUIT where the session is still open, are
    understood.

    replies  how each begins, all of them, a comma between them; "a|b": either
    bodies   of the messages that come of it: bytes, or a judge of them
    to       their recipients; None: the one of STAGES
    log      of a session that relayd hangs up: what its line says
    closes   relayd ends it, but has answered a command by that
    """
    name: str
    stage: str
    send: bytes
    replies: str
    bodies: tuple = ()
    to: tuple = None
    log: str = None
    closes: bool = False

    @property
    def data(self):
        data = STAGES[self.stage][0] + self.send
        return data if self.closes or self.log else data + QUIT

    @property
    def expected(self):
        said = self.replies.split(", ") if self.replies else []
        said = ["220", *STAGES[self.stage][1], *said]
        return said if self.closes or self.log else said + [BYE]


def table(*rows):
    """For pytest.mark.parametrize."""
    return {"argvalues": rows, "ids": [row.name for row in rows]}


def connect(address, source=None, timeout=TIMEOUT):
    if isinstance(address, tuple):
        sock = socket.socket()
        if source:
            sock.bind((source, 0))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    else:
        sock, address = socket.socket(socket.AF_UNIX), str(address)
    sock.settimeout(timeout)
    sock.connect(address)
    return sock


def unread(sock):
    """Octets that the other end (of a unix socket) has not read yet."""
    return struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"1234"))[0]


def split_replies(data):
    """Whole replies, as text without the last line end."""
    assert data == b"" or data.endswith(b"\r\n"), data[-100:]
    text = data.decode("ascii")
    return re.findall(r"(?:^\d{3}-.*\r\n)*^\d{3}(?: .*)?(?=\r\n)", text,
                      re.M) if text else []


class Exchange:
    """Sends what it is given and reads what comes back, both as it goes."""

    def __init__(self, sock):
        self.sock, self.received, self.ended = sock, bytearray(), False

    def _read(self):
        try:
            data = self.sock.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        self.ended = self.ended or not data
        self.received += data

    def send(self, data):
        """Until all is sent, or relayd does not want any more."""
        view = memoryview(data)
        while view and not self.ended:
            readable, writable, _ = select.select([self.sock], [self.sock], [],
                                                  TIMEOUT)
            assert readable or writable, "relayd neither reads nor writes"
            if readable:
                self._read()
            elif writable:
                try:
                    view = view[self.sock.send(view, socket.MSG_DONTWAIT):]
                except (BrokenPipeError, ConnectionResetError):
                    view = view[:0]
        return self

    def send_split(self, *pieces):
        """Each is read by relayd before the next is sent (unix sockets)."""
        for piece in pieces:
            self.send(piece)
            while unread(self.sock) > 0:
                os.sched_yield()
        return self

    def wait_replies(self, count):
        """Until so many are there; the last one."""
        while len(split_replies(self._whole())) < count:
            assert not self.ended, self.received
            self._read()
        return split_replies(self._whole())[count - 1]

    def _whole(self):
        return bytes(self.received[:self.received.rfind(b"\n") + 1])

    def replies(self):
        """All of them: relayd ends the session."""
        while not self.ended:
            self._read()
        self.sock.close()
        return split_replies(bytes(self.received))


def converse(address, data, source=None):
    return Exchange(connect(address, source)).send(data).replies()


def matches(reply, expected):
    return any(re.match(re.escape(one) + r"(?![^\s-])", reply)
               for one in expected.split("|"))


def assert_replies(replies, expected):
    assert len(replies) == len(expected) and all(
        map(matches, replies, expected)), f"{replies}\n{expected}"


def queued_ids(replies):
    return [reply.split()[-1] for reply in replies
            if reply.startswith(QUEUED)]


class Server:
    """A daemon that many rows share, and its relayhost."""

    # Over this the log sums them up for a minute.
    REJECT_LINES = 100

    def __init__(self, directory, authority, *, listen="", **options):
        # Dots are stuffed for DATA only.
        self.host = Relayhost(authority, tls="none", extensions=[
            "PIPELINING", "SIZE 104857600", "8BITMIME", "SMTPUTF8"])
        self.daemon = Daemon(
            directory, self.host, trace=False, **options,
            relay={"tls": "none", "tls_ca_file": None, "user": None,
                   "password_file": None})
        with self.daemon.file.open("a") as file:
            file.write(listen)
        self.daemon.start()
        self._sources = (f"127.9.{n // 250}.{n % 250 + 1}"
                         for n in itertools.count())
        self._rejected = 0

    def close(self):
        assert self.daemon.stop() == 0, self.daemon.log[-20:]
        assert not any("runtime error" in line or "Sanitizer" in line
                       for line in self.daemon.log)
        self.host.stop()

    def address(self, via):
        if via == "unix":
            return self.daemon.socket
        host = {"tcp": "127.0.0.1", "reject": "127.0.0.2",
                "stranger": "127.0.0.3"}[via]
        pattern = rf"listening on {re.escape(host)}:(\d+)"
        return host, int(self.daemon.wait_log(
            pattern, self.daemon._starts)[1])

    def settle(self):
        """All that has been said is done, and in the log.  Where it ends."""
        source = next(self._sources)
        assert_replies(converse(self.address("tcp"), b"NOOP\r\n" + QUIT,
                                source), ["220", OK, BYE])
        self.daemon.wait_log(
            rf"disconnect from localhost\[{re.escape(source)}\]")
        return len(self.daemon.log)

    def begin(self):
        """Where the log of what follows begins."""
        if self._rejected > self.REJECT_LINES - 25:
            assert self.daemon.stop() == 0
            self.daemon.start()
            self._rejected = 0
        return self.settle()

    def since(self, mark):
        self.settle()
        return self.daemon.log[mark:]

    def arrived(self, ids, count=1):
        """The messages that the relayhost has of each id, in order."""
        def of(name):
            return [message for message in self.host.messages
                    if f" id {name}".encode() in message.header]
        self.host.wait(lambda: all(len(of(one)) >= count for one in ids),
                       f"the arrival of {ids}")
        return [of(one) for one in ids]

    def assert_nothing_else(self, lines, ids):
        """No message but these; nothing is left of any other."""
        queued = [match[1] for line in lines if (match := re.search(
            r"qmgr\[\d+\]: (\w+): from=.*\(queue active\)", line))]
        assert queued == ids, lines
        assert not list((self.daemon.spool / "tmp").iterdir())

    def assert_logged(self, lines, replies, log=None):
        """One line for each refusal, and for hanging up."""
        refusals = [reply for reply in replies if reply[0] in "45"]
        if log is not None:
            refusals.pop()
            assert [line for line in lines if f": {log} after " in line], lines
        told = [match[1] for line in lines if (match := re.search(
            r"(?:smtpd|pickup)\[\d+\]: \w+: reject: [A-Z]+ from [^:]+: "
            r"(.*?); .*helo=<.*>$", line))]
        assert told == refusals, lines
        assert all(line.isascii() and line.isprintable() and
                   len(line.encode()) <= 1024 + 80 for line in lines)
        self._rejected += len(told)

    def play(self, row, via="tcp"):
        mark = self.begin()
        replies = converse(self.address(via), row.data)
        assert_replies(replies, row.expected)
        ids = queued_ids(replies)
        assert len(ids) == len(row.bodies)
        lines = self.since(mark)
        self.assert_nothing_else(lines, ids)
        self.assert_logged(lines, replies, row.log)
        for messages, body in zip(self.arrived(ids), row.bodies):
            message, = messages
            if callable(body):
                body(message)
            else:
                assert message.body == body
            assert message.recipients == list(row.to or ("c@d.example",))
        return lines
