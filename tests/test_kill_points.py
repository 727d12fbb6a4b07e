"""relayd is killed at each system call of what it does with a message, and
sendmail of handing one over.  After each relayd starts again and takes mail;
nothing that was acknowledged is lost or damaged; and sent again is only what it
had not recorded as sent."""

import collections
import dataclasses
import itertools
import os
import re
import signal
import smtplib
import subprocess
import sys

import pytest

import spool_file
import sweep
from dialogue import HELLO, QUIT, bdat, connect
from harness import BIN, PASSWORD, TIMEOUT, USER
from relayhost import Relayhost

pytestmark = pytest.mark.root

SAMPLE = 5  # points of each action in "make check"
NO_LEAK_CHECK = "detect_leaks=0"    # it does not work under strace
ONE, TWO = TO = ("one@example.org", "two@example.org")
MANY = (*TO, *(f"two-{number}@example.org" for number in range(3)))
OTHERS = "two"      # all but the first; they fare worse
BODY = "".join(f"line {number} of {{0}}\r\n" for number in range(100))


class Case:
    """One message, and what its client and the operator were told of it."""

    def __init__(self, site, number, to):
        self.daemon, self.host, self.second = \
            site.daemon, site.host, site.second
        self.to = to
        self.name, self.sender = f"m{number}", f"from{number}@example.com"
        self.body = BODY.format(self.name)
        self.id = None          # as which it was acknowledged
        self.obeyed = False     # relayctl's verb was
        self.lines = len(self.daemon.log)

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

    # What goes before: no relayhost is up.

    def queued(self):
        self.sendmail()
        for host in "test", "second" if self.second else "test":
            self.until(f"relay {host} is paused")

    def held(self):
        self.queued()
        assert self.relayctl("hold", self.id)

    def deferred(self):
        self.host.fault("RCPT", "450 4.2.1 later", match=OTHERS)
        self.host.start()
        self.sendmail()
        self.until_deferred()

    def down(self):
        assert self.daemon.stop() == 0

    def left(self):
        """To a daemon that is down."""
        self.queued()
        self.down()

    def old(self):
        """It arrived two days ago."""
        self.left()
        path, = self.daemon.spool.glob(f"[nc]*/{self.id}")  # new/ or cur/
        path.write_bytes(spool_file.aged(path.read_bytes(), 2 * 24 * 3600))
        self.daemon.start()
        self.until("relay test is paused", 2)

    # What is done while it is killed.

    def smtp(self):
        try:
            with smtplib.SMTP("127.0.0.1", self.daemon.port) as client:
                client.sendmail(self.sender, self.to, self.text)
        except (OSError, smtplib.SMTPException):
            return
        self.id, = self.until(r"(\w+): from=.*queue active")[-1].groups()

    def sendmail(self):
        done = self.daemon.sendmail("-f", self.sender, *self.to,
                                    RELAYD_WAIT="0", data=self.text.encode())
        assert done.returncode in (0, 75), done
        if done.returncode == 0:
            self.id, = self.until(r"(\w+): from=.*queue active")[-1].groups()

    def large(self):
        """Too much to be kept in memory."""
        self.body *= 400
        self.smtp()

    def stdio(self, *options):
        """As root's sendmail does when there is no daemon."""
        done = self.traced(options, BIN / "relayd", "-f", self.daemon.file,
                           "--stdio", data=b"".join([
                               HELLO, b"MAIL FROM:<%s>\r\n" %
                               self.sender.encode(),
                               *(b"RCPT TO:<%s>\r\n" % one.encode()
                                 for one in self.to),
                               bdat(self.text.encode()), QUIT]))
        queued = re.search(rb"queued as (\w+)", done.stdout)
        self.id = queued and queued[1].decode()
        assert self.id or done.returncode
        return done.returncode == -signal.SIGKILL

    def client(self, *options):
        """The daemon stays; it is sendmail that is killed."""
        done = self.traced(options, BIN / "sendmail", "-f", self.sender,
                           *self.to, data=self.text.encode())
        if done.returncode == 0:
            self.id, = self.until(r"(\w+): from=.*queue active")[-1].groups()
        return done.returncode == -signal.SIGKILL

    def large_client(self, *options):
        """More than it keeps in memory."""
        self.body *= 400
        return self.client(*options)

    def traced(self, options, *command, data):
        return subprocess.run(
            ["strace", "-E", f"ASAN_OPTIONS={NO_LEAK_CHECK}", *options,
             *command], capture_output=True, timeout=TIMEOUT, input=data,
            env={**os.environ, "RELAYD_WAIT": "0",
                 "RELAYD_SOCKET": str(self.daemon.socket)})

    def begin(self, *options):
        """The daemon's start, until it has tried what it has found."""
        self.daemon.wrapper = (
            "strace", "-D", "-E", f"ASAN_OPTIONS={NO_LEAK_CHECK}", *options)
        try:
            self.daemon.start()
        except AssertionError:
            if self.daemon.process.returncode != -signal.SIGKILL:
                raise
        self.daemon.wrapper = ()
        self.until("relay test is paused", 2)
        return self.stopped() == -signal.SIGKILL

    def stopped(self):
        self.daemon.process.terminate()
        return self.daemon.wait_end()

    def flush(self, *faults):
        for fault in faults:
            self.host.fault("RCPT", fault, match=OTHERS)
        self.host.start()
        self.relayctl("flush")

    def until_deferred(self, times=1):
        self.until(f"{self.id}: to=<{OTHERS}.*status=deferred \\(450",
                   times * (len(self.to) - 1))

    def deliver(self):
        self.flush()
        self.until(f"{self.id}: removed")

    def defer(self):
        self.flush("450 4.2.1 later")
        self.until_deferred()

    def retry(self):
        self.relayctl("flush")
        self.until_deferred(2)

    def warn(self):
        self.flush("450 4.2.1 later")
        self.until_reported("delay")

    def bounce(self):
        self.flush("550 5.1.1 unknown")
        self.until_reported("non-delivery")

    def until_reported(self, what):
        found = self.until(f"{self.id}: sender {what} notification: "
                           r"(\w+)")
        if found:
            self.until(f"{found[0][1]}: removed")

    def other_way(self):
        self.second.start()
        self.flush()
        self.until(f"{self.id}: removed")

    def turned_away(self):
        """By one, in the midst of it, to the other."""
        self.host.fault("MAIL", "421 4.3.2 closing", then="close")
        self.other_way()

    def stop(self):
        self.deliver()
        self.stopped()

    def reload(self):
        self.daemon.reload()
        self.until(" reloaded ")

    def hold(self):
        self.obeyed = self.relayctl("hold", self.id)

    def release(self):
        self.obeyed = self.relayctl("release", self.id)

    def requeue(self):
        self.obeyed = self.relayctl("requeue", self.id)

    def give_up(self):
        self.obeyed = self.relayctl("bounce", self.id)

    def delete(self):
        self.obeyed = self.relayctl("delete", self.id)

    # What is known of it.

    def messages(self):
        return [message for host in (self.host, self.second) if host
                for message in host.messages]

    def arrived(self):
        return collections.Counter(
            one for message in self.messages()
            if message.sender == self.sender for one in message.recipients)

    def reports(self):
        return sum(message.recipients == [self.sender]
                   for message in self.messages())

    def waiting(self):
        """Its recipients that the spool says are still to be sent to."""
        files = [(self.daemon.spool / place / name).read_text()
                 for place in ("new", "cur", "hold", "failed")
                 for name in self.daemon.queued(place)]
        return {address for text in files
                if f"\nsender\t{self.sender}\n" in text
                for address in re.findall(r"\nrcpt\t-\t([^\t]+)", text)}


