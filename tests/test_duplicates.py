"""Nothing is sent twice, but for what was on its way when a connection was lost
or relayd killed: once more for each such loss, and never to a recipient that
was recorded as done."""

import collections
import json
import random
import re
import sys
import threading

import pytest

from harness import HERE, TIMEOUT, Daemon
from test_crash import CLIENTS, Client

sys.path.append(str(HERE.parent / "bench"))


def name_of(message):
    """Of what a client was told that it was taken, once."""
    return re.search(rb"(?m)^Subject: (\S+)\r$", message.header)[1].decode()


def ids_of(messages):
    return {re.search(rb"\sid (\w{12})\b", one.header)[1].decode()
            for one in messages}


@pytest.mark.soak
def test_a_hundred_thousand_messages_come_once(authority, directory):
    import agents   # its programs are built for "make soak"
    count, host = 100_000, agents.Relayhost(authority)
    host.authority = authority
    host.up()
    daemon = Daemon(directory, host, trace=False).start()
    try:
        rate, _ = agents.load(daemon.port, 100, count)
        host.wait(count, 600)
        assert daemon.stop() == 0
        # Nothing is left that could come again; nor did it while it stopped.
        assert daemon.queued() == []
        host.wait(count)
        print(f"{count} messages, {rate:.0f} a second, none came twice")
    finally:
        daemon.stop()
        host.close()


def lose(daemon, host, up, kill):
    """Cut its connections, or kill it; returns the sessions that this ends."""
    if not kill:
        return host.disconnect()
    up.clear()
    ended, begun = host.open_sessions(), len(host.sessions)
    daemon.kill()
    ended.update(host.sessions[begun:])
    daemon.start()
    up.set()
    return ended


@pytest.mark.slow
@pytest.mark.parametrize("count, losses", [
    (600, 30), pytest.param(20_000, 1000, marks=pytest.mark.soak)])
def test_at_most_once_more_for_each_loss(make_daemon, host, count, losses):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    daemon = make_daemon(top={"retry": ["1s"]}, trace=False).start()
    up, lost = threading.Event(), set()
    up.set()
    clients = [Client(daemon, up, range(first, count, CLIENTS))
               for first in range(CLIENTS)]
    for client in clients:
        client.start()
    kills = cuts = 0

    def is_over():
        """Each number has arrived: nothing more need come."""
        return len(host.messages) >= count and len(
            {name_of(one).partition(".")[0] for one in host.messages}) == count

    for mark in sorted(chance.sample(range(1, count * 9 // 10), losses)):
        mark = max(mark, len(host.messages) + 1)
        daemon.wait(lambda: len(host.messages) >= mark or is_over())
        if is_over():
            break
        kill = chance.random() < .2
        kills += kill
        cuts += not kill
        lost |= lose(daemon, host, up, kill)
        daemon.relayctl("flush")    # it may be killed already
    for client in clients:
        client.join(TIMEOUT)
        assert not client.is_alive()
    assert daemon.relayctl("flush").returncode == 0
    daemon.wait(lambda: not daemon.queued("new") and not daemon.queued("cur"))
    daemon.stop()

    carried = collections.defaultdict(list)     # by which sessions
    for message in host.messages:
        carried[name_of(message)].append(host.sessions[message.session])
    assert set().union(*(client.acknowledged for client in clients)) <= \
        carried.keys()
    for name, sessions in carried.items():
        assert len(set(sessions)) == len(sessions), name
        assert lost.issuperset(sessions[:-1]), name
    again = [len(sessions) - 1 for sessions in carried.values()]
    print(f"{len(carried)} messages, {kills} kills and {cuts} times "
          f"all connections cut, {len(lost)} in all: {sum(again)} duplicates, "
          f"at most {max(again)} of a message")
    assert sum(again) > 0   # or nothing was tried


def test_who_is_recorded_as_done_gets_it_never_again(make_daemon, host):
    """relayd is killed while it delivers to one recipient of each message and
    the other has to wait."""
    daemon = make_daemon(top={"retry": ["1s"]}).start()
    later = host.fault("RCPT", "450 4.2.1 not now", match="later")
    recorded = []   # how many had arrived, and which are done
    for number in range(40):
        assert daemon.sendmail(
            "now@example.net", "later@example.net",
            data=b"Subject: %d\n\nx\n" % number).returncode == 0
    for kill in range(4):
        host.wait(lambda: len(host.messages) > 8 * kill + 4, "some mail")
        daemon.kill()
        # By the spool itself.
        arrived = len(host.messages)
        queue = json.loads(daemon.relayctl("queue", "--json").stdout)
        recorded.append((arrived, {
            message["id"] for message in queue
            for one in message["recipients"] if one["state"] == "sent"}))
        daemon.start()
        daemon.relayctl("flush")
    host.mend(later)
    assert daemon.relayctl("flush").returncode == 0
    daemon.wait(lambda: not daemon.queued("new") and not daemon.queued("cur"))
    for arrived, done in recorded:
        assert done and not done & ids_of(
            one for one in host.messages[arrived:]
            if "now@example.net" in one.recipients)
    for kind in "now", "later":
        assert {str(number) for number in range(40)} == {
            name_of(one) for one in host.messages
            if f"{kind}@example.net" in one.recipients}


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
