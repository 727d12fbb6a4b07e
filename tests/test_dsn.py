"""Delivery status notifications (RFC 3461): what the sender asks for goes from
the client through the spool to a relayhost that offers DSN, and no further.
"""

import smtplib
import sys

import pytest

from relayhost import EXTENSIONS

WISHES = ("-N", "success,Delay", "-R", "hdrs", "-V", "a+b =c")
ENVELOPE = " RET=HDRS ENVID=a+2Bb+20+3Dc"


@pytest.fixture
def dsn_host(host):
    host.extensions = [*EXTENSIONS, "DSN"]
    return host


def commands(host, *verbs):
    """What came in with these verbs, of all sessions."""
    return [line for session in host.sessions for line in session.commands
            if line.split()[0] in verbs]


def envelope(host):
    """MAIL, without the parameters that are not DSN's, and every RCPT."""
    host.wait_messages(1)
    return [" ".join(word for word in line.split()
                     if not word.startswith(("SIZE=", "BODY=")))
            for line in commands(host, "MAIL", "RCPT")]


def submit(daemon, mail_options, recipients):
    """One message by SMTP; recipients: addresses and their parameters."""
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        client.ehlo()
        assert client.has_extn("dsn")
        assert client.mail("me@example.com", mail_options)[0] == 250
        for address, *parameters in recipients:
            assert client.rcpt(address, parameters)[0] == 250
        assert client.data(b"Subject: x\r\n\r\nx\r\n")[0] == 250


def test_through_smtp(dsn_host, daemon):
    submit(daemon, ["RET=full", "ENVID=a+2bb"], [
        ("one@example.net", "notify=never", "ORCPT=rfc822;o+2Bne@example.net"),
        ("two@example.net", "NOTIFY=DELAY,SUCCESS"),
        ("three@example.net",)])
    assert envelope(dsn_host) == [
        "MAIL FROM:<me@example.com> RET=FULL ENVID=a+2Bb",
        "RCPT TO:<one@example.net> NOTIFY=NEVER "
        "ORCPT=rfc822;o+2Bne@example.net",
        "RCPT TO:<two@example.net> NOTIFY=SUCCESS,DELAY",
        "RCPT TO:<three@example.net>"]


def test_through_sendmail(dsn_host, daemon):
    done = daemon.sendmail("-f", "me@example.com", *WISHES, "you@example.net",
                           data=b"x\n")
    assert done.returncode == 0, done
    assert envelope(dsn_host) == [
        f"MAIL FROM:<me@example.com>{ENVELOPE}",
        "RCPT TO:<you@example.net> NOTIFY=SUCCESS,DELAY"]


def test_as_mutt_calls_it(dsn_host, daemon):
    done = daemon.sendmail("-oem", "-oi", "-N", "failure,delay", "-R", "hdrs",
                           "--", "you@example.net",
                           data=b"From: me@example.com\n\nx\n")
    assert done.returncode == 0, done
    mail, rcpt = envelope(dsn_host)
    assert mail.endswith(" RET=HDRS")
    assert rcpt == "RCPT TO:<you@example.net> NOTIFY=FAILURE,DELAY"


def test_every_address_of_an_alias_inherits_them(dsn_host, make_daemon):
    daemon = make_daemon(aliases="ops: a@example.net, b@example.net\n").start()
    submit(daemon, [], [
        ("a@example.net", "NOTIFY=NEVER"),
        ("ops", "NOTIFY=FAILURE", "ORCPT=rfc822;ops@web1"),
        ("b@example.net", "NOTIFY=SUCCESS")])
    assert envelope(dsn_host) == [
        "MAIL FROM:<me@example.com>",
        "RCPT TO:<a@example.net> NOTIFY=NEVER",
        "RCPT TO:<b@example.net> NOTIFY=FAILURE ORCPT=rfc822;ops@web1"]


def test_a_restart_forgets_none(dsn_host, make_daemon):
    dsn_host.fault("MAIL", "451 4.3.0 later", times=1)
    daemon = make_daemon().start()
    assert daemon.sendmail("-f", "me@example.com", *WISHES, "you@example.net",
                           data=b"x\n").returncode == 0
    daemon.wait_log("status=deferred")
    daemon.kill()
    daemon.start()
    assert daemon.relayctl("flush").returncode == 0
    assert envelope(dsn_host)[-2:] == [
        f"MAIL FROM:<me@example.com>{ENVELOPE}",
        "RCPT TO:<you@example.net> NOTIFY=SUCCESS,DELAY"]


def test_a_relayhost_without_dsn_hears_nothing_of_it(host, daemon):
    submit(daemon, ["RET=FULL", "ENVID=x"], [
        ("you@example.net", "NOTIFY=NEVER", "ORCPT=rfc822;x@y")])
    assert envelope(host) == ["MAIL FROM:<me@example.com>",
                              "RCPT TO:<you@example.net>"]


def test_nothing_is_made_up(dsn_host, daemon):
    assert daemon.sendmail("-f", "me@example.com", "you@example.net",
                           data=b"x\n").returncode == 0
    assert envelope(dsn_host) == ["MAIL FROM:<me@example.com>",
                                  "RCPT TO:<you@example.net>"]


@pytest.mark.parametrize("mail, rcpt", [  # A45, A46
    (["ENVID=a+0Db"], []), (["ENVID=a+3"], []), (["ENVID=a+zz"], []),
    (["ENVID=" + "x" * 101], []), (["RET=BODY"], []),
    ([], ["ORCPT=rfc822;a+0Ab@c"]), ([], ["ORCPT=rfc822;" + "x" * 494]),
    ([], ["NOTIFY=NEVER,SUCCESS"]), ([], ["NOTIFY="]), ([], ["NOTIFY=X"]),
    ([], ["NOTIFY=DELAY", "NOTIFY=DELAY"]),
])
def test_bad_values_are_refused(daemon, mail, rcpt):
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        client.ehlo()
        reply = client.mail("me@example.com", mail)
        if rcpt:
            assert reply[0] == 250
            reply = client.rcpt("you@example.net", rcpt)
    assert reply[0] == 501 and reply[1].startswith(b"5.5.4"), reply
    daemon.wait_log(r"reject: (MAIL|RCPT) from .*: 501 5\.5\.4")
    assert daemon.queued() == []


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
