"""A relayhost that misbehaves where relayd is to log in.  No mail goes out, the
mail waits, the relay is paused, the operator is told why, the password is not
tried again before the pause is over, and the mail leaves once that is over."""

import json
import re
import sys

import pytest

from misbehaviour import (assert_flows, assert_nothing_leaked, assert_told,
                          fault, flood, hold)

CRAM = "in AUTH CRAM-MD5: "
LOST = "lost the connection to localhost.* while waiting for "


def offers(*mechanisms):
    def spoil(host):
        good, host.auth = host.auth, mechanisms
        return lambda: setattr(host, "auth", good)
    return spoil


def broken(*mechanisms):
    """They are offered, and not there."""
    def spoil(host):
        host.auth_broken = mechanisms
        return lambda: setattr(host, "auth_broken", ())
    return spoil


def login(reply=None, **options):
    return fault("AUTH", reply, **options)


def challenge(reply=None, **options):
    """The one of CRAM-MD5."""
    def spoil(host):
        mend = offers("CRAM-MD5")(host), fault("CHALLENGE", reply,
                                               **options)(host)
        return lambda: [one() for one in mend]
    return spoil


def early_prompt(host):
    """LOGIN asks for the password before it has the name."""
    mend = offers("LOGIN")(host), fault(
        "CHALLENGE", b"334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n")(host)
    return lambda: [one() for one in mend]


AUTH_PLAIN = b"250-localhost\r\n250 AUTH PLAIN\r\n"


def surplus_after_ehlo(*records):
    """Under TLS, on their way together."""
    def act(session):
        channel = session.channel
        if channel.tls is None:
            channel.write(b"250-localhost\r\n250 STARTTLS\r\n")
            return
        for record in records:
            channel.tls.write(record)
        channel._flush()
    return fault("EHLO", then=act)


def row(name, kind, spoil, words, tries=1):
    """kind: of the pause; tries: AUTH commands in the session."""
    return pytest.param(kind, spoil, words, tries, id=name)


ROWS = [
    row("I26", "no-auth", offers(),
        "offers no AUTH after STARTTLS although a login is configured", 0),
    row("I27-unknown", "auth", offers("GSSAPI", "NTLM"),
        "no common AUTH mechanism .* the relayhost offers: .*GSSAPI NTLM", 0),
    row("I27-not-there", "auth", broken("PLAIN", "LOGIN"),
        "refused the login: 504", 2),
    row("I27-504", "auth", login("504 what is that"),
        "refused the login: 504 what is that", 2),
    row("I27-5.7.4", "auth", login("535 5.7.4 what is that"),
        "refused the login: 535 5.7.4 what is that", 2),
    row("I28-535", "auth", login("535 5.7.8 no such user"),
        "refused the login: 535 5.7.8 no such user; check user and "),
    row("I29-454", "auth", login("454 4.7.0 not now"),
        "refused the login: 454 4.7.0 not now"),
    row("I29-432", "auth", login("432 4.7.12 a transition is needed"),
        "refused the login: 432 4.7.12 a transition is needed"),
    row("I29-534", "auth", login("534 5.7.9 app password"),
        "refused the login: 534 5.7.9 app password"),
    row("I30-base64", "protocol", challenge("334 $$$"),
        CRAM + "its challenge is not in base64"),
    row("I30-1-MiB", "protocol",
        challenge(b"334 " + b"A" * (1 << 20), then="stall"),
        "does not speak SMTP: while waiting for the reply to AUTH"),
    row("I30-too-long", "protocol", challenge("334 " + "A" * 4000),
        CRAM + "its challenge is too long"),
    row("I30-one-more", "protocol", login("334 ", then="stall"),
        "in AUTH PLAIN: it asks for more than there is to say"),
    row("I30-endless", "protocol", login(then=flood(b"334 \r\n" * 1000)),
        "in AUTH PLAIN: it asks for more than there is to say"),
    row("I31", "protocol", login("235 ok\r\n250 x"),
        "sent what nobody asked for: 250 x"),
    row("I31-after-EHLO", "protocol",
        surplus_after_ehlo(AUTH_PLAIN, b"235 ok\r\n"),
        "sent what nobody asked for: 235 ok", 0),
    row("I31-in-the-exchange", "protocol",
        early_prompt, "sent what nobody asked for: 334 UGFzc3dvcmQ6"),
    row("I31-no-line", "protocol", login(b"235 ok\r\n250", then="stall"),
        "sent what nobody asked for: 250"),
    row("I32", "lost", login(then="close"), LOST + "the reply to AUTH"),
    row("I32-reset", "lost", login(then="reset"), LOST + "the reply to AUTH"),
]


