"""Debian's Postfix as the relayhost: TLS required, SASL by Cyrus, its own
certificate authority.  It passes what it takes on to a Relayhost, where the
tests look at it."""

import re
import shutil
import socket
import subprocess
import sys
import threading

import pytest

from callers import run_cron
from conftest import make_directory
from harness import PASSWORD, TIMEOUT, USER, assert_valid, crlf, private
from relayhost import EXTENSIONS, Relayhost

pytestmark = pytest.mark.peers("postfix", "sasl2-bin", "libsasl2-modules",
                               "bsd-mailx", "cron", "faketime")

MAIN = """\
compatibility_level = 3.6
myhostname = mx.example.net
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
maillog_file = /dev/stdout
relayhost = [127.0.0.1]:{sink}
smtp_tls_security_level = none
alias_maps =
smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = {cert}
smtpd_tls_key_file = {key}
smtpd_tls_received_header = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_local_domain = example.com
smtpd_sasl_authenticated_header = yes
smtpd_tls_auth_only = yes
smtpd_relay_restrictions = permit_sasl_authenticated, reject
# Only complete addresses, as providers want them.
smtpd_recipient_restrictions = reject_non_fqdn_sender,
    reject_non_fqdn_recipient, permit_sasl_authenticated, reject
smtpd_helo_required = yes
# A shorthost would be refused.
smtpd_helo_restrictions = reject_invalid_helo_hostname
append_dot_mydomain = no
local_header_rewrite_clients =
"""

SET_UP = r"""
echo 'postfix:x:390:390::/var/spool/postfix:/usr/sbin/nologin' >>/etc/passwd
printf 'postfix:x:390:\npostdrop:x:391:\n' >>/etc/group
cp "$1/main.cf" /etc/postfix/main.cf
sed -e 's/^\([a-z].*\s\)y\(\s\+[-0-9]*\s\+[-0-9?]*\s\)/\1n\2/' \
    -e "s/^smtp      inet/127.0.0.1:$2 inet/" \
    /usr/share/postfix/master.cf.dist >/etc/postfix/master.cf
mkdir -p /etc/postfix/sasl /var/lib/postfix /var/spool/postfix
chown postfix /var/lib/postfix
printf '%s\n' 'pwcheck_method: auxprop' 'auxprop_plugin: sasldb' \
    'mech_list: PLAIN LOGIN CRAM-MD5 SCRAM-SHA-256' >/etc/postfix/sasl/smtpd.conf
printf %s "$4" | saslpasswd2 -p -c -u "${3#*@}" "${3%@*}"
chown postfix /etc/sasldb2
chgrp postdrop /usr/sbin/postqueue /usr/sbin/postdrop
exec postfix start-fg </dev/null
"""


