"""Sections A and B of the catalogue of bad input, and of K what concerns
clients: limits, each at its edge, time, and faults of the machine.  Each test
has a daemon of its own.

By the clock of a test, so to the second, in tests/test_submit.c: A1 and K5
(when a client is sent away), B37 (the rate of 500 octets a second), A2 and
K14 (a line a minute).
"""

import ctypes
import os
import re
import socket
import sys
import threading

import pytest

from dialogue import (BYE, END, HELLO, MAIL, MAIL_OK, OK, QUEUED, QUIT, RCPT,
                      RCPT_OK, STAGES, TEXT, Exchange, assert_replies, bdat,
                      connect, converse, queued_ids)
from harness import SANITIZED
from relayhost import TIMEOUT
from test_daemon import activated, reserve  # noqa: F401 (a fixture)

ENVELOPE = MAIL + RCPT
UNTRACED = {"trace": False}


def tcp(daemon):
    return "127.0.0.1", daemon.port


def lines_of(daemon, pattern):
    return [line for line in daemon.log if re.search(pattern, line)]


def settle(daemon):
    """All that has been said is done, and in the log."""
    source = "127.8.8.8"
    before = len(lines_of(daemon, rf"disconnect from .*\[{source}\]"))
    converse(tcp(daemon), QUIT, source)
    daemon.wait_log(rf"disconnect from .*\[{source}\]", before + 1)


# Time.

@pytest.mark.parametrize("via", ["tcp", "unix"])
@pytest.mark.parametrize("data, replies, place", [
    (b"", ["220"], "CONNECT"), (HELLO, ["220", "250"], "EHLO"),
    (STAGES["data"][0] + TEXT, ["220", *STAGES["data"][1]],
     rf"DATA \({len(TEXT)} bytes\)"),
    (STAGES["rcpt"][0] + b"BDAT 1000000 LAST\r\n" + b"x" * 10,
     ["220", *STAGES["rcpt"][1]], r"BDAT \(10 bytes\)"),
], ids=["A1-nothing", "A1-hello", "B37-data", "B37-bdat"])
def test_silence(make_daemon, data, replies, place, via):
    daemon = make_daemon(top={"client_timeout": "1s"}, **UNTRACED).start()
    address = daemon.socket if via == "unix" else tcp(daemon)
    assert_replies(converse(address, data), replies + ["421 4.4.2"])
    daemon.wait_log(f"timeout after {place} from ")
    assert daemon.queued() == [] and not os.listdir(daemon.spool / "tmp")


@pytest.mark.parametrize("via", ["tcp", "unix"])
def test_A60_a_client_that_never_reads(make_daemon, via):
    daemon = make_daemon(top={"client_timeout": "1s", "recipient_limit": 1},
                         **UNTRACED).start()
    sock = socket.socket(socket.AF_UNIX if via == "unix" else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    sock.connect(str(daemon.socket) if via == "unix" else tcp(daemon))
    sock.settimeout(TIMEOUT)
    # Beyond the limit of recipients a client may try for ever.
    with pytest.raises(ConnectionError):
        sock.sendall(STAGES["rcpt"][0])
        for _ in range(1000):
            sock.sendall(b"RCPT TO:<e@d.example>\r\n" * 1000)
    daemon.wait_log("timeout after RCPT")
    sock.close()
    settle(daemon)
    assert len(lines_of(daemon, "reject: ")) == 100
    assert daemon.stop() == 0
    daemon.wait_log(r"\d+ more commands were rejected within a minute, the "
                    r"last from (localhost\[127\.0\.0\.1\]|userid \d+)$")


# Numbers.

@pytest.mark.parametrize("via", ["tcp", "unix"])
def test_K3_half_of_the_seats_for_each(make_daemon, via):
    """127, 128 and 129 of one; 255, 256 and 257 of all."""
    daemon = make_daemon(**UNTRACED).start()
    first = daemon.socket if via == "unix" else tcp(daemon)
    seats = [Exchange(connect(first)) for _ in range(128)]
    assert {one.wait_replies(1)[:4] for one in seats} == {"220 "}
    assert_replies(converse(first, b""),
                   ["421 4.7.0 Too many connections of yours"])
    assert seats[0].send(QUIT).replies()[1].startswith(BYE)
    seats[0] = Exchange(connect(first))
    seats += [Exchange(connect(tcp(daemon), "127.0.0.2")) for _ in range(128)]
    assert {one.wait_replies(1)[:4] for one in seats} == {"220 "}
    assert_replies(converse(tcp(daemon), b"", "127.0.0.3"),
                   ["421 4.7.0 Too many connections"])
    assert seats[128].send(QUIT).replies()[1].startswith(BYE)
    assert converse(tcp(daemon), QUIT, "127.0.0.3")[0].startswith("220 ")
    for one in seats:
        one.sock.close()
    assert len(lines_of(daemon, "warning: too many connections: ")) == 1
    daemon.wait_log("too many connections: 128 open, 128 from ")


def test_timeouts_shrink_when_seats_are_few(make_daemon):
    daemon = make_daemon(top={"client_timeout": "20s", "connection_limit": 4},
                         **UNTRACED).start()
    seats = [Exchange(connect(tcp(daemon))) for _ in range(2)]
    assert_replies(converse(tcp(daemon), b"", "127.0.0.2"),
                   ["220", "421 4.4.2"])
    daemon.wait_log(r"timeout after CONNECT from localhost\[127\.0\.0\.2\]")
    for one in seats:
        assert_replies(one.send(QUIT).replies(), ["220", BYE])


def test_A2_ten_thousand_connections(make_daemon):
    daemon = make_daemon(**UNTRACED).start()
    settle(daemon)
    opened = f"/proc/{daemon.process.pid}/fd"
    address, before = tcp(daemon), len(os.listdir(opened))
    lines = len(daemon.log)
    for _ in range(10_000):
        with connect(address) as sock:
            assert sock.recv(4) == b"220 "
    settle(daemon)
    assert len(os.listdir(opened)) == before
    assert daemon.stop() == 0
    daemon.wait_log(": 10000 connections ended without a command, the last "
                    r"from localhost\[127\.0\.0\.1\]")
    assert len(daemon.log) - lines < 10


def rss(daemon):
    with open(f"/proc/{daemon.process.pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmRSS:\s+(\d+) kB", file.read())[1])


