"""A relayhost at fault, and what a daemon owes its operator and its mail
then.  For test_badinput_relayhost.py, test_badinput_replies.py, and more."""

import base64
import re
import select

from harness import PASSWORD, USER

SECRET = b"Subject: s3cret-subject\n\ns3cret-body\n"
# Each of these in the clear gives something away.
SECRETS = [PASSWORD.encode(), base64.b64encode(PASSWORD.encode()),
           base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()),
           base64.b64encode(USER.encode()), b"s3cret", b"you@example.com",
           b"AUTH", b"MAIL FROM", b"RCPT TO"]


def assert_nothing_leaked(host):
    for session in host.sessions:
        for secret in SECRETS:
            assert secret not in session.clear, session.clear
            assert secret not in session.raw


def hold(daemon):
    """One message is accepted, and stays."""
    done = daemon.sendmail("-f", "s3cret@example.com", "root", data=SECRET)
    assert done.returncode == 0, done


def assert_told(daemon, words, waiting=1):
    """Log and status name the cause; nothing was bounced or given up."""
    daemon.wait_log(words)
    status = daemon.relayctl("status")
    assert status.returncode == 1, status.stdout
    # Lines are wrapped.
    assert re.search(words, " ".join(status.stdout.split())), status.stdout
    assert len(daemon.queued("failed")) == 0
    assert len(daemon.queued()) == waiting
    assert not any("status=bounced" in line or "status=sent" in line
                   for line in daemon.log)


def assert_flows(daemon, host):
    """The cause is gone: the mail leaves, without a restart."""
    assert daemon.relayctl("flush").returncode == 0
    message, = host.wait_messages(1)
    assert message.recipients == ["you@example.com"]
    assert message.body == b"s3cret-body\r\n"
    assert message.tls and message.user == USER
    daemon.wait_log("status=sent")
    assert daemon.relayctl("status").returncode == 0
    daemon.wait_log("removed")
    assert daemon.queued() == []


# How a host is spoilt: a function of it, which returns one that mends it.

def no_starttls(host):
    host.tls = "none"
    host.auth_in_clear = True
    return lambda: setattr(host, "tls", "starttls")


def certificate(kind):
    def spoil(host):
        host.certificate = kind
        return lambda: setattr(host, "certificate", "good")
    return spoil


def context(make):
    """make: the TLS context from the host's authority."""
    def spoil(host):
        host.own_context = make(host.authority)
        return lambda: setattr(host, "own_context", None)
    return spoil


def down(host):
    host.stop()
    return host.start


def fault(point, reply=None, **options):
    def spoil(host):
        host.fault(point, reply, **options)
        return host.mend
    return spoil


# What a session does at a fault (its then).

def flood(octets):
    """This again and again, for as long as it is taken."""
    def act(session):
        while True:
            session.channel.write(octets)
    return act


def to_client_hello(answer=b"", then="close"):
    """In the TLS handshake."""
    def act(session):
        session.channel._receive()
        session.channel.sock.sendall(answer)
        session.interrupt(Then(then))
    return act


class Then:
    """As much of a fault as Session.interrupt() looks at."""

    def __init__(self, then):
        self.then = then


def deaf(session):
    """Read nothing more; until the connection is cut."""
    poll = select.poll()
    poll.register(session.channel.sock, 0)  # POLLHUP and POLLERR
    poll.poll()
