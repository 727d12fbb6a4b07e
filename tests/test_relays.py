"""Several relays: by sender, and one after the other when one is at fault."""

import collections
import json
import mailbox
import re
import threading

import pytest

from harness import PASSWORD, USER
from relayhost import Relayhost


@pytest.fixture
def second(authority):
    with Relayhost(authority, users={USER: PASSWORD}) as relayhost:
        yield relayhost


def send(daemon, text, *arguments):
    assert daemon.sendmail(*arguments, "root",
                           data=text.encode()).returncode == 0


def bodies(host):
    return sorted(message.body.decode().strip() for message in host.messages)


def states(daemon):
    status = json.loads(daemon.relayctl("status", "--json").stdout)
    return {relay["name"]: relay["state"] for relay in status["relays"]}


def test_each_sender_has_its_relay(make_daemon, host, second):
    daemon = make_daemon(
        relay={"senders": ["*@shop.example.com"]},
        relays=[("second", second, {})]).start()
    send(daemon, "shop", "-f", "orders@shop.example.com")
    send(daemon, "other", "-f", "me@example.com")
    send(daemon, "null", "-f", "<>")
    host.wait_messages(1)
    second.wait_messages(2)
    assert bodies(host) == ["shop"]
    assert bodies(second) == ["null", "other"]


def test_a_sender_without_a_relay_is_told_so(make_daemon, host):
    daemon = make_daemon(relay={"senders": ["*@shop.example.com"]}).start()
    send(daemon, "other", "-f", "me@example.net")
    daemon.wait_log(r"relay=none, .*dsn=4.3.5, status=deferred \(no relay "
                    r"serves the sender <me@example.net>\)")
    daemon.relay["senders"] = None
    daemon.write_config()
    assert daemon.relayctl("reload").returncode == 0
    assert daemon.relayctl("flush").returncode == 0
    host.wait_messages(1)


@pytest.mark.parametrize("point, reply, then", [
    ("GREETING", None, "close"), ("GREETING", None, "stall"),
    ("GREETING", "421 4.3.2 not now", "close"),
    ("AUTH", "535 5.7.8 wrong password", "close"),
    ("AUTH", "454 4.7.0 not now", "close"),
    ("MAIL", "530 5.7.0 log in first", "close")],
    ids=["down", "slow", "421", "AUTH-535", "AUTH-454", "MAIL-530"])
def test_I58_failover_and_return(make_daemon, host, second, point, reply,
                                 then):
    """No mail waits for the first relay, and it comes back by itself."""
    fault = host.fault(point, reply, then=then)
    daemon = make_daemon(relay={"connect_timeout": "1s"},
                         relays=[("second", second, {})]).start()
    send(daemon, "one")
    second.wait_messages(1)
    daemon.wait_log("relay test is paused")
    assert states(daemon) == {"test": "paused", "second": "ok"}
    assert daemon.relayctl("status").returncode == 1
    host.mend(fault)
    # Each message that goes another way asks for a probe.
    sent = 1
    while not host.messages:
        send(daemon, "more")
        sent += 1
        host_or_second(host, second, sent)
    assert len(host.messages) + len(second.messages) == sent
    daemon.wait_log("relay test works again")


def host_or_second(host, second, count):
    """Until so many messages have arrived at either."""
    arrived = threading.Event()
    for one in (host, second):
        one.on_message = lambda message: arrived.set()
    while len(host.messages) + len(second.messages) < count:
        arrived.wait(0.05)
        arrived.clear()


def test_dying_in_mid_load_loses_and_repeats_nothing(make_daemon, host,
                                                     second):
    """The first goes away for good while 100 messages are on their way."""
    daemon = make_daemon(relays=[("second", second, {})],
                         top={"retry": ["1s"]}).start()
    host.on_message = lambda message: \
        host.stop() if len(host.messages) == 30 else None
    for number in range(100):
        send(daemon, str(number))
    daemon.wait_log(r"qmgr\[\d+\]: \w+: removed", 100)
    both = bodies(host) + bodies(second)
    assert set(both) == {str(number) for number in range(100)}
    unknown = sum("dup=possible" in line for line in daemon.log)
    assert len(both) <= 100 + unknown


