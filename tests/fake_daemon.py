"""A scripted daemon on a unix socket, and how sendmail is called there."""

import dataclasses
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import threading

import pytest

from harness import BIN

SENDMAIL = str(BIN / "sendmail")
LOGIN = pwd.getpwuid(os.getuid()).pw_name
GREETING = "220 test ESMTP"
EHLO = ("250-test\r\n250-PIPELINING\r\n250-SIZE 10000000\r\n250-8BITMIME\r\n"
        "250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250 CHUNKING")

OK, USAGE, DATAERR, NOINPUT, NOUSER, UNAVAILABLE = 0, 64, 65, 66, 67, 69
OSERR, IOERR, TEMPFAIL, NOPERM, CONFIG = 71, 74, 75, 77, 78


class HangUp(Exception):
    """The script closes the connection."""


class FakeDaemon(threading.Thread):
    """Answers each command by its verb; remembers lines and contents.

    A reply is a string, bytes as they are, an iterator of such bytes, a
    function of the line, or None to hang up.
    """

    def __init__(self, path, **replies):
        super().__init__(daemon=True)
        self.path = path
        self.replies = {"GREETING": GREETING, "EHLO": EHLO, **replies}
        self.lines, self.contents = [], []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(64)
        self.start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            try:
                with connection, connection.makefile("rwb") as peer:
                    self.serve(peer)
            except (HangUp, OSError):
                pass  # the client does not wait for the reply to QUIT

    def answer(self, peer, verb, line):
        reply = self.replies.get(verb, "250 2.0.0 ok")
        if callable(reply):
            reply = reply(line)
        if reply is None:
            raise HangUp
        if isinstance(reply, str):
            reply = reply.encode() + b"\r\n"
        for piece in [reply] if isinstance(reply, bytes) else reply:
            peer.write(piece)
            peer.flush()

    def serve(self, peer):
        self.answer(peer, "GREETING", "")
        while line := peer.readline():
            line = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
            self.lines.append(line)
            verb, _, rest = line.partition(" ")
            if verb == "BDAT":
                if "EARLY" in self.replies:
                    self.answer(peer, "EARLY", line)
                self.contents.append(peer.read(int(rest.split()[0])))
            self.answer(peer, verb, line)
            if verb == "QUIT":
                return

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.join()

    @property
    def sender(self):
        return next(line for line in self.lines if line.startswith("MAIL"))

    @property
    def recipients(self):
        return [line[9:-1] for line in self.lines if line.startswith("RCPT")]


@dataclasses.dataclass
class Place:
    """A socket's path and how to call sendmail there."""

    path: pathlib.Path
    daemon: FakeDaemon = None

    def serve(self, **replies):
        self.daemon = FakeDaemon(self.path / "submit.sock", **replies)
        return self.daemon

    def run(self, *arguments, program=SENDMAIL, text=b"Subject: x\n\nbody\n",
            env=(), **more):
        if "stdin" not in more:
            more["input"] = text
        return subprocess.run(
            [program, *arguments], capture_output=True, timeout=60,
            check=False, env={"PATH": os.environ["PATH"],
                              "TMPDIR": str(self.path), "RELAYD_WAIT": "0",
                              "RELAYD_SOCKET": str(self.path / "submit.sock"),
                              **dict(env)}, **more)


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    if place.daemon:
        place.daemon.stop()


@pytest.fixture
def alone(place):
    """A sendmail that has no other program of ours beside it."""
    (place.path / "bin").mkdir()
    return shutil.copy(SENDMAIL, place.path / "bin")


def assert_nothing_sent(place):
    assert place.daemon.contents == []
    assert not any(line.startswith("BDAT") for line in place.daemon.lines)


def namespaces(*options):
    """unshare with these options, where this machine lets us."""
    command = ["unshare", "--user", *options]
    if subprocess.run([*command, "true"], check=False,
                      stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip("no user namespaces here")
    return command


def run_with_passwd(place, entry, getent="exit 2", become=()):
    """Run sendmail as the root of a namespace that has this passwd file, and
    this script instead of getent; or as whom it has become."""
    (place.path / "passwd").write_text(entry + "\n", encoding="utf-8")
    (place.path / "getent").write_text(f"#!/bin/sh\n{getent}\n",
                                       encoding="utf-8")
    (place.path / "getent").chmod(0o755)
    command = namespaces("--mount", "--map-root-user")
    script = ('mount --bind "$0/passwd" /etc/passwd && '
              'mount --bind "$0/getent" /usr/bin/getent && exec "$@"')
    return place.run(*command[1:], "sh", "-c", script, str(place.path),
                     *become, SENDMAIL, "x", program=command[0], text=b"\n")


def as_user(command):
    """Arguments for unshare to run this as a user without an entry."""
    return namespaces("--map-user=12345", "--map-group=12345")[1:] + command