@dataclasses.dataclass
class Action:
    """act    returns, where it is a program's own run that is traced, whether
           this was killed
    before    what goes before
    traced    act runs the program under strace itself
    since     what its first call has that counts
    reports   to the sender
    returned  they may say that somebody does not get it
    """
    act: object
    before: object = None
    traced: bool = False
    since: str = ""
    to: tuple = TO
    reports: int = 0
    returned: bool = False
    failover: bool = False
    top: dict = dataclasses.field(default_factory=dict)
    relay: dict = dataclasses.field(default_factory=dict)


CONFIGURED, STARTED = "relayd.conf", "/dev/null"
ACTIONS = {
    "smtp": Action(Case.smtp),
    "smtp-many": Action(Case.smtp, to=MANY),
    "sendmail": Action(Case.sendmail),
    "large": Action(Case.large),
    "stdio": Action(Case.stdio, Case.down, traced=True, since=CONFIGURED),
    "client": Action(Case.client, traced=True, since=STARTED),
    "large-client": Action(Case.large_client, traced=True, since=STARTED),
    "deliver": Action(Case.deliver, Case.queued),
    "defer": Action(Case.defer, Case.queued),
    "defer-many": Action(Case.defer, Case.queued, to=MANY),
    "retry": Action(Case.retry, Case.deferred),
    "retry-many": Action(Case.retry, Case.deferred, to=MANY),
    "warn": Action(Case.warn, Case.old, reports=1,
                   top={"delay_warning": "1d"}),
    "bounce": Action(Case.bounce, Case.queued, reports=1, returned=True),
    "other-way": Action(Case.other_way, Case.queued, failover=True),
    "turned-away": Action(Case.turned_away, Case.queued, failover=True),
    "hold": Action(Case.hold, Case.queued),
    "release": Action(Case.release, Case.held),
    "requeue": Action(Case.requeue, Case.queued),
    "give-up": Action(Case.give_up, Case.queued, reports=1, returned=True),
    "delete": Action(Case.delete, Case.queued),
    "reload": Action(Case.reload, Case.queued),
    "begin": Action(Case.begin, Case.left, traced=True, since=CONFIGURED),
    # With the count of the day, too.
    "stop": Action(Case.stop, Case.queued, relay={"daily": 10**6}),
}