def test_A31_a_line_without_end(make_daemon, monkeypatch):
    """What is too much of a line is counted, not kept."""
    monkeypatch.setenv("ASAN_OPTIONS", "quarantine_size_mb=0:" +
                       os.environ.get("ASAN_OPTIONS", ""))
    daemon = make_daemon(**UNTRACED).start()
    clients = [Exchange(connect(daemon.socket)) for _ in range(64)]
    clients[0].send_split(b"x" * 60_000)
    for one in clients:
        one.wait_replies(1)
    before = rss(daemon)
    for one in clients[1:]:
        one.send_split(b"x" * (64 << 10))
    # The sanitizers keep shadow memory, and round sizes up.
    share = 32 if SANITIZED else 8
    assert rss(daemon) - before <= share * len(clients)
    clients[1].send_split(b"\n" + QUIT)
    assert_replies(clients[1].replies(), ["220", "421 4.7.0"])
    for one in clients[2:]:
        assert_replies(one.send(b"x" * (1 << 20)).replies(),
                       ["220", "421 4.7.0"])
    assert_replies(clients[0].send(b"\r\n" + QUIT).replies(),
                   ["220", "500 5.5.2", BYE])
    daemon.wait_log("long line after CONNECT from userid", 63)


@pytest.mark.parametrize("octets, reply", [
    ((64 << 10) - 1, QUEUED), (64 << 10, QUEUED),
    ((64 << 10) + 1, "552 5.3.4")], ids=["B24-less", "B24-limit", "B24-more"])
@pytest.mark.parametrize("way", ["data", "bdat", "chunks"])
def test_size_limit(make_daemon, host, octets, reply, way):
    daemon = make_daemon(top={"message_size_limit": "64K"}, **UNTRACED).start()
    text = TEXT + b"x" * (octets - len(TEXT) - 2) + b"\r\n"
    said = [*STAGES["rcpt"][1], reply]
    if way == "data":
        said[3:3] = ["354"]
        content = b"DATA\r\n" + text + b".\r\n"
    elif way == "bdat":
        content = bdat(text)
    else:
        said[3:3] = ["250 2.0.0 Ok: 60000"]
        content = bdat(text[:60_000], last=False) + bdat(text[60_000:])
    replies = converse(tcp(daemon), STAGES["rcpt"][0] + content + ENVELOPE +
                       bdat(TEXT) + QUIT)
    assert_replies(replies, ["220", *said, MAIL_OK, RCPT_OK, QUEUED, BYE])
    host.wait_messages(len(queued_ids(replies)))
    assert any("552 5.3.4" in line for line in daemon.log) == \
        (reply != QUEUED)


