"""The check that runs over every end-to-end test can fail."""

import os
import re
import subprocess
import sys

import pytest

import durable
from dialogue import HELLO, MAIL, QUIT, RCPT, Exchange, connect

pytestmark = pytest.mark.root

# Writes two messages as relayd does, but for the fault it is told.
WRITER = r"""
import os, socket, sys
base, fault = sys.argv[1:]
os.mkdir(base)
parent = os.open(os.path.dirname(base), os.O_RDONLY)
os.fsync(parent)
top = os.open(base, os.O_RDONLY)
places = []
for name in "tmp", "new", "cur":
    os.mkdir(name, dir_fd=top)
    places.append(os.open(name, os.O_RDONLY, dir_fd=top))
tmp, new, cur = places
if fault != "no sync of the top directory":
    os.fsync(top)
client, _ = socket.socketpair()
for name in "A1", "A2":
    file = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=tmp)
    os.writev(file, [b"envelope\n", b"text \"\\>\n"])
    os.rename(name, name, src_dir_fd=tmp, dst_dir_fd=new)
    if fault != "no sync of the file":
        os.fsync(file)
    if fault == "a write after the sync":
        os.pwrite(file, b"E", 0)
    if fault == "acknowledged too early":
        client.send(b"250 2.0.0 Ok: queued as %s\r\n" % name.encode())
    if fault != "no sync of new":
        os.fsync(new)
    client.send(b"250 2.1.5 Ok\r\n250 2.0.0 Ok: queued as %s\r\n" %
                name.encode())
os.rename("A1", "A1", src_dir_fd=new, dst_dir_fd=cur)
if fault != "no sync of cur":
    os.fsync(cur)
os.fsync(new)
os.unlink("A1", dir_fd=cur)
os.fsync(cur)
os.rename("A2", "A2", src_dir_fd=new, dst_dir_fd=tmp)
if fault != "overwritten too early":
    os.fsync(new)
os.pwrite(file, b"E", 0)
"""


def write(directory, fault, *options):
    trace, spool = directory / "trace", directory / "spool"
    # The pipe ends when strace does: then the trace is complete.
    subprocess.run(["strace", *durable.STRACE, *options, "-o", trace,
                    "/usr/bin/python3", "-c", WRITER, spool, fault],
                   check=True, stdout=subprocess.PIPE)
    with open(trace) as lines:
        return durable.check(lines, spool)


def test_a_writer_in_the_right_order_passes(directory):
    assert write(directory, "none") == ({"A1", "A2"}, [])


@pytest.mark.parametrize("fault, word", [
    ("no sync of the top directory", "directory entry"),
    ("no sync of the file", "content"),
    ("a write after the sync", "content"),
    ("acknowledged too early", "directory entry"),
    ("no sync of new", "directory entry"),
    ("no sync of cur", "would now be lost"),
    ("overwritten too early", "A2 is overwritten"),
])
def test_a_planted_fault_is_found(directory, fault, word):
    acknowledged, violations = write(directory, fault)
    assert acknowledged == {"A1", "A2"}
    assert any(word in one for one in violations), violations


def test_a_sync_that_strace_took_away_did_not_happen(directory):
    _, violations = write(directory, "none", "--inject=fsync:retval=0:when=3")
    assert "content" in violations[0]


def without(lines, spool, place):
    """The trace as if the syncs of files (place None) or of the directory
    place had been left out of the program."""
    for line in lines:
        sync = re.search(r"f(?:data)?sync\(\d+<([^>]*)>", line)
        if sync:
            path = sync[1]
            is_directory = os.path.isdir(path)
            if path == f"{spool}/{place}" or (place is None and
                                              not is_directory):
                continue
        yield line


@pytest.mark.parametrize("place, word", [(None, "content"),
                                         ("new", "directory entry")])
def test_relayd_without_one_of_its_syncs_fails(make_daemon, host, place, word):
    daemon = make_daemon().start()
    for text in (b"one\n", b"two\n"):
        assert daemon.sendmail("root", data=text).returncode == 0
    host.wait_messages(2)
    daemon.stop()
    trace, = daemon.traces()
    with open(trace) as lines:
        acknowledged, violations = durable.check(
            without(lines, daemon.spool, place), daemon.spool)
    assert len(acknowledged) == 2
    assert sum(word in one for one in violations) >= 2, violations


@pytest.mark.parametrize("relayhost", ["up", "down"])
def test_many_at_once_are_durable_each_before_its_250(make_daemon, host,
                                                      relayhost):
    """Sessions go on while the messages of others are being synced, and are
    sent; a slow disk makes them overlap."""
    messages = 3
    daemon = make_daemon().start(inject=("fdatasync:delay_exit=5000",))
    if relayhost == "down":
        host.stop()
    clients = [Exchange(connect(daemon.socket)) for _ in range(50)]
    for number in range(messages):
        for client in clients:
            client.send((HELLO if number == 0 else b"") + MAIL + RCPT +
                        b"BDAT 12 LAST\r\nSubject: x\r\n")
    for client in clients:
        replies = client.send(QUIT).replies()
        assert sum("queued as" in one for one in replies) == messages
    if relayhost == "up":
        host.wait_messages(messages * len(clients))
    daemon.stop()
    trace, = daemon.traces()
    waiting = [0]
    with open(trace) as lines:
        for line in lines:
            if "fdatasync" in line:
                waiting.append(waiting[-1] + ("unfinished" in line) -
                               ("resumed" in line))
    assert max(waiting) > 3     # and daemon.check_durability() follows


def test_relayd_whose_syncs_do_nothing_fails(make_daemon):
    daemon = make_daemon().start(inject=("fsync,fdatasync:retval=0",))
    assert daemon.sendmail("root", data=b"one\n").returncode == 0
    daemon.stop()
    with pytest.raises(AssertionError, match="content"):
        daemon.check_durability()
    daemon.forget_traces()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
