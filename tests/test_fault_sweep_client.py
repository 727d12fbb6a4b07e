"""Each system call of a program that hands over mail fails in each way: of
sendmail, and of the relayd that it runs while there is no daemon.  It says that
it is done only when the spool has the message, whole."""

import collections
import contextlib
import itertools
import os
import re
import subprocess
import sys

import pytest

import sweep
from dialogue import HELLO, QUIT, bdat
from harness import BIN, TIMEOUT, private

# The sanitizers end a process when a call of their own fails.
pytestmark = [pytest.mark.root, pytest.mark.unsanitized]

SAMPLE = 12     # faults of each way in "make check"
TO = "good@example.org"
BODY = "".join(f"line {number} of {{0}}\r\n" for number in range(100))
LARGE = 800     # times that is more than sendmail keeps in memory
# What may be said of a fault: try again, or have it looked at (sysexits.h).
# None says that it is the mail that is bad.
FAILURES = {66, 71, 73, 74, 75, 77, 78}
# The first thing that a program does of its own.
SENDMAIL, RELAYD = "/dev/null", "relayd.conf"


class Hand:
    """Runs the program, each time with a message of its own."""

    def __init__(self, make_daemon, host, way):
        host.stop()     # what comes stays
        self.daemon = make_daemon(trace=False)
        self.way, self.numbers = WAYS[way], itertools.count()
        self.trace = self.daemon.directory / "trace"
        self.since = RELAYD if way == "stdio" else SENDMAIL
        self.scratch = self.daemon.directory / "private"
        self.scratch.mkdir()
        if way not in ("stdio", "alone"):
            self.daemon.start()
        self.times = LARGE if way == "large" else 1
        self.codes, self.stored = collections.Counter(), collections.Counter()
        self.injected = 0

    def text(self):
        body = self.times * BODY.format(self.name)
        return f"Subject: {self.name}\n\n{body}".replace("\r", "").encode()

    def sendmail(self, *arguments, data=None, **more):
        return self.run(BIN / "sendmail", "-f", f"{self.name}@example.com",
                        *(arguments or (TO,)),
                        data=self.text() if data is None else data, **more)

    def header(self):
        return self.sendmail("-t", data=f"To: {TO}\n".encode() + self.text())

    def alone(self):
        """root's sendmail runs relayd, which has the usual configuration."""
        return self.sendmail(within=lambda command: private(
            self.scratch, ["sh", "-euc", "mkdir -p /etc/relayd; cp \"$0\" "
                           "/etc/relayd/relayd.conf; exec \"$@\"",
                           self.daemon.file, *command]), RELAYD_SOCKET="")

    def smtp(self):
        return self.run(BIN / "sendmail", "-bs", data=self.dialogue())

    def stdio(self):
        return self.run(BIN / "relayd", "-f", self.daemon.file, "--stdio",
                        data=self.dialogue())

    def dialogue(self):
        return HELLO + (f"MAIL FROM:<{self.name}@example.com>\r\n"
                        f"RCPT TO:<{TO}>\r\n").encode() + \
            bdat(self.text().replace(b"\n", b"\r\n")) + QUIT

    def run(self, *command, data, within=lambda command: command,
            **environment):
        """Returns whether it says that the message is accepted."""
        done = subprocess.run(
            within(["strace", "-y", "-o", self.trace, *self.options,
                    *command]),
            input=data, capture_output=True, timeout=TIMEOUT,
            env={"PATH": os.environ["PATH"], "RELAYD_WAIT": "0",
                 "TMPDIR": str(self.daemon.directory),
                 "RELAYD_SOCKET": str(self.daemon.socket), **environment})
        assert done.returncode in {0} | FAILURES, done
        self.codes[done.returncode] += 1
        if self.way in (Hand.smtp, Hand.stdio):
            return b"queued as" in done.stdout
        return done.returncode == 0

    def hand_over(self, *options):
        self.name = f"m{next(self.numbers)}"
        self.options = options
        accepted = self.way(self)
        self.take_stored()
        assert self.stored[self.name] == 1 if accepted else \
            max(self.stored.values(), default=0) <= 1, self.stored
        return accepted

    def take_stored(self):
        """Counts what is there, and takes it away.  Each is whole; it may be
        one that has been given up while relayd still had it in hand."""
        for place in "new", "cur":
            for id_ in self.daemon.queued(place):
                path = self.daemon.spool / place / id_
                with contextlib.suppress(FileNotFoundError):    # now in cur/
                    text = path.read_text()
                    path.unlink()
                    name = re.search(r"\nSubject: (\w+)\n", text)[1]
                    body = BODY.format(name).replace("\r", "")
                    assert text.count(self.times * body) == 1
                    self.stored[name] += 1

    def at(self, point, error):
        try:
            accepted = self.hand_over(sweep.at(point, f"error={error}"))
            line = sweep.injection(self.trace)
            assert accepted or line
        except AssertionError as failure:
            raise AssertionError(
                f"{point} {error}: {failure}\n" +
                "\n".join(self.daemon.log[-40:])) from failure
        self.injected += line is not None

    def everywhere(self, choose):
        assert self.hand_over()
        every = [point for point in sweep.points(self.trace, self.since)
                 if point[0] not in sweep.CANNOT_FAIL]
        for point, error in choose(itertools.product(every, sweep.ERRNOS)):
            self.at(point, error)
        assert self.hand_over()
        assert not list((self.daemon.spool / "tmp").iterdir())
        print(f"{len(every)} calls, {self.injected} faults; status: "
              f"{dict(self.codes)}")
        assert self.injected


WAYS = {
    "arguments": Hand.sendmail,
    "header": Hand.header,
    "large": Hand.sendmail,
    "alone": Hand.alone,
    "smtp": Hand.smtp,
    "stdio": Hand.stdio,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_sample_of_handing_over(make_daemon, host, way):
    Hand(make_daemon, host, way).everywhere(
        lambda every: sweep.choose(list(every), SAMPLE))


def test_smtp_mode_ends_when_relayd_cannot_be_written_to(make_daemon, host):
    hand = Hand(make_daemon, host, "smtp")
    hand.at(("write", 1), "EIO")
    assert hand.codes == {74: 1} and not hand.stored


@pytest.mark.sweep
@pytest.mark.parametrize("way", WAYS)
def test_all_of_handing_over(make_daemon, host, way, record_property):
    hand = Hand(make_daemon, host, way)
    hand.everywhere(list)
    record_property("points", hand.injected)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
