"""A relayhost that misbehaves before there is any mail to it: connection,
greeting, EHLO (for TLS see test_tls_matrix.py).  The mail waits, the relay is
paused, the operator is told why, nothing is given away, and the mail leaves
once that is over."""

import json
import sys

import pytest

from certificates import odd_context
from dialogue import BYE, OK, QUIT, assert_replies, converse
from dns_server import DnsServer
from harness import PASSWORD, SANITIZED, USER, Daemon, peak, private
from misbehaviour import (assert_flows, assert_nothing_leaked, assert_told,
                          down, fault, flood, hold)
from network import BlackHole, inside
from relayhost import Relayhost

SOON = {"connect_timeout": "1s"}
NOT_SMTP = r"localhost\S* does not speak SMTP"
TOO_MUCH = "lost the connection to localhost.*: Too large response headers"
LOST = "lost the connection to localhost.* while waiting for "
LATE = "timed out while waiting for "
MISNAMED = "the certificate of .* is not for the name "
UNTIMELY = "the certificate of localhost.* is not valid now: "


def greeting(reply=None, **options):
    return fault("GREETING", reply, **options)


def nothing(host):
    return lambda: None


def row(name, spoil, words, **relay):
    """relay: keys of its section, until the cause is gone."""
    return pytest.param(spoil, words, relay, id=name)


CONNECTION = [
    row("I1-refused", down, "cannot connect to localhost.*: Connection "
                            "refused"),
    row("I1-no-route", nothing, r"cannot connect to 224\.0\.0\.1.*: Network is "
        "unreachable", host="224.0.0.1"),
    row("I1-closes", greeting(then="close"), LOST + "the greeting"),
    row("I1-reset", greeting(then="reset"), f"{LOST}the greeting|connect"),
    row("I1-silent", greeting(then="stall"), LATE + "the greeting", **SOON),
    row("I2-HTTP", greeting(b"HTTP/1.1 400 Bad Request\r\nDate: x\r\n\r\n",
                            then="stall"),
        NOT_SMTP + ".* came: HTTP/1.1 400 Bad Request"),
    row("I3-SSH", greeting("SSH-2.0-OpenSSH_9.2", then="stall"),
        NOT_SMTP + ".* came: SSH-2.0-OpenSSH_9.2"),
    row("I3-TLS", greeting(b"\x16\x03\x01\0\x02\n", then="stall"),
        NOT_SMTP + r' but TLS \(set tls = .*"implicit.*"\?\).* came: '
                   r"\\x16\\x03\\x01"),
]

BAD_REPLIES = ["22", "2200 x", "2a0 x", "220_x", "99999999999999999999 x",
               " 220 x", "", "220-a\r\n250 b"]

GREETINGS = [
    *(row(f"I9-{reply!r}", greeting(reply, then="stall"),
          NOT_SMTP + ": while waiting for the greeting")
      for reply in BAD_REPLIES[:-1]),
    *(row(f"I9-EHLO-{reply!r}", fault("EHLO", reply, then="stall"),
          NOT_SMTP + ": while waiting for the reply to EHLO")
      for reply in BAD_REPLIES[:-1]),
    row("I10-a-line-without-end", greeting(b"220 " + b"x" * (1 << 20),
                                           then="stall"), TOO_MUCH),
    row("I10-64-KiB", greeting(17 * (b"220-" + b"x" * 4000 + b"\r\n"),
                               then="stall"), NOT_SMTP),
    row("I10-for-ever-slow", greeting(b"220-x\r\n" * 1000, slow=0.02),
        LATE + "the greeting", **SOON),
    row("I10-EHLO-for-ever-slow",
        fault("EHLO", b"250-x\r\n" * 1000, slow=0.02),
        LATE + "the reply to EHLO", **SOON),
    row("I11-two-codes", greeting(BAD_REPLIES[-1], then="stall"),
        NOT_SMTP + ".* came: 250 b"),
    row("greeting-421", greeting("421 4.3.2 come back later"),
        r"421 4\.3\.2 come back later"),
    row("greeting-554", greeting("554 5.7.1 you are on a list"),
        r"554 5\.7\.1 you are"),
    row("EHLO-421", fault("EHLO", "421 4.7.0 too busy"),
        r"421 4\.7\.0 too busy"),
]

def assert_deferred(daemon, host, words):
    hold(daemon)
    assert_told(daemon, words)
    daemon.wait_log(r"to=<you@example.com>, .*status=deferred \(.*" + words)
    listed, = json.loads(daemon.relayctl("queue", "--json").stdout)
    assert listed["attempts"] == 0
    for session in host.sessions:
        assert b"AUTH" not in session.plain and b"MAIL" not in session.plain


@pytest.mark.parametrize("spoil, words, relay",
                         [*CONNECTION, *GREETINGS])
def test_nothing_is_sent_and_nothing_lost(make_daemon, host, spoil, words,
                                          relay):
    mend = spoil(host)
    daemon = make_daemon(relay=relay)
    usual = make_daemon().relay
    assert_deferred(daemon.start(), host, words)
    mend()
    if relay:
        daemon.relay = usual
        daemon.write_config()
        daemon.stop()       # to another port than it may connect to
        daemon.start()
    assert_flows(daemon, host)
    assert_nothing_leaked(host)


@pytest.mark.parametrize("point, octets, words", [
    ("GREETING", b"220-x\r\n" * 1000, NOT_SMTP),
    ("EHLO", b"250-x\r\n" * 1000, TOO_MUCH),  # libcurl sees it first
    ("GREETING", b"x" * 60000, TOO_MUCH)], ids=["greeting", "EHLO", "no-line"])
