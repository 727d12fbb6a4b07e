"""The mail libraries of the usual languages, over sendmail and over SMTP: what
each one hands over arrives at the relayhost once, with the right envelope, a
valid header, and its body byte for byte."""

import email.message
import email.policy
import os
import re
import smtplib
import socket
import sys

import pytest

from callers import BLIND, BODY, COPY, TO
from harness import USER, assert_valid, crlf

SENDER = "www@web.example.net"


@pytest.mark.peers("php-cli")
def test_php_mail(run, arrived):
    run("php8.2", "-d", "sendmail_path=/usr/sbin/sendmail -t -i", "-r",
        "mail('root', 'disk', stream_get_contents(STDIN),"
        " \"From: www@web1.example.com\\r\\nBcc: blind@example.net\","
        " '-fwww@web1.example.com') or exit(1);")
    header = arrived([TO, BLIND])
    assert header["subject"] == "disk"


# Each sends standard input as the body from SENDER to root, COPY and, blindly,
# BLIND.  PORT stands for the daemon's.
PHPMAILER = """
require '/usr/share/php/libphp-phpmailer/autoload.php';
$m = new PHPMailer\\PHPMailer\\PHPMailer(true);
%s
$m->CharSet = 'utf-8';
$m->setFrom('www@web.example.net', 'Büro');
$m->addAddress('root@web1.example.com');
$m->addCC('copy@example.net');
$m->addBCC('blind@example.net');
$m->Subject = 'disk';
$m->Body = stream_get_contents(STDIN);
$m->send();
"""

SYMFONY = """
require '/usr/share/php/Symfony/Component/Mailer/autoload.php';
use Symfony\\Component\\Mailer\\{Mailer, Transport};
$m = (new Symfony\\Component\\Mime\\Email())
    ->from('www@web.example.net')->to('root@localhost')
    ->cc('copy@example.net')->bcc('blind@example.net')->subject('disk')
    ->text(stream_get_contents(STDIN));
(new Mailer(Transport::fromDsn('%s')))->send($m);
"""

EMAIL_SENDER = """
use Email::Sender::Simple qw(sendmail);
use Email::Sender::Transport::%s;
use Email::Simple;
sendmail(Email::Simple->create(
    header => [From => 'www@web.example.net', To => 'root', Subject => 'disk',
        Cc => 'copy@example.net'],
    body => join('', <STDIN>)), {
    to => ['root', 'copy@example.net', 'blind@example.net'],
    transport => Email::Sender::Transport::%s});
"""

MIME_LITE = """
use MIME::Lite;
MIME::Lite->new(From => 'www@web.example.net', To => 'root', Subject => 'disk',
    Cc => 'copy@example.net', Bcc => 'blind@example.net',
    Type => 'text/plain; charset=utf-8', Encoding => 'binary',
    Data => join('', <STDIN>))
    ->send('sendmail', '/usr/lib/sendmail -t -oi -oem') or die;
"""

MAIL_MAILER = """
use Mail::Mailer;
my $m = Mail::Mailer->new(%s);
$m->open({From => 'www@web.example.net', To => 'root', Subject => 'disk',
    Cc => 'copy@example.net', Bcc => 'blind@example.net'});
print $m <STDIN>;
$m->close or die;
"""

RUBY = """
require 'mail'
Mail.defaults { delivery_method %s }
body = $stdin.read
Mail.deliver do
  from 'www@web.example.net'
  to 'root@localhost'
  cc 'copy@example.net'
  bcc 'blind@example.net'
  subject 'disk'
  # Its quoted-printable has "=0D" at the end of each line.
  self.charset = 'UTF-8'
  self.transport_encoding = '8bit'
  body body
end
"""

NODE = """
const transport = require('nodemailer').createTransport(%s);
transport.sendMail({from: 'www@web.example.net', to: 'root@localhost',
    cc: 'copy@example.net', bcc: 'blind@example.net', subject: 'disk',
    text: require('fs').readFileSync(0)}, error => {
    if (error) { console.error(error); process.exitCode = 1; }
    transport.close();
});
"""

PHP = ["php8.2", "-d", "extension=mbstring", "-d", "extension=ctype",
       "-d", "extension=iconv", "-r"]
PERL = ["perl", "-e"]


def library(name, command, script, *peers, sender=SENDER, body=BODY):
    return pytest.param([*command, script], sender, body, id=name,
                        marks=pytest.mark.peers(*peers))


