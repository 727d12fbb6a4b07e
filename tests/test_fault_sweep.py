"""Each system call of taking a message, and of returning one, fails in each
way.  relayd goes on, tells its client what holds, loses and leaks nothing."""

import collections
import contextlib
import itertools
import re
import smtplib
import sys
import time

import pytest

import sweep
from dialogue import (HELLO, MAIL, QUIT, RCPT, TEXT, Exchange, bdat, connect,
                      queued_ids)
from harness import TIMEOUT

# The sanitizers end a process when a call of their own fails.
pytestmark = [pytest.mark.root, pytest.mark.unsanitized]

SAMPLE = 12     # faults of each path in "make check"
FULL = ("ENOSPC", "EDQUOT")
GOOD, REFUSED = "good@example.org", "bad@example.org"
BODY = "".join(f"line {number} of {{0}}\r\n" for number in range(100))
LARGE = 200     # times that is more than relayd keeps in memory
GROUP = 20      # messages that are synced side by side


class Client:
    """Hands over messages, each of its own name and sender."""

    def __init__(self, daemon):
        self.daemon, self.times = daemon, 1
        self.numbers = itertools.count()
        self.outcome = {}   # by name: the reply's code; None: none came

    def hand_over(self, way, to=GOOD):
        """Returns the message's name."""
        name = f"m{next(self.numbers)}"
        text = f"Subject: {name}\r\n\r\n{self.body(name)}"
        self.outcome[name] = way(self, name, to, text)
        return name

    def body(self, name):
        return self.times * BODY.format(name)

    def smtp(self, name, to, text):
        code = None
        try:
            with smtplib.SMTP("127.0.0.1", self.daemon.port,
                              timeout=TIMEOUT / 4) as client:
                client.sendmail(f"{name}@example.com", [to], text)
                code = 250
        except smtplib.SMTPRecipientsRefused as refused:
            return refused.recipients[to][0]
        except smtplib.SMTPResponseException as refused:
            return code or refused.smtp_code    # after 250 it is QUIT's
        except TimeoutError as error:
            raise AssertionError("no reply") from error
        except (OSError, smtplib.SMTPServerDisconnected):
            pass
        return code

    def sendmail(self, name, to, text):
        done = self.daemon.sendmail("-f", f"{name}@example.com", to,
                                    RELAYD_WAIT="0", data=text.encode())
        if done.returncode == 0:
            return 250
        reply = re.search(rb": ([45]\d\d) \d", done.stderr)
        return reply and int(reply[1])


class Sweep:
    """A daemon that goes on from fault to fault."""

    def __init__(self, make_daemon, host, way):
        self.host, self.way = host, way
        self.daemon = make_daemon(trace=False, relay={
            "host": "127.0.0.1", "connections": 1}).start()
        self.client = Client(self.daemon)
        self.trace = self.daemon.directory / "trace"
        self.runs = self.injected = 0

    def open_descriptors(self):
        """How many of each kind, when it has noticed who has gone."""
        with connect(self.daemon.socket) as sock:
            sock.recv(4)
        return collections.Counter(
            re.sub(r"\[\d+\]|/proc/\d+|\w{12}$", "", one)
            for one in sweep.descriptors(self.daemon.process.pid))

    def leaks(self):
        """Some are left to close for a second (see LINGER_MS and SYNC_MS)."""
        end = time.monotonic() + TIMEOUT / 4
        while (extra := self.open_descriptors() - self.before) and \
                time.monotonic() < end:
            pass
        return extra

    def record(self):
        self.run()
        self.before = self.open_descriptors()
        return [point for point in sweep.points(self.trace)
                if point[0] not in sweep.CANNOT_FAIL]

    def at(self, point, error):
        self.runs += 1
        try:
            self.run(sweep.at(point, f"error={error}"))
            assert not self.daemon.ended
            assert not sweep.synced_again(self.trace)
            assert not self.leaks()
        except AssertionError as failure:
            raise AssertionError(
                f"{point} {error}: {failure}\n{sweep.injection(self.trace)}\n" +
                "\n".join(self.daemon.log[-40:])) from failure
        self.injected += sweep.injection(self.trace) is not None

    def everywhere(self, choose):
        for point, error in choose(itertools.product(self.record(),
                                                     sweep.ERRNOS)):
            self.at(point, error)
        print(f"{self.runs} faults, {self.injected} came to pass")
        assert self.injected