class Site:
    """A daemon and relayhosts that are down between the actions."""

    def __init__(self, make_daemon, host, second, name):
        self.name, self.action = name, ACTIONS[name]
        self.host = host
        self.second = second if self.action.failover else None
        self.hosts = [host, second] if self.second else [host]
        clear = {"host": "127.0.0.1", "connections": 1}
        self.daemon = make_daemon(
            trace=False, top=self.action.top,
            relay={**clear, **self.action.relay},
            relays=[("second", second, clear)] if self.second else ())
        self.numbers = itertools.count()
        self.kills = self.repeated = 0
        for one in self.hosts:
            one.stop()
        self.daemon.start()

    def do(self, *options, output="/dev/null"):
        """The action under strace; returns whether it was killed."""
        case = Case(self, next(self.numbers), self.action.to)
        if self.action.before:
            self.action.before(case)
        if self.action.traced:
            killed = self.action.act(case, "-o", output, *options)
        else:
            with sweep.attached(self.daemon.process.pid, *options,
                                output=output):
                self.action.act(case)
            killed = not self.greets() and \
                self.daemon.wait_end() == -signal.SIGKILL
        if self.daemon.ended:
            for host in self.hosts:
                host.wait_ended(0)
        self.kills += killed
        arrived, waiting = case.arrived(), case.waiting()
        for host in self.hosts:
            host.mend()
        if self.daemon.ended:
            self.daemon.start()
        self.finish(case)
        self.judge(case, killed, {one for one in waiting if arrived[one]})
        for host in self.hosts:
            host.stop()
            host.messages.clear()
            host.sessions.clear()
        return killed

    def greets(self):
        """Or has it been killed, though its parent need not know yet?"""
        try:
            with connect(self.daemon.socket) as sock:
                return sock.recv(4) == b"220 "
        except OSError:
            return False

    def finish(self, case):
        """Mail is taken, and then all that there is leaves."""
        probe = self.daemon.sendmail("probe@example.org", RELAYD_WAIT="0",
                                     data=b"Subject: probe\n\nprobe\n")
        assert probe.returncode == 0, probe
        on_hold = self.daemon.queued("hold")
        assert on_hold in ([], [case.id])
        if case.obeyed:
            assert bool(on_hold) == (self.name == "hold")
        if on_hold:
            assert case.relayctl("release", case.id)
        for host in self.hosts:
            if not host.listening:
                host.start()
        assert case.relayctl("flush")
        self.daemon.wait(lambda: not self.daemon.queued())
        assert not list((self.daemon.spool / "tmp").iterdir())

    def judge(self, case, killed, outstanding):
        """outstanding: those who had it, though no record said so."""
        arrived, reports = case.arrived(), case.reports()
        repeated = [one for one in arrived if arrived[one] > 1]
        self.repeated += len(repeated) + (reports > self.action.reports)
        assert sum(message.recipients == ["probe@example.org"]
                   for message in case.messages()) == 1
        for message in case.messages():
            if message.sender == case.sender:
                assert message.body == case.body.encode()
        assert arrived.keys() <= set(case.to)
        for one in repeated:
            assert killed and one in outstanding and arrived[one] == 2, arrived
        assert reports <= (2 if killed else 1) * self.action.reports
        if not killed or (case.obeyed and self.action.reports):
            assert reports >= self.action.reports
        if self.name == "delete":
            assert not (arrived and case.obeyed)
        elif case.id:
            missing = set(case.to) - arrived.keys()
            assert not missing or (self.action.returned and reports)


@pytest.fixture
def make_site(make_daemon, host, authority):
    with Relayhost(authority, users={USER: PASSWORD}) as second:
        yield lambda name: Site(make_daemon, host, second, name)


def record(site):
    trace = site.daemon.directory / "trace"
    assert not site.do(output=trace)
    return sweep.points(trace, site.action.since)


def kill(site, point):
    try:
        return site.do(sweep.at(point, "signal=KILL"))
    except AssertionError as error:
        raise AssertionError(f"{site.name} killed at {point}:\n" + "\n".join(
            site.daemon.log[-60:])) from error


@pytest.mark.parametrize("name", ACTIONS)
def test_H18_J12_a_sample(make_site, name):
    site = make_site(name)
    for point in sweep.choose(record(site), SAMPLE):
        kill(site, point)
    assert site.kills


@pytest.mark.sweep
@pytest.mark.parametrize("name", ACTIONS)
def test_H18_J12_every_point(make_site, name, record_property):
    """Of each call until there is no other of its name."""
    site = make_site(name)
    recorded = record(site)
    first = {call: number for call, number in reversed(recorded)}
    last = dict(recorded)
    for call in last:
        for number in itertools.count(first[call]):
            if not kill(site, (call, number)) and number > last[call]:
                break
    print(f"{name}: {site.kills} points, {site.repeated} sent again")
    record_property("points", site.kills)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