LIBRARIES = [
    library("PHPMailer over sendmail", PHP, PHPMAILER % "$m->isSendmail();",
            "php-cli", "libphp-phpmailer"),
    # By these two ways it adds an empty line.
    library("PHPMailer over PHP's mail()", PHP, PHPMAILER % "$m->isMail();",
            "php-cli", "libphp-phpmailer", body=BODY + "\n\n"),
    library("PHPMailer over SMTP", PHP, PHPMAILER %
            "$m->isSMTP(); $m->Host = '127.0.0.1'; $m->Port = PORT;",
            "php-cli", "libphp-phpmailer", body=BODY + "\n\n"),
    library("Symfony with sendmail -bs", PHP, SYMFONY % "sendmail://default",
            "php-cli", "php-symfony-mailer"),
    library("Symfony as Laravel has it, with sendmail -bs -i", PHP, SYMFONY %
            "sendmail://default?command=/usr/sbin/sendmail%20-bs%20-i",
            "php-cli", "php-symfony-mailer"),
    # Without -i it would double dots.
    library("Symfony with sendmail -t -i", PHP, SYMFONY %
            "sendmail://default?command=/usr/sbin/sendmail%20-t%20-i",
            "php-cli", "php-symfony-mailer"),
    library("Symfony with php.ini's sendmail -t", PHP, SYMFONY %
            "native://default", "php-cli", "php-symfony-mailer"),
    library("Symfony over SMTP", PHP, SYMFONY % "smtp://127.0.0.1:PORT",
            "php-cli", "php-symfony-mailer"),
    library("Email::Sender over sendmail", PERL, EMAIL_SENDER %
            ("Sendmail", "Sendmail->new"), "libemail-sender-perl"),
    library("Email::Sender over SMTP", PERL, EMAIL_SENDER %
            ("SMTP", "SMTP->new({host => '127.0.0.1', port => PORT})"),
            "libemail-sender-perl"),
    library("MIME::Lite", PERL, MIME_LITE, "libmime-lite-perl", sender=USER),
    library("Mail::Mailer over sendmail", PERL, MAIL_MAILER % "'sendmail'",
            "libmailtools-perl", sender=USER),
    library("Mail::Mailer over SMTP", PERL, MAIL_MAILER %
            "'smtp', Server => '127.0.0.1', Port => PORT",
            "libmailtools-perl", sender=USER),
    library("Ruby Mail over sendmail", ["ruby3.1", "-e"], RUBY % ":sendmail",
            "ruby-mail"),
    library("Ruby Mail over SMTP", ["ruby3.1", "-e"], RUBY %
            ":smtp, address: '127.0.0.1', port: PORT", "ruby-mail",
            # Net::SMTP stuffs dots too.
            body=BODY.replace("\n.\n", "\n..\n")),
    library("nodemailer over sendmail", ["node", "-e"], NODE %
            "{sendmail: true}", "nodejs", "node-nodemailer"),
    library("nodemailer over SMTP", ["node", "-e"], NODE %
            "{host: '127.0.0.1', port: PORT}", "nodejs", "node-nodemailer"),
    library("nodemailer over pooled SMTP", ["node", "-e"], NODE %
            "{host: '127.0.0.1', port: PORT, pool: true}", "nodejs",
            "node-nodemailer"),
]


@pytest.mark.parametrize("command, sender, body", LIBRARIES)
def test_a_library(run, daemon, arrived, command, sender, body):
    run(*(word.replace("PORT", str(daemon.port)) for word in command),
        NODE_PATH="/usr/share/nodejs")
    header = arrived([TO, COPY, BLIND], sender, body, decoded=True)
    assert header["subject"] == "disk"
    assert header["from"].addresses[0].addr_spec == SENDER
    assert header["cc"] == COPY


POOL = """
const transport = require('nodemailer').createTransport(
    {host: '127.0.0.1', port: PORT, pool: true, maxConnections: 2});
Promise.all([...Array(8).keys()].map(n => transport.sendMail({
    from: 'www@web.example.net', to: 'root@localhost', subject: `disk ${n}`,
    text: 'full'}))).then(() => transport.close());
"""


