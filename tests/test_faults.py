"""A relayhost that is at fault, and messages that are unusual: nothing is
lost, nothing leaks, and the operator is told what is wrong."""

import json
import os
import re
import smtplib
import socket
import sys
import threading

import pytest

from harness import (PASSWORD, USER, assert_valid, decoded_body, peak,
                     private)
from misbehaviour import (assert_flows, assert_nothing_leaked, assert_told,
                          fault, hold)


def no_auth(host):
    good, host.auth = host.auth, ()
    return lambda: setattr(host, "auth", good)


def other_password(host):
    host.users[USER] = "another"
    return lambda: host.users.update({USER: PASSWORD})


@pytest.mark.parametrize("spoil, words", [
    (no_auth, r"AUTH"),
    (other_password, r"535 5\.7\.8 wrong user name or password"),
    (fault("AUTH", "454 4.7.0 temporary authentication failure"),
     r"454 4\.7\.0 temporary authentication failure"),
], ids=["no AUTH", "wrong password", "AUTH 454"])
def test_a_login_that_fails(make_daemon, host, spoil, words):
    mend = spoil(host)
    daemon = make_daemon().start()
    hold(daemon)
    assert_told(daemon, words)
    for session in host.sessions:
        assert not any(command.startswith("MAIL")
                       for command in session.commands)
    mend()
    assert_flows(daemon, host)
    assert_nothing_leaked(host)


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_nothing_secret_in_clear(make_daemon, host, tls):
    host.tls = tls
    daemon = make_daemon(relay={"tls": tls}).start()
    hold(daemon)
    host.wait_messages(1)
    assert_nothing_leaked(host)
    if tls == "implicit":
        assert host.sessions[0].clear == b""


def test_login_is_used_where_plain_is_not_offered(daemon, host):
    host.auth = ("LOGIN",)
    hold(daemon)
    message, = host.wait_messages(1)
    assert message.user == USER


