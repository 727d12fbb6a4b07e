"""relayd is killed at each system call of what it does with a message.  After
each it starts again and takes mail; nothing that was acknowledged is lost or
damaged; and sent again is only what it had not recorded as sent."""

import collections
import itertools
import re
import signal
import smtplib
import subprocess
import sys

import pytest

import sweep
from dialogue import HELLO, QUIT, bdat, connect
from harness import BIN, TIMEOUT

pytestmark = pytest.mark.root

SAMPLE = 5  # points of each action in "make check"
NO_LEAK_CHECK = "detect_leaks=0"    # it does not work under strace
ONE, TWO = TO = ("one@example.org", "two@example.org")
BODY = "".join(f"line {number} of {{0}}\r\n" for number in range(100))


class Case:
    """One message, and what its client and the operator were told of it."""

    def __init__(self, daemon, host, number):
        self.daemon, self.host = daemon, host
        self.name, self.sender = f"m{number}", f"from{number}@example.com"
        self.body = BODY.format(self.name)
        self.id = None          # as which it was acknowledged
        self.obeyed = False     # relayctl's verb was
        self.lines = len(daemon.log)

    @property
    def text(self):
        return f"Subject: {self.name}\r\n\r\n{self.body}"

    def until(self, pattern, count=1):
        """So many lines of its time match, or the daemon has ended."""
        def found():
            return [match for line in self.daemon.log[self.lines:]
                    if (match := re.search(pattern, line))]
        self.daemon.wait(lambda: self.daemon.ended or len(found()) >= count)
        return found()

    def relayctl(self, *arguments):
        return self.daemon.relayctl(*arguments).returncode == 0

    # What goes before: the relayhost is down.

    def queued(self):
        self.sendmail()
        self.until("relay test is paused")

    def held(self):
        self.queued()
        assert self.relayctl("hold", self.id)

    def deferred(self):
        self.host.fault("RCPT", "450 4.2.1 later", match=TWO)
        self.host.start()
        self.sendmail()
        self.until(f"{self.id}: to=<{TWO}>.*status=deferred")

    # What is done while it is killed.

    def smtp(self):
        try:
            with smtplib.SMTP("127.0.0.1", self.daemon.port) as client:
                client.sendmail(self.sender, TO, self.text)
        except (OSError, smtplib.SMTPException):
            return
        self.id, = self.until(r"(\w+): from=.*queue active")[-1].groups()

    def sendmail(self):
        done = self.daemon.sendmail("-f", self.sender, *TO, RELAYD_WAIT="0",
                                    data=self.text.encode())
        assert done.returncode in (0, 75), done
        if done.returncode == 0:
            self.id, = self.until(r"(\w+): from=.*queue active")[-1].groups()

    def large(self):
        """Too much to be kept in memory."""
        self.body *= 400
        self.smtp()

    def stdio(self, *options):
        """As root's sendmail does when there is no daemon."""
        text = self.text.encode()
        done = subprocess.run(
            ["strace", "-E", f"ASAN_OPTIONS={NO_LEAK_CHECK}", *options,
             BIN / "relayd", "-f", self.daemon.file, "--stdio"],
            capture_output=True, timeout=TIMEOUT, input=b"".join([
                 HELLO, f"MAIL FROM:<{self.sender}>\r\n".encode(),
                 *(f"RCPT TO:<{one}>\r\n".encode() for one in TO),
                 bdat(text), QUIT]))
        queued = re.search(rb"queued as (\w+)", done.stdout)
        self.id = queued and queued[1].decode()
        assert self.id or done.returncode
        return done.returncode == -signal.SIGKILL

    def flush(self, *faults):
        for fault in faults:
            self.host.fault("RCPT", fault, match=TWO)
        self.host.start()
        self.relayctl("flush")

    def deliver(self):
        self.flush()
        self.until(f"{self.id}: removed")

    def defer(self):
        self.flush("450 4.2.1 later")
        self.until(f"{self.id}: to=<{TWO}>.*status=deferred \\(450")

    def retry(self):
        self.relayctl("flush")
        self.until(f"{self.id}: to=<{TWO}>.*status=deferred", 2)

    def bounce(self):
        self.flush("550 5.1.1 unknown")
        found = self.until(f"{self.id}: sender non-delivery notification: "
                           r"(\w+)")
        if found:
            self.until(f"{found[0][1]}: removed")

    def hold(self):
        self.obeyed = self.relayctl("hold", self.id)

    def release(self):
        self.obeyed = self.relayctl("release", self.id)

    def delete(self):
        self.obeyed = self.relayctl("delete", self.id)

    # What is known of it.

    def arrived(self):
        return collections.Counter(
            one for message in self.host.messages
            if message.sender == self.sender for one in message.recipients)

    def reports(self):
        return sum(message.recipients == [self.sender]
                   for message in self.host.messages)

    def waiting(self):
        """Its recipients that the spool says are still to be sent to."""
        files = [(self.daemon.spool / place / name).read_text()
                 for place in ("new", "cur", "hold", "failed")
                 for name in self.daemon.queued(place)]
        return {address for text in files
                if f"\nsender\t{self.sender}\n" in text
                for address in re.findall(r"\nrcpt\t-\t([^\t]+)", text)}