def commands(host, verb):
    return [command for session in host.sessions
            for command in session.commands if command.startswith(verb)]


def assert_paused(daemon, kind, words):
    """Once; and no attempt is counted."""
    assert_told(daemon, words)
    daemon.wait_log(rf"relay test is paused \({kind}\): .*{words}")
    daemon.wait_log(r"to=<you@example.com>, .*status=deferred \(.*" + words)
    listed, = json.loads(daemon.relayctl("queue", "--json").stdout)
    assert listed["attempts"] == 0


@pytest.mark.parametrize("kind, spoil, words, tries", ROWS)
def test_no_mail_without_login(make_daemon, host, kind, spoil, words, tries):
    mend = spoil(host)
    daemon = make_daemon().start()
    hold(daemon)
    assert_paused(daemon, kind, words)
    for session in host.sessions:
        assert sum(command.startswith("AUTH")
                   for command in session.commands) == tries
    assert commands(host, "MAIL") == []
    mend()
    assert_flows(daemon, host)
    assert_nothing_leaked(host)


def test_I31_a_login_in_the_reply_to_EHLO_is_none(daemon, host):
    """libcurl drops what is in one record with it: it answers nothing."""
    surplus_after_ehlo(AUTH_PLAIN + b"235 ok\r\n")(host)
    host.fault("AUTH", "535 5.7.8 no")
    hold(daemon)
    assert_paused(daemon, "auth", "refused the login: 535 5.7.8 no")
    assert commands(host, "MAIL") == []


def pauses(daemon):
    """Seconds to the next try, of each pause."""
    return [float(found[1]) for line in daemon.log
            if (found := re.search(r"is paused .*next try in ([\d.]+) s",
                                   line))]


@pytest.mark.parametrize("point, reply", [
    ("AUTH", "535 5.7.8 no"), ("AUTH", "454 4.7.0 not now"),
    ("AUTH", "432 4.7.12 a transition"), ("AUTH", "534 5.7.9 app password"),
    ("MAIL", "530 5.7.0 log in first")],
    ids=["I28-535", "I29-454", "I29-432", "I29-534", "I33-530"])
def test_one_try_in_a_pause(make_daemon, host, point, reply):
    """However much mail comes: many tries would lock the account."""
    host.fault(point, reply)
    daemon = make_daemon(relay={"connections": 4}).start()
    for number in range(20):
        assert daemon.sendmail("root", data=b"%d\n" % number).returncode == 0
    daemon.wait_log(r"relay test is paused")
    daemon.wait_log("status=deferred", 20)
    for number in range(20):
        assert daemon.sendmail("root", data=b"%d\n" % number).returncode == 0
    daemon.wait_log("status=deferred", 40)
    # One may be on its way.
    tries, waits = len(commands(host, "AUTH")), pauses(daemon)
    assert tries <= len(waits) + 1 and waits[0] >= 4.5
    assert waits == sorted(waits)
    assert not any("status=bounced" in line for line in daemon.log)
    assert len(daemon.queued()) == 40


def test_I33_530_to_MAIL(make_daemon, host):
    host.fault("MAIL", "530 5.7.0 must authenticate")
    daemon = make_daemon().start()
    hold(daemon)
    assert_paused(daemon, "account", "530 5.7.0 must authenticate")
    host.mend()
    assert_flows(daemon, host)


def test_J5_null_sender_is_refused(make_daemon, host):
    """Without null_sender the notice goes to failed/: no loop."""
    host.fault("MAIL", "501 5.1.7 not from nobody", match="<>")
    host.fault("RCPT", "550 5.1.1 nobody here", match="gone@")
    daemon = make_daemon().start()
    assert daemon.sendmail("-f", "a@example.net", "gone@example.org",
                           data=b"Subject: x\n\nx\n").returncode == 0
    daemon.wait_log("kept in failed/: .*it is the copy for postmaster")
    daemon.stop()
    assert len(daemon.queued("failed")) == 1 and host.messages == []


def test_J5_null_sender_has_a_name(make_daemon, host):
    host.fault("MAIL", "501 5.1.7 not from nobody", match="<>")
    host.fault("RCPT", "550 5.1.1 nobody here", match="gone@")
    daemon = make_daemon(relay={"null_sender": "bounces@example.com"}).start()
    assert daemon.sendmail("-f", "a@example.net", "gone@example.org",
                           data=b"Subject: x\n\nx\n").returncode == 0
    notice, = host.wait_messages(1)
    assert notice.sender == "bounces@example.com"
    assert notice.recipients == ["a@example.net"]
    assert b"Auto-Submitted: auto-replied" in notice.header


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