def test_I10_a_flood_costs_no_memory_and_holds_up_no_client(
        make_daemon, host, point, octets, words):
    daemon = make_daemon().start()
    assert daemon.sendmail("root", data=b"before\n").returncode == 0
    host.wait_messages(1)
    daemon.wait_log("removed")
    host.disconnect()
    host.wait_ended()
    before = peak(daemon)
    host.fault(point, then=flood(octets))
    assert daemon.sendmail("root", data=b"one\n").returncode == 0
    assert_replies(converse(("127.0.0.1", daemon.port), b"NOOP\r\n" + QUIT),
                   ["220", OK, BYE])
    daemon.wait_log(f"relay test is paused .*{words}")
    if not SANITIZED:
        assert peak(daemon) - before < 1
    host.mend()
    assert daemon.relayctl("flush").returncode == 0
    host.wait_messages(2)


def test_I12_a_slow_greeting_is_a_greeting(daemon, host):
    host.fault("GREETING", slow=0.01)
    hold(daemon)
    assert host.wait_messages(1)
    daemon.wait_log("status=sent")
    assert not any("paused" in line for line in daemon.log)


BEFORE_TLS = ("250-localhost\r\n250-PIPELINING\r\n250-CHUNKING\r\n"
              "250-STARTTLS\r\n250 AUTH PLAIN LOGIN")


def test_I16_CHUNKING_before_TLS_is_no_promise(daemon, host):
    host.extensions = ["PIPELINING"]
    host.fault("EHLO", BEFORE_TLS, times=1)
    hold(daemon)
    message, = host.wait_messages(1)
    assert message.verb == "DATA" and message.user


def test_I16_AUTH_before_TLS_is_no_promise(make_daemon, host):
    host.auth = ()
    once = host.fault("EHLO", BEFORE_TLS, times=1)
    daemon = make_daemon().start()
    assert_deferred(daemon, host, "offers no AUTH after STARTTLS")
    assert once.hits == 1
    host.auth = ("PLAIN",)
    assert_flows(daemon, host)
    assert_nothing_leaked(host)


NAME = "mail.example.com"
NO_ANSWER = f"the name {NAME} could not be resolved"
MANY = [f"127.1.{n // 250}.{n % 250 + 1}" for n in range(1000)]


@pytest.mark.root
@pytest.mark.parametrize("records, mode, words", [
    ({}, "", NO_ANSWER), ({}, "servfail", NO_ANSWER),
    ({}, "silent", f"timed out while looking up the name {NAME}"),
    ({(NAME, "A"): MANY}, "", f"cannot connect to {NAME}"),
    ({(NAME, "CNAME"): [NAME]}, "", NO_ANSWER)],
    ids=["NXDOMAIN", "SERVFAIL", "silent", "1000-addresses", "CNAME-loop"])
def test_I25_without_an_address_mail_waits_and_clients_do_not(
        authority, directory, records, mode, words):
    def run():
        with DnsServer(records, mode), \
                Relayhost(authority, users={USER: PASSWORD}) as host:
            daemon = Daemon(directory, host, relay={"host": NAME, **SOON},
                            trace=False).start()
            hold(daemon)
            assert_replies(converse(("127.0.0.1", daemon.port),
                                    b"NOOP\r\n" + QUIT), ["220", OK, BYE])
            assert_told(daemon, words)
            daemon.relay = daemon.relay | {"host": "localhost",
                                           "connect_timeout": None}
            daemon.write_config()
            assert daemon.relayctl("reload").returncode == 0
            assert_flows(daemon, host)
            assert daemon.stop() == 0

    inside(directory, run)


def test_I1_a_black_hole(make_daemon, host):
    """What is sent there is lost without a word."""
    host.stop()
    daemon = make_daemon(relay=SOON).start()
    with BlackHole(("127.0.0.1", host.port)):
        assert_deferred(daemon, host, "cannot connect to localhost.*: timed "
                                      "out")
    host.start()
    daemon.relay["connect_timeout"] = None
    daemon.write_config()
    assert daemon.relayctl("reload").returncode == 0
    assert_flows(daemon, host)


@pytest.mark.root
@pytest.mark.parametrize("kind, name, words", [
    ("any.com", "example.com", MISNAMED),
    ("any.example.com", "a.b.example.com", MISNAMED),
    ("any.example.com", "example.com", MISNAMED),
    ("any.example.com", "mail.example.com", "status=sent")],
    ids=["*.com", "two-labels", "no-label", "one-label"])
def test_I21_an_asterisk_stands_for_one_label_of_a_domain(
        make_daemon, host, directory, kind, name, words):
    hosts, scratch = directory / "hosts", directory / "private"
    hosts.write_text(f"127.0.0.1 localhost {name}\n")
    scratch.mkdir()
    host.own_context = odd_context(kind)(host.authority)
    daemon = make_daemon(relay={"host": name}, wrapper=private(
        scratch, (), [(hosts, "/etc/hosts")])).start()
    hold(daemon)
    daemon.wait_log(words)
    assert bool(host.messages) == (words == "status=sent")
    assert_nothing_leaked(host)


def test_I23_a_renewed_certificate_is_seen_by_the_next_probe(daemon, host):
    host.certificate = "expired"
    hold(daemon)
    assert_told(daemon, UNTIMELY)
    host.certificate = "good"
    host.wait_messages(1)
    daemon.wait_log("relay test works again")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
