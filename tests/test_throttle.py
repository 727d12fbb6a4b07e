"""A relayhost that says "slow down": everything is delivered once, at the
rate that it takes, and no message pays for it.  By a clock that the test sets,
in tests/test_throttle.c: how near the ideal time that is."""

import collections
import json
import re
import smtplib
import threading
import time

import pytest

from harness import PASSWORD, USER
from relayhost import Fault, Relayhost

AMAZON_SES = 14     # messages a second
THROTTLING = "454 Throttling failure: Maximum sending rate exceeded."


def refusal(point, text, then="go-on"):
    return Fault(point, text, then, "", 0, 0, 0, False)


class Throttling(Relayhost):
    """Takes so many messages a second, by its own clock; keeps when which was
    tried, and whether it was taken."""

    def __init__(self, authority, per_second):
        self.per_second = per_second
        self.tries, self._taken = [], collections.deque()
        self._lock, self._mine = threading.Lock(), threading.local()
        super().__init__(authority, users={USER: PASSWORD})

    def takes(self, now):
        while self._taken and self._taken[0] <= now - 1:
            self._taken.popleft()
        if len(self._taken) >= self.per_second:
            return False
        self._taken.append(now)
        return True

    def peek_fault(self, point, argument):
        if point != "END":
            return super().peek_fault(point, argument)
        with self._lock:
            now = time.monotonic()
            taken = self.takes(now)
            self.tries.append((now, taken))
        self._mine.fault = None if taken else refusal(point, THROTTLING)
        return self._mine.fault

    def take_fault(self, point, argument):
        if point == "END":  # as peeked
            return self._mine.fault
        return super().take_fault(point, argument)


class Odd(Throttling):
    """One message a connection, and every second one is too fast."""

    def __init__(self, authority):
        super().__init__(authority, 0)
        self.slow = 0.001

    def takes(self, now):
        return len(self.tries) % 2 == 1

    def peek_fault(self, point, argument):
        if point == "MAIL" and getattr(self._mine, "served", False):
            return refusal(point, "421 4.3.2 one is enough", "close")
        fault = super().peek_fault(point, argument)
        if point == "END":
            self._mine.served = fault is None
            if fault is not None:
                fault.reply, fault.slow = "450 4.7.0 rate", self.slow
        return fault


def submit(daemon, count):
    """So many messages, each with its number in its text."""
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        for number in range(count):
            client.sendmail("a@example.com", ["b@example.com"],
                            f"Subject: {number}\r\n\r\nmessage {number}.\r\n")


def assert_delivered_once(daemon, host, count):
    """No message was lost, repeated, bounced, or deferred by itself."""
    bodies = [one.body for one in host.wait_messages(count)]
    assert sorted(bodies) == sorted(b"message %d.\r\n" % number
                                    for number in range(count))
    daemon.wait_log("removed", count)
    assert daemon.queued() == []
    assert not [line for line in daemon.log
                if re.search("status=(bounced|deferred)|is paused", line)]


def relay_status(daemon):
    return json.loads(daemon.relayctl("status", "--json").stdout)["relays"][0]


@pytest.mark.parametrize("per_second, count", [
    pytest.param(50, 400, id="short"),
    pytest.param(AMAZON_SES, 300, id="Amazon-SES", marks=pytest.mark.soak)])
def test_a_limit_by_the_second(make_daemon, authority, per_second, count):
    with Throttling(authority, per_second) as host:
        daemon = make_daemon(host=host).start()
        submit(daemon, count)
        assert_delivered_once(daemon, host, count)
        began = host.tries[0][0]
        late = [taken for at, taken in host.tries if at - began >= 5]
        refused = [taken for _, taken in host.tries].count(False)
        print(f"{count} at {per_second} a second: "
              f"{host.tries[-1][0] - began:.1f} s, {refused} refused; after "
              f"5 s {late.count(False)} of {len(late)}")
        assert 0 < refused
        if per_second == AMAZON_SES:    # soak: the clock is the machine's
            assert late.count(False) * 20 <= len(late), (late, refused)
        daemon.wait_log("relay test throttles: 454 Throttling failure")
        daemon.wait_log(r"relay test takes [\d.]+ recipients a second")
        status = relay_status(daemon)
        assert status["throttled"] == refused and status["rate"] > 0
        assert f"throttled: {refused} " in daemon.relayctl("status").stdout
        metrics = daemon.relayctl("metrics").stdout
        assert f'relayd_relay_throttled_total{{relay="test"}} {refused}\n' \
            in metrics
        assert 'relayd_relay_rate{relay="test"} ' in metrics


def test_i57_an_odd_relayhost(make_daemon, authority):
    with Odd(authority) as host:
        daemon = make_daemon(host=host).start()
        submit(daemon, 10)
        assert_delivered_once(daemon, host, 10)
        assert len(host.sessions) >= 10
        # No faster for trying harder.
        assert [taken for _, taken in host.tries].count(False) <= 11


def test_a_daily_limit_outlives_a_restart(make_daemon, host):
    daemon = make_daemon(relay={"daily": 3}).start()
    submit(daemon, 5)
    host.wait_messages(3)
    daemon.wait_log("removed", 3)
    daemon.wait_log("relay test has had its 3 recipients of a day")
    status = relay_status(daemon)
    assert (status["daily"], status["used_today"]) == (3, 3)
    assert 80_000 < status["paced_for"] <= 90_000
    assert daemon.stop() == 0
    daemon.start()
    assert relay_status(daemon)["used_today"] == 3
    assert len(daemon.queued()) == 2
    daemon.relay["daily"] = 10
    daemon.write_config()
    daemon.reload()
    assert_delivered_once(daemon, host, 5)
    assert relay_status(daemon)["used_today"] == 5


@pytest.mark.parametrize("content", [
    b"", b"test\t", b"test\t1 2\n", b"test\t1 2 3 99999999999\n", b"\0" * 99,
    b"other\t1 2 3\n"])
def test_a_damaged_count_is_told_and_begun_anew(make_daemon, host, content):
    daemon = make_daemon(relay={"daily": 3}).start()
    assert daemon.stop() == 0
    file = daemon.spool / "quota"
    file.write_bytes(content)
    daemon.start()
    submit(daemon, 1)
    assert_delivered_once(daemon, host, 1)
    told = any("the count for daily begins anew" in line
               for line in daemon.log)
    assert told == (content.startswith(b"test") and content.endswith(b"\n"))
    assert relay_status(daemon)["used_today"] == 1


def test_mail_flows_where_no_count_can_be_kept(make_daemon, host):
    daemon = make_daemon(relay={"daily": 3}).start()
    assert daemon.stop() == 0
    (daemon.spool / "quota").mkdir()
    daemon.start()
    submit(daemon, 1)
    assert_delivered_once(daemon, host, 1)
    daemon.wait_log("error: the count for daily can't be read: ")
    daemon.wait_log("error: the count for daily can't be kept: ")