def test_B24_what_is_too_much_is_not_stored(make_daemon):
    daemon = make_daemon(top={"message_size_limit": "1M"}, **UNTRACED).start()
    client = Exchange(connect(daemon.socket)).send(STAGES["data"][0])
    client.send_split(TEXT, b"x" * (1 << 19))
    assert len(os.listdir(daemon.spool / "tmp")) == 1
    client.send_split(b"x" * (1 << 19))
    assert not os.listdir(daemon.spool / "tmp")
    client.send_split(b"x" * (8 << 20))
    assert not os.listdir(daemon.spool / "tmp")
    assert_replies(client.send(END + QUIT).replies(),
                   ["220", *STAGES["data"][1], "552 5.3.4", BYE])


# Others than this machine.

ADDRESS = "10.9.8.7"    # with its network, this is the loopback's too
SET_UP = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    fcntl.ioctl(sock, 0x8914, struct.pack("16sH14x", b"lo", 0x49)) # up
    fcntl.ioctl(sock, 0x8916, struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET,
                                          0, socket.inet_aton(sys.argv[1])))
os.execvp(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def elsewhere(make_daemon):
    """A daemon in a network of its own, and how to connect to it there."""
    daemon = make_daemon(trace=False, wrapper=(
        "unshare", "--net", "/usr/bin/python3", "-c", SET_UP, ADDRESS))
    with daemon.file.open("a", encoding="ascii") as file:
        file.write(f'listen "{ADDRESS}:0" {{ allow = {{"10.0.0.0/8"}} }}\n'
                   'listen "10.1.1.1:0" {}\n')
    daemon.start()
    made = []

    def enter(address):
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/proc/{daemon.process.pid}/ns/net", "rb") as namespace:
            assert libc.setns(namespace.fileno(), 0x40000000) == 0
        port = daemon.wait_log(rf"listening on {re.escape(address)}:(\d+)")[1]
        made.append(connect((address, int(port)), ADDRESS))

    def connector(address):
        # A thread's network is its own.
        thread = threading.Thread(target=enter, args=(address,))
        thread.start()
        thread.join(TIMEOUT)
        return Exchange(made.pop())

    return daemon, connector


@pytest.mark.root
def test_A5_data_before_354_from_elsewhere(elsewhere):
    daemon, connector = elsewhere
    data, replies = STAGES["data"]
    client = connector(ADDRESS).send(data + TEXT + b".\r\n" + QUIT)
    assert_replies(client.replies(), ["220", *replies[:-1], "554 5.5.0"])
    daemon.wait_log(rf"improper pipelining after DATA from unknown\[{ADDRESS}")
    assert daemon.queued() == [] and not os.listdir(daemon.spool / "tmp")
    # In order it may do so.
    client = connector(ADDRESS).send(data)
    client.wait_replies(5)
    assert_replies(client.send(TEXT + b".\r\n" + QUIT).replies(),
                   ["220", *replies, QUEUED, BYE])
    assert len(daemon.queued()) == 1


@pytest.mark.root
def test_A57_relay_access_from_elsewhere(elsewhere):
    daemon, connector = elsewhere
    denied = "554 5.7.1 Relay access denied"
    client = connector("10.1.1.1").send(
        STAGES["rcpt"][0] + b"RCPT TO:<root>\r\nRCPT TO:<@>\r\n" + bdat(TEXT) +
        QUIT)
    assert_replies(client.replies(), ["220", "250", MAIL_OK, denied, denied,
                                      denied, "554 5.5.1", BYE])
    assert daemon.queued() == []
    daemon.wait_log(rf"reject: RCPT from unknown\[{ADDRESS}\]: {denied}")


@pytest.mark.parametrize("via", ["tcp", "unix"])
def test_A5_data_before_354_from_this_machine(make_daemon, host, frozen, via):
    daemon = make_daemon(**UNTRACED).start()
    data, replies = STAGES["data"]
    with frozen(daemon):
        client = Exchange(connect(daemon.socket if via == "unix" else
                                  tcp(daemon)))
        client.send(data + TEXT + b".\r\n" + QUIT)
    assert_replies(client.replies(), ["220", *replies, QUEUED, BYE])
    message, = host.wait_messages(1)
    assert message.body == b"body\r\n"


# The disk.

SMALL_DISK = ("unshare", "--mount", "sh", "-euc", """
mount -t tmpfs -o size=4m,mode=0700,uid=65534,gid=65534 none "$0"
exec "$@"
""")


@pytest.fixture
def small_disk(make_daemon):
    """A daemon whose spool has 4 MiB."""
    daemon = make_daemon(top={"min_free_space": "1M"}, **UNTRACED)
    daemon.spool.mkdir()
    daemon.wrapper = (*SMALL_DISK, str(daemon.spool))
    return daemon.start()


def spooled(daemon):
    """The names in the spool that only the daemon sees."""
    spool = f"/proc/{daemon.process.pid}/root{daemon.spool}"
    return [name for place in ("tmp", "new", "cur", "failed")
            for name in os.listdir(f"{spool}/{place}")]


@pytest.mark.root
@pytest.mark.parametrize("commands, replies", [
    (b"MAIL FROM:<a@b.example> SIZE=2000000\r\n", [MAIL_OK]),
    (b"MAIL FROM:<a@b.example> SIZE=3200000\r\n", ["452 4.3.1"]),
    (ENVELOPE + b"BDAT 5000000 LAST\r\n" + b"x" * 5_000_000,
     [MAIL_OK, RCPT_OK, "452 4.3.1"]),
    (ENVELOPE + b"DATA\r\n" + TEXT + b"x" * 5_000_000 + END,
     [MAIL_OK, RCPT_OK, "354", "452 4.3.1"]),
], ids=["A41-room", "A41-no-room", "B43-full-bdat", "B43-full-data"])
def test_disk_full(small_disk, host, commands, replies):
    got = converse(tcp(small_disk), HELLO + commands + b"RSET\r\n" +
                   ENVELOPE + bdat(TEXT) + QUIT)
    assert_replies(got, ["220", "250", *replies, OK, MAIL_OK, RCPT_OK, QUEUED,
                         BYE])
    host.wait_messages(1)
    small_disk.wait_log("removed")
    assert spooled(small_disk) == []
    assert len(lines_of(small_disk, "reject: .* 452 4.3.1")) == \
        ("452 4.3.1" in replies)


@pytest.mark.root
@pytest.mark.parametrize("inject, reply", [
    ("fdatasync:error=EIO:when=1", "451 4.3.0"),
    ("fdatasync:error=ENOSPC:when=1", "452 4.3.1"),
    # Those before it are of the start: of the spool and what holds it.
    ("fsync:error=EIO:when=9", "451 4.3.0"),
    ("renameat2:error=EDQUOT:when=2", "452 4.3.1"),
    ("renameat2:error=EIO:when=2", "451 4.3.0"),  # 1: at the start
], ids=["B43-sync-EIO", "B43-sync-ENOSPC", "B43-directory-EIO",
        "B43-rename-EDQUOT", "B43-rename-EIO"])
@pytest.mark.parametrize("way", ["data", "bdat"])
def test_fault_at_the_end_of_data(make_daemon, host, inject, reply, way):
    daemon = make_daemon().start(inject=[inject])
    content = bdat(TEXT) if way == "bdat" else b"DATA\r\n" + TEXT + b".\r\n"
    said = [MAIL_OK, RCPT_OK] + ["354"] * (way == "data")
    replies = converse(tcp(daemon), HELLO + (ENVELOPE + content) * 2 + QUIT)
    assert_replies(replies, ["220", "250", *said, reply, *said, QUEUED, BYE])
    message, = host.wait_messages(1)
    assert queued_ids(replies)[0].encode() in message.header
    daemon.wait_log("removed")
    assert daemon.queued() == [] and not os.listdir(daemon.spool / "tmp")
    assert len(host.messages) == 1


# A loop.

def test_B42_I25_a_relayhost_that_is_relayd_itself(make_daemon, reserve):
    address = reserve("127.0.0.1")
    daemon = make_daemon(relay={"host": "127.0.0.1", "port": address[1],
                                "tls": "none", "tls_ca_file": None,
                                "user": None, "password_file": None},
                         wrapper=activated(address), **UNTRACED).start()
    done = daemon.sendmail("c@d.example", data=b"Subject: x\n\nround\n")
    assert done.returncode == 0
    daemon.wait_log("kept in failed/")
    # 50 with Received fields from 1 to 50, and the first; the next is refused.
    # So it goes with the report to the sender, and the copy for postmaster.
    assert len(lines_of(daemon, "status=sent")) == 3 * 50
    assert len(lines_of(daemon, r"\(queue active\)")) == 3 * 51
    assert len(lines_of(daemon, "status=bounced .*554 5.4.6 ")) == 3
    assert len(lines_of(daemon, "notification: ")) == 2
    assert len(daemon.queued()) == len(daemon.queued("failed")) == 1


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
