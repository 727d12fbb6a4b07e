"""A relayhost whose TLS is not what it must be.  Whatever it tempts with, not
an octet of a login or of mail goes out, as its own log of the wire has it; all
mail waits, with a reason that names the cause, and leaves once that is gone.

Each row says how relayd would be configured by somebody careless: then the
same relayhost gets the login, so that the row can fail.
"""

import json
import re
import smtplib
import ssl
import sys

import pytest

from certificates import odd_context, odd_tls
from harness import USER
from misbehaviour import (assert_nothing_leaked, assert_told,
                          certificate, context, fault, no_starttls,
                          to_client_hello)
from test_auth import pin

UNVERIFIED, IN_CLEAR = {"tls_verify": False}, {"tls": "none"}
SOON = {"connect_timeout": "1s"}
# All that may be seen of a client before there is TLS.
HARMLESS = re.compile(rb"((EHLO|HELO) web1\.example\.com\r\n|STARTTLS\r\n|"
                      rb"QUIT\r\n)*")
MESSAGES, RECIPIENTS = 3, 4
TLS_FAILED = "the TLS handshake with localhost.* failed: "
LATE = "timed out (while waiting for|in) the TLS handshake"
UNTRUSTED = "the certificate of localhost.* is not trusted: "
MISNAMED = "the certificate of .* is not for the name "
UNFIT = ".*; the relayhost needs another one"
UNTIMELY = "the certificate of localhost.* is not valid now: "


def nothing(host):
    return lambda: None


def handshake(*arguments, **options):
    return fault("STARTTLS", "220 go",
                 then=to_client_hello(*arguments, **options))


def odd(kind):
    return context(odd_context(kind))


def row(name, spoil, words, careless, **relay):
    """relay: keys of its section, until the cause is gone."""
    return pytest.param(spoil, words, careless, relay, id=name)


# In both kinds of TLS.
CERTIFICATES = [
    row("I21-self-signed", certificate("self-signed"),
        UNTRUSTED + "self-signed", UNVERIFIED),
    row("I21-unknown-CA", nothing, UNTRUSTED + "unable to get local issuer",
        UNVERIFIED, tls_ca_file=None),
    row("I21-expired", certificate("expired"), UNTIMELY + ".*expired",
        UNVERIFIED),
    row("I21-not-yet-valid", odd("not-yet-valid"), UNTIMELY + ".*not yet valid",
        UNVERIFIED),
    row("I21-wrong-name", certificate("wrong-name"), MISNAMED + "localhost",
        UNVERIFIED),
    row("I21-name-only-in-CN", odd("name-only-in-CN"), MISNAMED + "localhost",
        UNVERIFIED),
    row("I21-any-name", odd("any"), MISNAMED + "localhost", UNVERIFIED),
    row("I21-NUL-in-name", odd("NUL"), MISNAMED + "localhost", UNVERIFIED),
    row("I21-other-address", odd("other-address"), MISNAMED + "127.0.0.1",
        UNVERIFIED, host="127.0.0.1"),
    row("I21-address-as-name", odd("address-as-name"), MISNAMED + "127.0.0.1",
        UNVERIFIED, host="127.0.0.1"),
    row("I21-not-for-servers", odd("for-clients"),
        UNTRUSTED + "unsuitable certificate purpose" + UNFIT, UNVERIFIED),
    row("I21-RSA-1024", odd("RSA-1024"), "key too (small|weak)" + UNFIT,
        IN_CLEAR),
    row("I21-SHA-1", odd("SHA-1"), "digest algorithm too weak" + UNFIT,
        UNVERIFIED),
]

STARTTLS = [
    row("I17-stripped", no_starttls,
        "does not offer STARTTLS, so nothing was sent", IN_CLEAR),
    row("I18-refused", fault("STARTTLS", "454 4.7.0 no TLS today"),
        r"refused STARTTLS: 454 4\.7\.0 no TLS today", IN_CLEAR),
    row("I19-injected", fault("STARTTLS", "220 go\r\n250-injected"),
        "sent plain text where TLS was to begin, so nothing was sent",
        IN_CLEAR),
    row("I20-lost-instead", fault("STARTTLS", then="close"),
        "lost the connection to localhost.* while waiting for the reply to "
        "STARTTLS", IN_CLEAR),
    row("I20-silent-handshake", handshake(then="stall"), LATE, IN_CLEAR,
        **SOON),
    row("I20-garbage-for-a-handshake", handshake(b"250 2.0.0 ok\r\n",
                                             then="stall"),
        TLS_FAILED, IN_CLEAR),
    row("I20-cut-handshake", handshake(), TLS_FAILED, IN_CLEAR),
    row("I20-reset-handshake", handshake(then="reset"), TLS_FAILED, IN_CLEAR),
    row("I22-TLS-1.0", context(odd_tls(ssl.TLSVersion.TLSv1)),
        TLS_FAILED + ".*tls_min", IN_CLEAR),
    row("I22-TLS-1.1", context(odd_tls(ssl.TLSVersion.TLSv1_1)),
        TLS_FAILED + ".*tls_min", IN_CLEAR),
    row("I22-no-cipher", context(odd_tls(ciphers="eNULL")), TLS_FAILED,
        IN_CLEAR),
    row("I22-anonymous-cipher", context(odd_tls(ciphers="aNULL")), TLS_FAILED,
        IN_CLEAR),
]

BOTH = [pytest.param(*one.values, tls, id=f"{one.id}-{tls}")
        for one in CERTIFICATES for tls in ("starttls", "implicit")]