class Accept(Sweep):
    """Nobody is there to send to, and the daemon has noticed."""

    def __init__(self, make_daemon, host, way):
        host.stop()
        super().__init__(make_daemon, host, way)
        self.client.hand_over(Client.sendmail)
        self.daemon.wait_log("is paused")

    def act(self):
        return self.client.hand_over(self.way)

    def run(self, *options):
        """With the fault, and without it."""
        known = set(self.daemon.queued())
        with sweep.attached(self.daemon.process.pid, *options,
                            output=self.trace):
            name = self.act()
        other = self.act()
        code, line = self.client.outcome[name], sweep.injection(self.trace)
        fresh = self.stored(known)
        assert self.client.outcome[other] == 250
        assert fresh.pop(other, 0) == 1
        assert fresh == ({name: 1} if name in fresh else {})
        assert not list((self.daemon.spool / "tmp").iterdir())
        if line is None:
            assert code == 250
        if code is None:
            assert re.search("<(socket|anon_inode)", line)
            return
        assert code == 250 or code in (421, 451, 452)
        assert fresh == ({name: 1} if code == 250 else {})
        if code != 250 and str(self.daemon.spool) in line:
            assert code == (452 if any(one in line for one in FULL) else 451)

    def stored(self, known):
        """Names of what is new in the spool, and whole."""
        found = collections.Counter()
        for place in "new", "cur", "hold", "failed":
            for file in set(self.daemon.queued(place)) - known:
                text = (self.daemon.spool / place / file).read_text()
                name = re.search(r"\nSubject: (\w+)\n", text)[1]
                body = self.client.body(name).replace("\r", "")
                assert text.count(body) == 1
                found[name] += 1
        return found

    def everywhere(self, choose):
        super().everywhere(choose)
        self.host.start()
        self.daemon.relayctl("flush")
        self.daemon.wait(lambda: not self.daemon.queued())
        arrived = collections.Counter(
            re.search(rb"(?m)^Subject: (\w+)\r$", one.data)[1].decode()
            for one in self.host.messages)
        for message in self.host.messages:
            name = message.sender.partition("@")[0]
            assert message.body == BODY.format(name).encode()
        for name, code in self.client.outcome.items():
            assert arrived[name] in ({250: (1,), None: (0, 1)}.get(code, (0,)))


class AcceptLarge(Accept):
    """What it has is taken away, not sent: it would fill the disk."""

    def __init__(self, make_daemon, host, way):
        super().__init__(make_daemon, host, way)
        self.client.times = LARGE

    def stored(self, known):
        found = super().stored(known)
        for place in "new", "cur":
            for file in set(self.daemon.queued(place)) - known:
                (self.daemon.spool / place / file).unlink()
        return found

    everywhere = Sweep.everywhere