def test_dying_in_mid_load_and_coming_back(make_daemon, host, second):
    """Its mail goes on through the second, and later by it again."""
    daemon = make_daemon(relays=[("second", second, {})]).start()
    host.on_message = lambda message: \
        host.stop() if len(host.messages) == 10 else None
    sent = 0
    while len(second.messages) < 20:
        send(daemon, str(sent))
        sent += 1
    host.on_message = None
    served = len(host.messages)
    host.start()
    while len(host.messages) < served + 10:
        send(daemon, str(sent))
        sent += 1
    daemon.wait_log("relay test works again")
    # What was being sent when it died waits for its retry.
    lost = {match[1] for line in daemon.log if (match := re.search(
        r"(\w+): to=.*relay=localhost.*dsn=4\.4\.2, status=deferred", line))}
    daemon.wait_log(r"qmgr\[\d+\]: \w+: removed", sent - len(lost))
    assert daemon.queued() == sorted(lost)
    both = collections.Counter(bodies(host) + bodies(second))
    assert sent - len(lost) <= len(both) <= sent and max(both.values()) == 1
    assert not any("bounced" in line for line in daemon.log)


@pytest.mark.parametrize("point", ["GREETING", "EHLO", "STARTTLS", "AUTH"])
def test_a_relay_that_is_silent_is_left_after_its_timeout(make_daemon, host,
                                                          second, point):
    """One connection and no more is waited for; the rest goes at once."""
    host.fault(point, then="stall")
    daemon = make_daemon(relay={"connect_timeout": "1s"},
                         relays=[("second", second, {})]).start()
    for number in range(5):
        send(daemon, str(number))
    second.wait_messages(5)
    assert bodies(second) == list("01234") and host.messages == []
    daemon.wait_log("relay test is paused")


def test_I58_what_one_relay_refuses_is_not_tried_at_the_next(
        make_daemon, host, second):
    host.fault("RCPT", "550 5.1.1 nobody here")
    daemon = make_daemon(relays=[("second", second, {})]).start()
    send(daemon, "one")
    daemon.wait_log("status=bounced")
    daemon.wait_log("sender non-delivery notification")
    assert second.messages == []


SENDER_REFUSALS = [
    ("MAIL", "553 5.7.1 <a@example.net>: Sender address rejected: not owned "
             "by user relay@example.com"),
    ("MAIL", "550 5.7.60 SMTP; Client does not have permissions to send as "
             "this sender"),
    ("END", "554 Message rejected: Email address is not verified. The "
            "following identities failed the check in region EU-WEST-1: "
            "a@example.net")]


@pytest.mark.parametrize("point, reply", SENDER_REFUSALS,
                         ids=["Postfix", "Microsoft", "SES"])
def test_I35_a_sender_that_is_refused_stops_nobody_else(daemon, host, point,
                                                        reply):
    """Its mail waits, nothing bounces, no relay is paused."""
    fault = host.fault(point, reply, times=1)
    send(daemon, "refused", "-f", "a@example.net")
    daemon.wait_log(r"status=deferred \(55")
    for number in range(5):
        send(daemon, f"other {number}", "-f", "b@example.net")
    assert len(host.wait_messages(5)) == 5
    assert states(daemon) == {"test": "ok"}
    host.mend(fault)
    assert daemon.relayctl("flush").returncode == 0
    host.wait_messages(6)
    assert "refused" in bodies(host)


@pytest.mark.parametrize("point, reply, kind", [
    ("END", "454 Throttling failure: Daily message quota exceeded", "quota"),
    ("MAIL", "550 5.4.5 Daily user sending limit exceeded", "quota"),
    ("MAIL", "550 5.7.30 Basic authentication is not supported for Client "
             "Submission", "account"),
    ("RCPT", "535 5.7.8 log in again", "account")])