class Postfix:
    def __init__(self, directory, authority):
        self.authority = authority
        self.sink = Relayhost(tls="none", extensions=(*EXTENSIONS, "DSN"))
        cert, key = authority.certificate()
        (directory / "main.cf").write_text(MAIN.format(
            sink=self.sink.port, cert=cert, key=key))
        (directory / "private").mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log, self._changed = [], threading.Condition()
        self.process = subprocess.Popen(
            private(directory / "private",
                    ("sh", "-euc", SET_UP, "sh", directory, self.port, USER,
                     PASSWORD), end_all=True),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        threading.Thread(target=self._read, daemon=True).start()
        self.wait_log("daemon started")

    def _read(self):
        for line in self.process.stdout:
            with self._changed:
                self.log.append(line.decode("utf-8", "replace").rstrip())
                self._changed.notify_all()

    def wait_log(self, pattern):
        with self._changed:
            assert self._changed.wait_for(
                lambda: any(re.search(pattern, line) for line in self.log),
                TIMEOUT), "\n".join(self.log)

    def close(self):
        self.process.kill()
        self.process.wait(TIMEOUT)
        self.sink.close()


@pytest.fixture(scope="module")
def _postfix(authority):
    directory = make_directory()
    server = Postfix(directory, authority)
    yield server
    server.close()
    shutil.rmtree(directory)


@pytest.fixture
def postfix(_postfix):
    _postfix.sink.messages.clear()
    return _postfix


@pytest.fixture
def daemon(make_daemon, postfix):
    return make_daemon(host=postfix, top={"from": "alerts@example.com"},
                       relay={"user": USER}).start()


def arrived(postfix, daemon, body):
    """What came out behind Postfix, and how it went in."""
    try:
        message, = postfix.sink.wait_messages(1)
    except AssertionError as error:
        raise AssertionError("\n".join(postfix.log + daemon.log)) from error
    assert message.recipients == ["you@example.com"]
    assert message.sender == "alerts@example.com"
    assert message.body == crlf(body)
    header = assert_valid(message)
    by_postfix = " ".join(header.get_all("received")[0].split())
    assert re.search(r"using TLSv1\.3 with cipher", by_postfix), by_postfix
    assert f"Authenticated sender: {USER}" in by_postfix
    assert header["from"].addresses[0].addr_spec == "alerts@example.com"
    assert header["to"].addresses[0].domain == "example.com"
    daemon.wait_log(r"to=<you@example\.com>, orig_to=<root>, "
                    rf"relay=localhost\[127\.0\.0\.1\]:{postfix.port}, .*"
                    r"dsn=2\.0\.0, status=sent "
                    r"\(250 2\.0\.0 Ok: .*queued as [0-9A-Za-z]+\)")
    return header


def test_echo_mail_root(postfix, daemon, start):
    process = start("sh", "-c", "echo body | bsd-mailx -s subject root")
    assert process.wait(TIMEOUT) == 0
    header = arrived(postfix, daemon, b"body\n")
    assert header["subject"] == "subject"


def test_a_job_of_cron(postfix, daemon, start):
    run_cron(start, "echo body")
    header = arrived(postfix, daemon, b"body\n")
    assert header["from"].addresses[0].display_name == "Cron Daemon"


def test_what_is_asked_of_dsn_passes_through_both(postfix, daemon):
    done = daemon.sendmail("-N", "success,delay", "-R", "hdrs", "-V", "a+b =c",
                           "you@example.com", data=b"Subject: x\n\nx\n")
    assert done.returncode == 0, done
    postfix.sink.wait_messages(1)
    mail, rcpt = [line for line in postfix.sink.sessions[-1].commands
                  if line.startswith(("MAIL", "RCPT"))][-2:]
    assert {"RET=HDRS", "ENVID=a+2Bb+20+3Dc"} <= set(mail.split()), mail
    assert "NOTIFY=SUCCESS,DELAY" in rcpt.split(), rcpt


def test_two_hundred_messages_over_one_connection(postfix, daemon):
    for number in range(200):
        done = daemon.sendmail("root", data=b"Subject: %d\n\nx\n" % number)
        assert done.returncode == 0, done
    messages = postfix.sink.wait_messages(200)
    subjects = sorted(int(re.search(rb"(?m)^Subject: (\d+)", message.header)[1])
                      for message in messages)
    assert subjects == list(range(200))


def test_a_wrong_password_is_named_and_loses_nothing(postfix, make_daemon):
    daemon = make_daemon(host=postfix)
    daemon.set_password("wrong")
    daemon.start()
    assert daemon.sendmail("root", data=b"x\n").returncode == 0
    daemon.wait_log(r"535 5\.7\.8")
    assert "535 5.7.8" in " ".join(daemon.relayctl("status").stdout.split())
    daemon.set_password(PASSWORD)
    assert daemon.relayctl("flush").returncode == 0
    postfix.sink.wait_messages(1)
    daemon.wait_log("status=sent")
    assert daemon.log.count("status=bounced") == 0


@pytest.mark.parametrize("auth, mechanism", [
    ("auto", "SCRAM-SHA-256"), ("scram-sha-256", "SCRAM-SHA-256"),
    ("plain", "PLAIN"), ("login", "LOGIN"), ("cram-md5", "CRAM-MD5")])
def test_every_mechanism_of_cyrus_sasl(postfix, make_daemon, auth, mechanism):
    daemon = make_daemon(host=postfix, relay={"auth": auth}).start()
    assert daemon.sendmail("root", data=b"x\n").returncode == 0
    postfix.sink.wait_messages(1)
    daemon.wait_log("status=sent")
    postfix.wait_log(f"sasl_method={mechanism}, sasl_username={USER}")


@pytest.mark.parametrize("auth", ["scram-sha-256", "cram-md5"])
def test_a_wrong_password_by_any_mechanism(postfix, make_daemon, auth):
    daemon = make_daemon(host=postfix, relay={"auth": auth})
    daemon.set_password("wrong")
    daemon.start()
    assert daemon.sendmail("root", data=b"x\n").returncode == 0
    daemon.wait_log(r"paused \(auth\): .*535 5\.7\.8")
    assert postfix.sink.messages == []


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