# The action, and what goes before it.
ACTIONS = {
    "smtp": (Case.smtp, None),
    "sendmail": (Case.sendmail, None),
    "stdio": (Case.stdio, None),
    "large": (Case.large, None),
    "deliver": (Case.deliver, Case.queued),
    "defer": (Case.defer, Case.queued),
    "retry": (Case.retry, Case.deferred),
    "bounce": (Case.bounce, Case.queued),
    "hold": (Case.hold, Case.queued),
    "release": (Case.release, Case.held),
    "delete": (Case.delete, Case.queued),
}


class Site:
    """A daemon and a relayhost that is down between the actions."""

    def __init__(self, daemon, host):
        self.daemon, self.host = daemon, host
        self.numbers = itertools.count()
        self.kills = self.repeated = 0
        host.stop()
        daemon.start()

    def do(self, action, *options, output="/dev/null"):
        """The action under strace; returns whether it was killed."""
        case = Case(self.daemon, self.host, next(self.numbers))
        act, prepare = ACTIONS[action]
        if prepare:
            prepare(case)
        if act is Case.stdio:
            self.daemon.stop()
            killed = act(case, *options, "-o", output)
        else:
            with sweep.attached(self.daemon.process.pid, *options,
                                output=output):
                act(case)
            if killed := not self.greets():
                self.daemon.expect_killed()
                self.host.wait_ended(0)
        self.kills += killed
        arrived, waiting = case.arrived(), case.waiting()
        self.host.mend()
        if self.daemon.ended:
            self.daemon.start()
        self.finish(case, action)
        self.judge(case, action, {one for one in waiting if arrived[one]})
        assert killed or not self.repeated_by(case)
        self.host.stop()
        self.host.messages.clear()
        self.host.sessions.clear()
        return killed

    def greets(self):
        """Or has it been killed, though its parent need not know yet?"""
        try:
            with connect(self.daemon.socket) as sock:
                return sock.recv(4) == b"220 "
        except OSError:
            return False

    def finish(self, case, action):
        """Mail is taken, and then all that there is leaves."""
        probe = self.daemon.sendmail("probe@example.org", RELAYD_WAIT="0",
                                     data=b"Subject: probe\n\nprobe\n")
        assert probe.returncode == 0, probe
        on_hold = self.daemon.queued("hold")
        assert on_hold in ([], [case.id])
        if case.obeyed:
            assert bool(on_hold) == (action == "hold")
        if on_hold:
            assert case.relayctl("release", case.id)
        if not self.host.listening:
            self.host.start()
        assert case.relayctl("flush")
        self.daemon.wait(lambda: not self.daemon.queued())
        assert not list((self.daemon.spool / "tmp").iterdir())

    def repeated_by(self, case):
        return [one for one, times in case.arrived().items() if times > 1]

    def judge(self, case, action, outstanding):
        """outstanding: those who had it, though no record said so."""
        arrived, reports = case.arrived(), case.reports()
        self.repeated += len(self.repeated_by(case)) + (reports == 2)
        assert sum(message.recipients == ["probe@example.org"]
                   for message in self.host.messages) == 1
        for message in self.host.messages:
            if message.sender == case.sender:
                assert message.body == case.body.encode()
        for one in TO:
            assert arrived[one] <= 1 + (one in outstanding), (one, arrived)
        if action == "delete" and case.obeyed:
            assert not arrived
        elif case.id and action != "delete":
            assert arrived[ONE] and (arrived[TWO] or reports)
        assert reports <= (2 if action == "bounce" else 0)


@pytest.fixture
def site(make_daemon, host):
    return Site(make_daemon(trace=False, relay={
        "host": "127.0.0.1", "connections": 1}), host)


def record(site, action):
    trace = site.daemon.directory / "trace"
    assert not site.do(action, output=trace)
    return sweep.points(trace)


def kill(site, action, point):
    try:
        return site.do(action, sweep.at(point, "signal=KILL"))
    except AssertionError as error:
        raise AssertionError(f"{action} killed at {point}:\n" + "\n".join(
            site.daemon.log[-60:])) from error


@pytest.mark.parametrize("action", ACTIONS)
def test_H18_J12_a_sample(site, action):
    for point in sweep.choose(record(site, action), SAMPLE):
        kill(site, action, point)
    assert site.kills


@pytest.mark.sweep
@pytest.mark.parametrize("action", ACTIONS)
def test_H18_J12_every_point(site, action):
    """Of each call until there is no other of its name."""
    recorded = collections.Counter(name for name, _ in record(site, action))
    for name, count in recorded.items():
        for number in itertools.count(1):
            if not kill(site, action, (name, number)) and number > count:
                break
    print(f"{action}: {site.kills} points, {site.repeated} sent again")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