@pytest.mark.peers("nodejs", "node-nodemailer")
def test_a_pool_of_nodemailer(run, daemon, host):
    """Several messages over few connections, each of them once."""
    run("node", "-e", POOL.replace("PORT", str(daemon.port)),
        NODE_PATH="/usr/share/nodejs")
    subjects = [assert_valid(message)["subject"]
                for message in host.wait_messages(8)]
    daemon.stop()
    assert sorted(subjects) == [f"disk {n}" for n in range(8)]
    assert len(host.messages) == 8 and not daemon.queued()


# ---- failure ----

FAILURES = [
    pytest.param([*PHP, PHPMAILER % "$m->isSendmail();"
                  "$m::$validator = fn() => true;"],
                 "PHPMailer.Exception: Could not execute", id="PHPMailer",
                 marks=pytest.mark.peers("php-cli", "libphp-phpmailer")),
    # Over sendmail this version does not look at the exit status.
    pytest.param(["ruby3.1", "-e", RUBY %
                  ":smtp, address: '127.0.0.1', port: PORT"],
                 "Net::SMTPSyntaxError|ECONNREFUSED", id="Ruby Mail",
                 marks=pytest.mark.peers("ruby-mail")),
    pytest.param(["mail.mailutils", "-s", "disk", "root@localhost", BLIND],
                 "cannot send message: Process exited with a non-zero status",
                 id="mailutils", marks=pytest.mark.peers("mailutils")),
]


@pytest.mark.parametrize("command, says", FAILURES)
def test_a_caller_tells_that_the_daemon_is_down(run, daemon, command, says):
    command = [word.replace("PORT", str(daemon.port)) for word in command]
    daemon.stop()
    assert re.search(says, run(*command, fails=True, RELAYD_WAIT="0"))


@pytest.mark.parametrize("command, says", FAILURES)
def test_a_caller_tells_that_one_recipient_is_refused(
        run, host, daemon, command, says):
    label = "x" * 64
    command = [word.replace(BLIND, f"two@{label}.example.net")
               .replace("PORT", str(daemon.port)) for word in command]
    assert re.search(says, run(*command, fails=True))
    assert not host.messages and not daemon.queued()


# ---- Python ----

def make_message(sender, to):
    message = email.message.EmailMessage(policy=email.policy.SMTPUTF8)
    message["From"], message["To"], message["Subject"] = sender, to, "x"
    message.set_content(BODY, cte="8bit")
    return message


def test_python_smtplib_with_8bitmime(daemon, host, arrived):
    """The message goes out as 8-bit, and says so."""
    message = make_message("app@example.net", "root@localhost")
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        client.send_message(message, mail_options=["BODY=8BITMIME"])
    # It quotes this itself.
    arrived(sender="app@example.net",
            body=BODY.replace("\nFrom ", "\n>From ") + "\n")
    assert "BODY=8BITMIME" in host.messages[0].mail_parameters


def test_python_smtplib_with_smtputf8(daemon, host):
    message = make_message("jürgen@example.net", "zoë@example.net")
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        client.send_message(message)
    message, = host.wait_messages(1)
    # The relayhost of the tests reads commands as ISO 8859-1.
    assert [message.sender.encode("latin-1").decode(),
            *(one.encode("latin-1").decode() for one in message.recipients)
            ] == ["jürgen@example.net", "zoë@example.net"]
    assert "SMTPUTF8" in message.mail_parameters
    assert "\nFrom: jürgen@example.net\r\n".encode() in message.data
    assert message.body == crlf(BODY.encode()) + b"\r\n"


TEXT = crlf(("From: app@example.net\nTo: root\nSubject: x\n\n" +
             BODY).encode())


@pytest.mark.parametrize("text", [TEXT, TEXT.replace(b"\r", b"")],
                         ids=["with CRLF", "with LF alone"])
def test_python_smtplib_over_tcp(daemon, arrived, text):
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        client.sendmail("app@example.net", ["root"], text)
    arrived(sender="app@example.net")


def test_python_smtplib_over_the_unix_socket(daemon, arrived):
    class Client(smtplib.SMTP):
        def _get_socket(self, *_):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(daemon.socket))
            return sock

    with Client("localhost") as client:
        client.sendmail("app@example.net", ["root", "two@example.net"], TEXT)
    arrived([TO, "two@example.net"], "app@example.net")
    daemon.wait_log(rf"relayd/pickup\[\d+\]: \w+: uid={os.getuid()} from=")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