class Return(Sweep):
    """What waits is refused for good, and its sender told."""

    def __init__(self, make_daemon, host):
        super().__init__(make_daemon, host, Client.sendmail)
        self.twice = 0

    def deferred(self):
        """A message that will be refused at its next try."""
        self.host.mend()
        self.host.fault("RCPT", "450 4.2.1 later", match=REFUSED)
        name = self.client.hand_over(self.way, REFUSED)
        id_ = self.daemon.wait_log(rf"(\w+): from=<{name}@")[1]
        self.daemon.wait_log(f"{id_}: to=.*status=deferred")
        self.host.mend()
        self.host.fault("RCPT", "550 5.1.1 unknown", match=REFUSED)
        return name

    def flush(self, lines=None, timeout=TIMEOUT / 20):
        """All that waits is tried, until it is gone or hindered."""
        def over():
            return not self.daemon.queued() or lines is not None and any(
                re.search("warning: |error: ", line)
                for line in self.daemon.log[lines:])
        if self.daemon.relayctl("flush").returncode == 0:
            with contextlib.suppress(AssertionError):
                self.daemon.wait(over, timeout)

    def run(self, *options):
        name = self.deferred()
        self.host.messages.clear()
        with sweep.attached(self.daemon.process.pid, *options,
                            output=self.trace):
            self.flush(len(self.daemon.log))
        assert self.client.hand_over(self.way) and not self.daemon.ended
        for _ in range(5):
            if self.daemon.queued():
                self.flush()
        line = sweep.injection(self.trace) or ""
        unremoved = line.startswith("unlinkat") and bool(self.daemon.queued())
        if unremoved:   # until the next start
            self.daemon.stop()
            self.daemon.start()
            self.flush()
            self.daemon.wait(lambda: not self.daemon.queued())
        assert not self.daemon.queued()
        assert not list((self.daemon.spool / "tmp").iterdir())
        reports = [message for message in self.host.messages
                   if message.recipients == [f"{name}@example.com"]]
        assert 1 <= len(reports) <= 1 + (not unremoved)
        for report in reports:
            assert f"Subject: {name}\r\n".encode() in report.body
        self.twice += len(reports) - 1
        assert [one.recipients for one in self.host.messages
                if one not in reports] == [[GOOD]]


def a_sample(every):
    return sweep.choose(list(every), SAMPLE)


@pytest.mark.parametrize("kind", [Accept, AcceptLarge])
@pytest.mark.parametrize("way", [Client.smtp, Client.sendmail])
def test_a_sample_of_accepting(make_daemon, host, kind, way):
    kind(make_daemon, host, way).everywhere(a_sample)


@pytest.mark.sweep
@pytest.mark.parametrize("kind", [Accept, AcceptLarge])
@pytest.mark.parametrize("way", [Client.smtp, Client.sendmail])
def test_all_of_accepting(make_daemon, host, kind, way, record_property):
    every = kind(make_daemon, host, way)
    every.everywhere(list)
    record_property("points", every.injected)


@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EINTR"])
def test_of_a_group_those_whose_sync_fails_are_refused(make_daemon, host,
                                                       error):
    """The others are accepted, and none of both is mistaken."""
    host.stop()
    daemon = make_daemon().start(inject=(
        # A slow disk makes them one group.  Of each thread the third.
        f"fdatasync:error={error}:delay_enter=5000:when=3+3",))
    accepted, refused = set(), 0
    clients = [Exchange(connect(daemon.socket)) for _ in range(GROUP)]
    for _ in range(3):
        for client in clients:
            client.send(HELLO + MAIL + RCPT + bdat(TEXT))
    for client in clients:
        replies = client.send(QUIT).replies()
        accepted |= set(queued_ids(replies))
        # After a full disk MAIL is refused, and what follows is out of order.
        assert len(replies) == 14 and all(
            re.match("2|45[12] |503 ", one) for one in replies), replies
        refused += sum(one.startswith("45") for one in replies)
    stored = set(daemon.queued("new")) | set(daemon.queued("cur"))
    assert accepted == stored and accepted and refused
    assert not list((daemon.spool / "tmp").iterdir())


def test_a_sample_of_returning(make_daemon, host):
    Return(make_daemon, host).everywhere(a_sample)


@pytest.mark.sweep
@pytest.mark.parametrize("part", range(4))
def test_all_of_returning(make_daemon, host, part, record_property):
    every = Return(make_daemon, host)
    every.everywhere(lambda points: list(points)[part::4])
    record_property("points", every.injected)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