def test_trouble_with_the_account_pauses_the_relay(daemon, host, point, reply,
                                                   kind):
    """The mail is kept, costs no retry, and goes when that is over."""
    fault = host.fault(point, reply)
    send(daemon, "one")
    daemon.wait_log(rf"warning: relay test is paused \({kind}\): .*{reply[:9]}")
    daemon.wait_log(r"relay=none, .*status=deferred")
    listed, = json.loads(daemon.relayctl("queue", "--json").stdout)
    assert listed["attempts"] == 0 and reply in listed["reason"]
    host.mend(fault)
    assert daemon.relayctl("flush").returncode == 0
    assert bodies_of(host, 1) == ["one"]


def bodies_of(host, count):
    host.wait_messages(count)
    return bodies(host)


def test_a_second_relay_takes_over_when_the_quota_is_used_up(
        make_daemon, host, second):
    host.fault("END", "454 Throttling failure: Daily message quota exceeded",
               skip=2)
    daemon = make_daemon(relays=[("second", second, {})]).start()
    for number in range(4):
        send(daemon, str(number))
    daemon.wait_log("removed", 4)
    assert bodies(host) == ["0", "1"] and bodies(second) == ["2", "3"]


@pytest.mark.parametrize("extensions, arguments", [
    (["PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 1000"], []),
    (["PIPELINING", "8BITMIME", "SIZE 100000"], ["j\u00f6rg@example.org"])],
    ids=["I15-size", "I56-utf8"])
def test_what_one_relay_cannot_take_goes_to_the_next(
        make_daemon, host, second, extensions, arguments):
    host.extensions = extensions
    daemon = make_daemon(relays=[("second", second, {})]).start()
    send(daemon, "small")
    host.wait_messages(1)
    send(daemon, "large " + 300 * "line\n", *arguments)
    message, = second.wait_messages(1)
    assert message.body.startswith(b"large line")
    assert not any("bounced" in line for line in daemon.log)


def test_I15_what_no_relay_can_take_fails(make_daemon, host, second):
    host.extensions = second.extensions = ["PIPELINING", "SIZE 1000"]
    daemon = make_daemon(relays=[("second", second, {})]).start()
    send(daemon, 300 * "line\n")
    daemon.wait_log(r"dsn=5.3.4, status=bounced \(5.3.4 message of \d+ octets "
                    "is over the relayhost's limit of 1000")


def test_a_maildir_for_development(make_daemon, directory, host):
    """What a reader of it sees, and nothing leaves the machine."""
    path = directory / "daemon0" / "spool" / "Maildir"
    daemon = make_daemon(relay={
        "host": None, "port": None, "tls_ca_file": None, "user": None,
        "password_file": None, "maildir": str(path)}).start()
    text = "Subject: disk\n\none\n.\nlast"
    send(daemon, text, "-f", "me@example.net", "two@example.org")
    daemon.wait_log(r"to=<two@example.org>, relay=maildir, .*status=sent "
                    r"\(delivered to maildir\)")
    daemon.wait_log("removed")
    message, = mailbox.Maildir(path, create=False)
    assert message["Return-Path"] == "<me@example.net>"
    assert message.get_all("Delivered-To") == ["two@example.org",
                                               "you@example.com"]
    assert message["Subject"] == "disk"
    assert message.get_payload() == "one\n.\nlast\n"
    assert b"\r" not in bytes(message)
    assert host.sessions == []


def test_a_maildir_that_cannot_be_written_defers(make_daemon, directory):
    path = directory / "file"
    path.write_text("")
    daemon = make_daemon(relay={
        "host": None, "port": None, "tls_ca_file": None, "user": None,
        "password_file": None, "maildir": str(path)}).start()
    send(daemon, "one")
    daemon.wait_log(r"relay=maildir, .*dsn=4.3.0, status=deferred "
                    rf"\({path}: Not a directory\)")