ALL = BOTH + [pytest.param(*one.values, "starttls", id=one.id)
              for one in STARTTLS]


def hand_over(daemon):
    """Mail of every kind: to one and to several, by sendmail and SMTP."""
    assert daemon.sendmail("-f", "s3cret@example.com", "root", data=b"Subject:"
                           b" s3cret-subject\n\ns3cret-body\n").returncode == 0
    assert daemon.sendmail("-f", "<>", "root",
                           data=b"s3cret-body\n").returncode == 0
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        client.sendmail("s3cret@example.com", ["root", "s3cret@example.net"],
                        "Subject: s3cret\r\n\r\ns3cret-body\r\n")


def assert_nothing_sent(host, since=0):
    """Before TLS only what opens it, in TLS nothing, and no secret at all."""
    for session in host.sessions[since:]:
        assert HARMLESS.fullmatch(session.clear), session.clear
        assert session.plain == b""
    assert_nothing_leaked(host)


def assert_all_deferred(daemon, words):
    assert_told(daemon, words, MESSAGES)
    daemon.wait_log(r"to=<.*>, .*dsn=4\..*status=deferred \(.*" + words,
                    RECIPIENTS)
    listed = json.loads(daemon.relayctl("queue", "--json").stdout)
    assert len(listed) == MESSAGES
    for message in listed:
        assert message["attempts"] == 0 and re.search(words, message["reason"])


@pytest.fixture
def tempting(host):
    """It would take a login and mail in clear as well."""
    host.auth_in_clear = True
    return host


@pytest.mark.parametrize("spoil, words, careless, relay, tls", ALL)
def test_nothing_is_sent_and_no_mail_lost(make_daemon, tempting, spoil, words,
                                          careless, relay, tls):
    tempting.tls = tls
    daemon = make_daemon(relay={"tls": tls, **relay})
    usual = make_daemon(relay={"tls": tls}).relay
    mend = spoil(tempting)
    daemon.start()
    hand_over(daemon)
    assert_all_deferred(daemon, words)
    assert tempting.sessions
    assert_nothing_sent(tempting)
    mend()
    if relay:
        daemon.relay = usual
        daemon.write_config()
        daemon.stop()       # another tls_ca_file than it may read
        daemon.start()
    assert daemon.relayctl("flush").returncode == 0
    daemon.wait_log("status=sent", RECIPIENTS)
    assert all(one.tls and one.user == USER and one.body == b"s3cret-body\r\n"
               for one in tempting.wait_messages(MESSAGES))
    assert_nothing_leaked(tempting)


@pytest.mark.parametrize("spoil, words, careless, relay, tls", ALL)
def test_who_does_not_care_gives_it_away(make_daemon, tempting, spoil, words,
                                         careless, relay, tls):
    """The check above finds it, so it is no check that always holds."""
    tempting.tls = "none" if careless is IN_CLEAR else tls
    spoil(tempting)
    daemon = make_daemon(relay={"tls": tls, **relay, **careless}).start()
    hand_over(daemon)
    tempting.wait_messages(1)
    with pytest.raises(AssertionError):
        assert_nothing_sent(tempting)


WEAK = [one for one in CERTIFICATES if one.id in ("I21-RSA-1024", "I21-SHA-1")]


@pytest.mark.parametrize("spoil, words, careless, relay", WEAK)
@pytest.mark.parametrize("level", [0, 1])
def test_I21_what_is_weak_is_refused_whatever_the_system_takes(
        make_daemon, tempting, monkeypatch, spoil, words, careless, relay,
        level):
    """openssl.cnf may set another level than OpenSSL was made with."""
    spoil(tempting)
    daemon = make_daemon()
    cnf = daemon.file.with_name("openssl.cnf")  # where it may read
    cnf.write_text("openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default "
                   f"= c\n[c]\nCipherString = DEFAULT:@SECLEVEL={level}\n")
    monkeypatch.setenv("OPENSSL_CONF", str(cnf))
    daemon.start()
    hand_over(daemon)
    assert_all_deferred(daemon, words)
    assert_nothing_sent(tempting)


@pytest.mark.parametrize("verify", [True, False])
def test_I22_another_key_than_the_pinned_one(make_daemon, tempting, authority,
                                             verify):
    daemon = make_daemon(relay={"tls_pin": pin(authority, "expired"),
                                "tls_verify": verify}).start()
    hand_over(daemon)
    assert_all_deferred(daemon, r"public key of localhost.* is not the one in "
                                "tls_pin")
    assert_nothing_sent(tempting)


@pytest.mark.parametrize("tls", ["starttls", "opportunistic"])
def test_a_login_refused_in_TLS_is_not_tried_in_clear(make_daemon, tempting,
                                                      tls):
    tempting.users[USER] = "another"
    daemon = make_daemon(relay={"tls": tls}).start()
    hand_over(daemon)
    assert_all_deferred(daemon, r"535 5\.7\.8 ")
    assert_nothing_leaked(tempting)
    before = len(tempting.sessions)
    tempting.tls = "none"
    assert daemon.relayctl("flush").returncode == 0
    tempting.wait_ended(before + 1)
    if tls == "opportunistic":
        with pytest.raises(AssertionError):
            assert_nothing_sent(tempting, before)
        return
    assert_all_deferred(daemon, "does not offer STARTTLS, so nothing was sent")
    assert_nothing_sent(tempting, before)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
