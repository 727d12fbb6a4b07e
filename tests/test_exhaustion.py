"""Memory and descriptors that run out while mail comes in."""

import collections
import itertools
import os
import re
import subprocess
import sys
import time

import pytest

import sweep
from dialogue import (END, HELLO, MAIL, QUIT, RCPT, TEXT, Exchange, connect,
                      converse)
from harness import HERE

SAMPLE = 12     # allocations, in "make check"
DESCRIPTORS = 32
SESSION = HELLO + MAIL + RCPT + b"DATA\r\n" + TEXT[:-2] + END + QUIT


@pytest.fixture
def failing(make_daemon, host, directory):
    """Fails the n-th allocation of a session; returns whether there was one.
    Whatever was acknowledged must be in the spool."""
    library = directory / "failing_alloc.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library,
                    HERE / "failing_alloc.c"], check=True)
    host.stop()
    daemon = make_daemon(trace=False)
    acknowledged = set()

    def fail(number):
        daemon.wrapper = ("env", f"LD_PRELOAD={library}", f"FAIL_AT={number}")
        daemon.start()
        replies = converse(daemon.socket, SESSION)
        acknowledged.update(re.findall(r"queued as (\w+)", "\n".join(replies)))
        daemon.process.terminate()  # unless it has ended
        status = daemon.wait_end()
        assert status in (0, 75)
        assert acknowledged <= set(daemon.queued())
        return status == 75

    yield fail
    daemon.wrapper = ()
    host.start()
    daemon.start()
    daemon.wait(lambda: not daemon.queued())
    assert len(host.messages) >= len(acknowledged)
    assert {message.body for message in host.messages} <= {b"body\r\n"}
    assert not any("can't be sent" in line for line in daemon.log)


@pytest.mark.unsanitized
def test_a_sample_of_failing_allocations(failing):
    failed = [failing(number) for number in
              sweep.chance().sample(range(1, 51), SAMPLE)]
    assert sum(failed) > SAMPLE // 2


@pytest.mark.unsanitized
@pytest.mark.sweep
def test_every_failing_allocation(failing):
    number = next(one for one in itertools.count(1) if not failing(one))
    print(f"{number - 1} allocations")


@pytest.mark.root
def test_no_descriptor_is_left(make_daemon):
    """Nothing spins meanwhile, and all are served as soon as there are."""
    daemon = make_daemon(trace=False,
                         wrapper=("prlimit", f"--nofile={DESCRIPTORS}"))
    pid, trace = daemon.start().process.pid, daemon.directory / "pipe"
    os.mkfifo(trace)
    with open(os.open(trace, os.O_RDWR)) as lines, \
            sweep.attached(pid, output=trace):
        clients = [Exchange(connect(daemon.socket))
                   for _ in range(2 * DESCRIPTORS)]
        times, calls = [], 0
        while len(times) < 4:   # one a second
            if "EMFILE" in lines.readline():
                times.append(time.monotonic())
            calls += bool(times)
    assert times[-1] - times[0] > 2.5 and calls < 40
    for client in clients:
        assert client.send(QUIT).replies()[-1].startswith("221 ")
    assert daemon.sendmail("root", data=b"one\n").returncode == 0


@pytest.mark.root
def test_descriptors_run_out_while_mail_is_sent(make_daemon, host):
    """With every number of them that is not enough: what waits is neither
    lost nor returned nor sent twice, and leaves as soon as there are more."""
    daemon = make_daemon(trace=False).start()
    idle = len(sweep.descriptors(daemon.process.pid))
    host.stop()
    senders = [f"m{number}@example.com" for number in range(3)]
    for sender in senders:
        assert daemon.sendmail("-f", sender, "good@example.org",
                               "bad@example.org",
                               data=b"Subject: x\n\nbody\n").returncode == 0
    assert daemon.stop() == 0
    host.start()
    host.fault("RCPT", "550 5.1.1 unknown", match="bad")
    for more in itertools.count(1):     # one, or it can't say that it is ready
        daemon.wrapper = ("prlimit", f"--nofile={idle + more}")
        begin = len(daemon.log)
        daemon.start()
        daemon.wait(lambda: not daemon.queued() or any(
            re.search("warning: |error: ", line)
            for line in daemon.log[begin:]))
        assert daemon.stop() == 0
        assert not daemon.queued("failed")
        if not daemon.queued():
            break
    print(f"{more} besides the {idle} of one that is idle are enough")
    assert more > 1
    assert collections.Counter(
        (message.sender, one) for message in host.messages
        for one in message.recipients) == collections.Counter(
            pair for sender in senders
            for pair in ((sender, "good@example.org"), ("", sender)))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