@pytest.fixture
def dns(directory):
    """A name server that hears and never answers, and a hosts file: files
    and addresses for a private namespace."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    address = f"127.{os.urandom(1)[0]}.{os.urandom(1)[0]}.53"
    server.bind((address, 53))
    (directory / "resolv.conf").write_text(
        f"nameserver {address}\noptions timeout:1 attempts:1\n")
    (directory / "hosts").write_text("127.0.0.1 localhost\n")
    (directory / "private").mkdir()
    yield server
    server.close()


@pytest.mark.root
def test_dns_dead(make_daemon, host, directory, dns):
    daemon = make_daemon(
        relay={"host": "localhost.test"},
        wrapper=private(directory / "private", (), [
            (directory / "hosts", "/etc/hosts"),
            (directory / "resolv.conf", "/etc/resolv.conf")]))
    daemon.start()
    hold(daemon)
    assert_told(daemon, r"(?i)localhost\.test.*(resolve|DNS|lookup|name)|"
                        r"(?i:resolve|DNS).*localhost\.test")
    assert host.sessions == []
    # The name's certificate is that of localhost, so only DNS can be seen to
    # have come back.
    with open(directory / "hosts", "a") as hosts:
        hosts.write("127.0.0.1 localhost.test\n")
    host.users[USER] = PASSWORD
    assert daemon.relayctl("flush").returncode == 0
    host.wait(lambda: host.sessions, "a connection")
    daemon.wait_log(r"(?i)certificate")
    assert len(daemon.queued()) == 1


def test_one_of_three_is_deferred_and_one_refused(daemon, host):
    later = host.fault("RCPT", "450 4.2.1 mailbox busy", match="later")
    host.fault("RCPT", "550 5.1.1 no such user", match="never")
    done = daemon.sendmail("now@example.net", "later@example.net",
                           "never@example.net", data=b"Subject: x\n\nbody\n")
    assert done.returncode == 0
    message, = host.wait_messages(1)
    assert message.recipients == ["now@example.net"]
    daemon.wait_log(r"to=<now@example\.net>.*dsn=2\.0\.0, status=sent")
    daemon.wait_log(r"to=<later@example\.net>.*dsn=4\.2\.1, status=deferred "
                    r".*450 4\.2\.1 mailbox busy")
    name = daemon.wait_log(r"(\w+): to=<never@example\.net>.*dsn=5\.1\.1, "
                           r"status=(?!sent|deferred).*"
                           r"550 5\.1\.1 no such user")[1]
    assert daemon.queued() == [name]    # its report waits for the others
    host.mend(later)
    assert daemon.relayctl("flush").returncode == 0
    message = host.wait_messages(2)[1]
    assert message.recipients == ["later@example.net"]
    daemon.wait_log(r"to=<later@example\.net>.*status=sent")
    report = host.wait_messages(3)[2]
    assert (report.sender, report.recipients) == ("", ["relay@example.com"])
    assert b"never@example.net" in report.body
    assert b"later@example.net" not in report.body
    daemon.wait_log(f"{name}: removed")
    assert daemon.queued("failed") == []


def test_a_relay_that_fails_in_the_middle_of_a_message(make_daemon, host):
    """Its recipients are more than a transaction may have.  The rest waits for
    the relay, and for nothing else."""
    down = host.fault("GREETING", "421 4.3.2 not now", skip=1)
    daemon = make_daemon(relay={"recipients_per_message": 1,
                                "messages_per_connection": 1}).start()
    assert daemon.sendmail("one@example.net", "two@example.net",
                           data=b"Subject: x\n\nbody\n").returncode == 0
    daemon.wait_log(r"to=<two@example\.net>.*status=deferred .*421 4\.3\.2")
    host.mend(down)
    first, second = host.wait_messages(2)
    assert (first.recipients, second.recipients) == (["one@example.net"],
                                                     ["two@example.net"])
    daemon.wait_log("removed")


def test_refused_at_the_end_of_data(daemon, host):
    host.fault("END", "554 5.6.0 not this", times=1)
    assert daemon.sendmail("root", data=b"one\n").returncode == 0
    daemon.wait_log(r"dsn=5\.6\.0, status=.*554 5\.6\.0 not this")
    report, = host.wait_messages(1)
    assert report.sender == ""
    assert daemon.sendmail("root", data=b"two\n").returncode == 0
    message = host.wait_messages(2)[1]
    assert message.body == b"two\r\n"


def test_released_from_failed(daemon, host):
    """What was refused is listed, and goes out once it is released."""
    host.fault("END", "554 5.6.0 not this", times=1)
    assert daemon.sendmail("-N", "never", "root",
                           data=b"one\n").returncode == 0
    daemon.wait_log("kept in failed/")
    failed, = json.loads(daemon.relayctl("queue", "--failed", "--json").stdout)
    assert failed["state"] == "failed"
    assert "554 5.6.0 not this" in failed["reason"]
    assert failed["recipients"][0]["state"] == "failed"
    assert "554 5.6.0 not this" in daemon.relayctl("queue", "--failed").stdout
    assert daemon.relayctl("status").returncode == 1
    assert daemon.relayctl("release", failed["id"]).returncode == 0
    message, = host.wait_messages(1)
    assert message.body == b"one\r\n"
    daemon.wait_log(f"{failed['id']}: removed")
    assert daemon.queued() == []
    assert daemon.relayctl("release", failed["id"]).returncode == 1
    assert daemon.relayctl("status").returncode == 0


def test_lost_before_the_reply_to_the_message(daemon, host):
    """Outcome unknown: it is sent again, and the log says so."""
    host.fault("END", then="reset", times=1, keep=True)
    assert daemon.sendmail("root", data=b"one\n").returncode == 0
    daemon.wait_log("dup=possible")
    assert daemon.relayctl("flush").returncode == 0
    first, second = host.wait_messages(2)
    ids = {re.search(rb"(?mi)^Message-ID: (.*)\r$", one.header)[1]
           for one in (first, second)}
    assert len(ids) == 1 and first.body == second.body


def test_slow_replies(daemon, host):
    for point in ("GREETING", "EHLO", "AUTH", "MAIL", "END"):
        host.fault(point, slow=0.002)
    hold(daemon)
    host.wait_messages(1)
    daemon.wait_log("status=sent")


@pytest.mark.parametrize("extensions", [
    (), ("PIPELINING",), ("CHUNKING",), ("PIPELINING", "8BITMIME"),
    ("PIPELINING", "CHUNKING", "8BITMIME", "SIZE 1000000")],
    ids=lambda extensions: " ".join(extensions) or "none")
def test_every_kind_of_relayhost(daemon, host, extensions):
    host.extensions = list(extensions)
    for number in range(20):
        done = daemon.sendmail("root", data=b".\n%d\n" % number)
        assert done.returncode == 0
    bodies = [message.body for message in host.wait_messages(20)]
    assert sorted(bodies) == sorted(b".\r\n%d\r\n" % number
                                    for number in range(20))
    # Without PIPELINING a chunk would cost a round trip just as well.
    verb = "BDAT" if {"PIPELINING", "CHUNKING"} <= {*extensions} else "DATA"
    assert {message.verb for message in host.messages} == {verb}


UNUSUAL = {
    "no final newline": b"text without an end",
    "NUL octets": b"a\0b\n\0\n\0",
    "lone dots": b".\n..\n.\n.a\n\n.\n",
    "a line of 10,000 octets": b"x" * 10000 + b"\n",
    "8-bit and control octets": bytes(set(range(256)) - {10, 13}) + b"\n",
    "nothing": b"",
    "an only empty line": b"\n",
}


@pytest.mark.parametrize("extensions", [("PIPELINING", "CHUNKING", "8BITMIME"),
                                        ()],
                         ids=["BDAT", "DATA"])
@pytest.mark.parametrize("body", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_unusual_message(daemon, host, body, extensions):
    host.extensions = list(extensions)
    wanted = body.replace(b"\n", b"\r\n")
    if wanted and not wanted.endswith(b"\r\n"):
        wanted += b"\r\n"
    assert daemon.sendmail("-t", data=b"To: root\n\n" + body).returncode == 0
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        client.sendmail("root", ["root"],
                        b"To: root\r\n\r\n" + body.replace(b"\n", b"\r\n"))
    for message in host.wait_messages(2):
        assert decoded_body(message) == wanted
        assert_valid(message)


@pytest.mark.slow
@pytest.mark.parametrize("extensions", [("PIPELINING", "CHUNKING"), ()],
                         ids=["BDAT", "DATA"])
def test_fifty_megabytes_in_little_memory(make_daemon, host, extensions):
    host.extensions = list(extensions)
    daemon = make_daemon(top={"message_size_limit": "64M"}).start()
    assert daemon.sendmail("root", data=b"small\n").returncode == 0
    host.wait_messages(1)
    before = peak(daemon)
    line = b"0123456789abcdef" * 4 + b"\n"
    body = line * (50 * 1024 * 1024 // len(line))
    done = daemon.sendmail("root", data=b"Subject: big\n\n" + body)
    assert done.returncode == 0, done
    _, message = host.wait_messages(2)
    assert message.body == body.replace(b"\n", b"\r\n")
    daemon.wait_log("removed", 2)
    assert peak(daemon) - before < 8


def test_many_clients_at_once(daemon, host):
    def send(number):
        with smtplib.SMTP("127.0.0.1", daemon.port) as client:
            for one in range(10):
                client.sendmail("root", ["root"],
                                f"Subject: {number}-{one}\r\n\r\nx\r\n")

    clients = [threading.Thread(target=send, args=(number,))
               for number in range(20)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    subjects = [re.search(rb"(?m)^Subject: (\S+)\r$", message.header)[1]
                for message in host.wait_messages(200)]
    assert len(set(subjects)) == len(subjects) == 200


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
