"""relayd is killed at random moments while mail comes in and goes out."""

import collections
import random
import re
import smtplib
import sys
import threading

import pytest

MESSAGES, KILLS, CLIENTS = 1000, 20, 8


def body(number):
    """Tells its message, and whether it is whole."""
    lines = number % 50 * 20
    return f"message {number}\r\n" + f"{number:020d}\r\n" * lines + "end\r\n"


class Client(threading.Thread):
    """Sends messages until each one has been acknowledged, over TCP: what
    fails is sent again, as a new message with another number behind it."""

    def __init__(self, daemon, up, numbers):
        super().__init__(daemon=True)
        self.relayd, self.up, self.numbers = daemon, up, list(numbers)
        self.acknowledged, self.open = set(), set()
        self.smtp = None

    def run(self):
        for number in self.numbers:
            attempt = 0
            while not self.send(f"{number}.{attempt}", number):
                attempt += 1

    def send(self, name, number):
        self.up.wait()
        try:
            if self.smtp is None:
                self.smtp = smtplib.SMTP("127.0.0.1", self.relayd.port)
            self.open.add(name)
            self.smtp.sendmail("root", ["root"],
                               f"Subject: {name}\r\n\r\n{body(number)}")
        except (OSError, smtplib.SMTPException):
            # Killed: whether this one was taken is not known.
            if self.smtp is not None:
                self.smtp.close()
            self.smtp = None
            return False
        self.acknowledged.add(name)
        return True


@pytest.mark.slow
def test_kill_nine(make_daemon, host):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    daemon = make_daemon().start()
    up = threading.Event()
    up.set()
    clients = [Client(daemon, up, range(first, MESSAGES, CLIENTS))
               for first in range(CLIENTS)]
    for client in clients:
        client.start()

    # Each time when so many have arrived, but at least one since the last.
    for mark in sorted(chance.sample(range(1, MESSAGES * 9 // 10), KILLS)):
        host.wait_messages(max(mark, len(host.messages) + 1))
        up.clear()
        daemon.kill()
        daemon.start()
        up.set()
    for client in clients:
        client.join(60)
        assert not client.is_alive()

    acknowledged = set().union(*(client.acknowledged for client in clients))
    offered = set().union(*(client.open for client in clients))
    assert len(acknowledged) == MESSAGES

    def names():
        return collections.Counter(
            re.search(rb"(?m)^Subject: (\S+)\r$", message.header)[1].decode()
            for message in host.messages)

    host.wait(lambda: acknowledged <= names().keys(),
              "the arrival of every acknowledged message")
    arrived = names()
    assert arrived.keys() <= offered
    for message in host.messages:
        number = re.search(rb"message (\d+)\r\n", message.body)[1]
        assert message.body == body(int(number)).encode()
        assert message.recipients == ["you@example.com"]

    # Sent again is only what had no reply yet: of one connection no more than
    # fits into its pipeline, and of what was logged as sent only the message
    # that was just being removed when relayd was killed.
    sent = collections.Counter(
        match[1] for line in daemon.log
        if (match := re.search(r"(\w+): to=.*status=sent", line)))
    assert sum(sent.values()) - len(sent) <= KILLS
    outstanding = collections.Counter()
    seen = {}
    for message in host.messages:
        name = re.search(rb"\sid (\w{12})\b", message.header)[1]
        if name in seen:
            assert seen[name] != message.session
            outstanding[seen[name]] += 1
        seen[name] = message.session
    print(f"{sum(outstanding.values())} sent again after {KILLS} kills")
    assert max(outstanding.values(), default=0) <= 16


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
