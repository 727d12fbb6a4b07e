"""A daemon and its relayhost for a whole table of bad input, and what to
expect of each row."""

import contextlib
import dataclasses
import pathlib
import shutil
import socket
import tempfile

import pytest

from harness import PASSWORD, TIMEOUT, USER, Daemon, crlf
from relayhost import Relayhost

TEXT = b"From: a@b.example\nTo: c@d.example\nSubject: x\n\nbody\n"
ROOT_MAIL = "you@example.com"   # what aliases make of root


@dataclasses.dataclass
class Arrival:
    """What is to arrive at the relayhost.

    has, lacks   octets in the header, lines with their CRLF: a field that
                 begins with CRLF is one of its own
    body         with CRLF
    """

    to: tuple = (ROOT_MAIL,)
    sender: str = None
    has: tuple = ()
    lacks: tuple = ()
    body: bytes = None


class Station:
    def __init__(self, host, daemon):
        self.host, self.daemon, self.seen = host, daemon, 0

    def assert_arrives(self, wanted):
        """The next message, which is all that has come since the last."""
        message = self.host.wait_messages(self.seen + 1)[self.seen]
        self.seen += 1
        assert sorted(message.recipients) == sorted(wanted.to)
        if wanted.sender is not None:
            assert message.sender == wanted.sender
        header = b"\r\n" + message.header
        for text in wanted.has:
            assert text in header, header
        for text in wanted.lacks:
            assert text.lower() not in header.lower(), header
        assert message.data.count(b"\r") == message.data.count(b"\n") == \
            message.data.count(b"\r\n")
        if wanted.body is not None:
            assert message.body == wanted.body
        return message

    def assert_nothing(self):
        """Nothing came; whether it will, finish() sees."""
        assert not self.daemon.queued("tmp")
        assert len(self.host.messages) == self.seen

    def finish(self):
        assert self.daemon.stop() in (None, 0), self.daemon.log[-20:]
        assert len(self.host.messages) == self.seen
        assert not self.daemon.queued()

    def data(self, text, to="c@d.example", sender="a@b.example"):
        """Hand text over by DATA; returns the last reply."""
        lines = [b"EHLO test", b"MAIL FROM:<%s>" % sender.encode(),
                 b"RCPT TO:<%s>" % to.encode(), b"DATA"]
        text = (b"\r\n" + crlf(text)).replace(b"\r\n.", b"\r\n..")[2:]
        with socket.create_connection(("127.0.0.1", self.daemon.port),
                                      TIMEOUT) as sock, \
                sock.makefile("rwb") as peer:
            def reply():
                while (line := peer.readline())[3:4] == b"-":
                    pass
                return line.decode()

            assert reply().startswith("220")
            for line in lines:
                peer.write(line + b"\r\n")
                peer.flush()
                assert reply()[0] in "23"
            peer.write(text + (b"" if text.endswith(b"\r\n") or not text
                               else b"\r\n") + b".\r\n")
            peer.flush()
            answer = reply()
            peer.write(b"QUIT\r\n")
            peer.flush()
            reply()
        return answer


@contextlib.contextmanager
def serve(authority, **options):
    """A station; senders arrive as they are, completed at most."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="relayd-test-"))
    directory.chmod(0o755)
    options.setdefault("top", {"from_mode": "missing",
                               "from": "alerts@example.com"})
    with Relayhost(authority, users={USER: PASSWORD}) as host:
        station = Station(host, Daemon(directory, host, trace=False,
                                       **options).start())
        yield station
        station.finish()
    shutil.rmtree(directory)


def by_id(cases):
    return [pytest.param(case, id=case.id) for case in cases]
