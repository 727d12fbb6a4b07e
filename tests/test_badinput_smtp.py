"""Section A of the catalogue of bad input: connection and commands of the
SMTP server.  A test's id begins with the number of its case; limits, time and
faults of the machine (A1, A2, A31, A60 ...) are in test_badinput_limits.py,
content (section B) is in test_badinput_data.py.

A53 (AUTH before TLS), A55 and A56 are about listeners with TLS, which this
version has not: STARTTLS is no more than a command that is not offered.
"""

import os
import re
import socket
import struct
import sys

import pytest

from dialogue import (BYE, HELLO, MAIL, MAIL_OK, OK, QUEUED, QUIT,
                      RCPT, RCPT_OK, TEXT, Exchange, Row, assert_replies,
                      bdat, connect, converse, queued_ids, table)

EMPTY = b"BDAT 0 LAST\r\n"
BODY = b"body\r\n"


def mail(path, parameters=b""):
    return b"MAIL FROM:" + path + parameters + b"\r\n"


def rcpt(path, parameters=b""):
    return b"RCPT TO:" + path + parameters + b"\r\n"


def each(case, stage, make, reply, **names):
    """Rows that differ in one word."""
    return [Row(f"{case}-{name.replace('_', '-')}", stage, make(word), reply)
            for name, word in names.items()]


def asks(number, of):
    return ", ".join([number] * of)


def in_header(pattern):
    def judge(message):
        assert re.search(pattern, message.header), message.header
    return judge


def sender_is(address):
    def judge(message):
        assert message.sender == address
    return judge


SEQUENCE = [
    Row("A4-hello-and-mail-at-once", "", HELLO + MAIL, f"250, {MAIL_OK}"),
    Row("A8-empty-line", "", b"\r\n", "500 5.5.2"),
    Row("A8-counts-as-an-error", "", b"\r\n" * 20,
        asks("500 5.5.2", 20) + ", 421 4.7.0", log="too many errors"),
    Row("A11-rcpt-before-mail", "hello", RCPT, "503 5.5.1"),
    Row("A12-data-before-mail", "hello", b"DATA\r\n", "503 5.5.1"),
    Row("A12-data-before-rcpt", "mail", b"DATA\r\n", "554 5.5.1"),
    Row("A14-ehlo-resets", "rcpt", HELLO + RCPT, "250, 503 5.5.1"),
    Row("A14-helo-resets", "rcpt", b"HELO x\r\n" + RCPT, "250, 503 5.5.1"),
    Row("A14-recipients-do-not-survive", "rcpt",
        HELLO + MAIL + rcpt(b"<e@d.example>") + bdat(TEXT),
        f"250, {MAIL_OK}, {RCPT_OK}, {QUEUED}", (BODY,), ("e@d.example",)),
    Row("A15-rset-with-argument", "rcpt", b"RSET x\r\n" + bdat(TEXT),
        f"501 5.5.4, {QUEUED}", (BODY,)),
    Row("A15-rset", "rcpt", b"RSET\r\nDATA\r\n" + RCPT,
        f"{OK}, 503 5.5.1, 503 5.5.1"),
    Row("A52-quit-and-more", "hello", QUIT + MAIL + RCPT + bdat(TEXT), BYE,
        closes=True),
    Row("A53-auth", "hello", b"AUTH PLAIN AHVzZXIAcGFzcw==\r\n", "503 5.5.1"),
    Row("A55-starttls-and-more", "hello", b"STARTTLS\r\nEHLO x\r\n",
        "502 5.5.1, 250"),
    Row("A56-starttls-with-argument", "hello", b"STARTTLS x\r\n",
        "502 5.5.1"),
]

NAMES = [
    *each("A17", "", lambda verb: verb, "501 5.5.4", ehlo=b"EHLO\r\n",
          helo=b"HELO\r\n"),
    Row("A18-blank", "", b"EHLO \r\n", "501 5.5.4"),
    Row("A20-nul", "", b"EHLO a\0b\r\n", "500 5.5.2"),
    Row("A21-markup-and-escape", "", b"EHLO <script>\x1b[31m\r\n",
        "501 5.5.4"),
    *[Row(f"A22-{name}", "",
          b"EHLO " + word + b"\r\n" + MAIL + RCPT + bdat(TEXT),
          f"250, {MAIL_OK}, {RCPT_OK}, {QUEUED}",
          (in_header(b"^Received: from " + re.escape(word) + b" "),))
      for name, word in [("literal", b"[127.0.0.1]"),
                         ("ipv6-literal", b"[IPv6:::1]"),
                         ("localhost", b"localhost"), ("underscore", b"a_b")]],
    Row("A23-bare-lf", "", b"EHLO x\n" + mail(b"<a@b.example>")[:-2] + b"\n",
        f"250, {MAIL_OK}"),
    Row("A24-cr-cr-lf", "hello", b"MAIL FROM:<a@b.example>\r\r\n",
        "500 5.5.2"),
    Row("A24-cr-inside", "hello", b"MAIL FROM:<a@b.example\r>\r\n",
        "500 5.5.2"),
]

ADDRESSES = [
    Row("A25-no-brackets", "hello",
        mail(b"a@b.example") + RCPT + bdat(TEXT),
        f"{MAIL_OK}, {RCPT_OK}, {QUEUED}", (sender_is("a@b.example"),)),
    *each("A25", "hello", mail, "501 5.1.7", half=b"a@b.example>",
          two_words=b"a@b.example c", parameter=b"a@b.example SIZE=1"),
    Row("A26-blank", "hello", mail(b" <a@b.example>"), MAIL_OK),
    Row("A26-two-blanks", "hello", b"MAIL  FROM:<a@b.example>\r\n",
        "501 5.5.4"),
    Row("A27-null-sender", "hello", mail(b"<>") + RCPT + bdat(TEXT),
        f"{MAIL_OK}, {RCPT_OK}, {QUEUED}", (sender_is(""),)),
    *each("A29", "hello", mail, "501 5.1.7",
          two_closing=b"<a@b.example>>", two_opening=b"<<a@b.example>",
          text_behind=b"<a@b.example>x", blank=b"<a @b.example>",
          double_at=b"<a@@b.example>", only_at=b"<@>", no_domain=b"<a@>",
          no_local_part=b"<@b.example>", double_dot=b"<a..b@c.example>",
          leading_dot=b"<.a@c.example>", empty_label=b"<a@b..example>",
          leading_hyphen=b"<a@-b.example>", trailing_dot=b"<a@b.example.>"),
    *each("A30", "mail", rcpt, RCPT_OK,
          local_part_64=b"<" + b"a" * 64 + b"@b.example>",
          label_63=b"<a@" + b"b" * 63 + b".example>",
          address_254=b"<a@" + (b"b" * 50 + b".") * 4 +
          b"c" * 48 + b">"),
    *each("A30", "mail", rcpt, "501 5.1.3",
          local_part_65=b"<" + b"a" * 65 + b"@b.example>",
          label_64=b"<a@" + b"b" * 64 + b".example>",
          address_255=b"<a@" + (b"b" * 50 + b".") * 4 + b"c" * 49 + b">",
          domain_256=b"<a@" + (b"b" * 50 + b".") * 5 + b"c>"),
    *[Row(f"A32-{name}", "mail", rcpt(path) + bdat(TEXT),
          f"{RCPT_OK}, {QUEUED}", (BODY,), (path[1:-1].decode(),))
      for name, path in [("blank", b'<"a b"@c.example>'),
                         ("quote", b'<"a\\"b"@c.example>'),
                         ("at", b'<"a@b"@c.example>'),
                         ("brackets", b'<"<x>"@c.example>')]],
    *each("A33", "mail", rcpt, "500 5.5.2", nul=b'<"a\0b"@c.example>'),
    *each("A33", "mail", rcpt, "501 5.1.3", delete=b'<"a\x7fb"@c.example>',
          not_closed=b'<"abc@c.example>'),
    # Two lines, as any reader of lines has it: the second is no command.
    Row("A33-cr-lf", "mail", rcpt(b'<"a\r\nb"@c.example>'),
        "501 5.1.3, 500 5.5.2"),
    Row("A34-without-smtputf8", "mail", rcpt("<ä@b.example>".encode()),
        "553 5.6.7"),
    Row("A34-sender-without-smtputf8", "hello",
        mail("<ä@b.example>".encode()), "553 5.6.7"),
    Row("A34-with-smtputf8", "hello",
        mail(b"<a@b.example>", b" SMTPUTF8") +
        rcpt("<ä@b.example>".encode()), f"{MAIL_OK}, {RCPT_OK}"),
    *[Row(f"A34-{name}-{kind}", "hello",
          mail(b"<a@b.example>", parameter) + rcpt(b"<" + octets +
                                                   b"@b.example>"),
          f"{MAIL_OK}, 501 5.1.3")
      for name, octets in [("invalid", b"\xc3\x28"), ("overlong", b"\xc0\xaf"),
                           ("surrogate", b"\xed\xa0\x80"),
                           ("cut", b"\xc3"), ("too-high", b"\xf4\x90\x80\x80")]
      for kind, parameter in [("ascii", b""), ("utf8", b" SMTPUTF8")]],
    *[Row(f"A36-{name}", "mail", rcpt(path) + bdat(TEXT),
          f"{RCPT_OK}, {QUEUED}", (BODY,), (to,))
      for name, path, to in [
          ("percent", b"<c%d.example@relay.example>",
           "c%d.example@relay.example"),
          ("bang", b"<d.example!c>", "d.example!c@example.com")]],
    Row("A38-postmaster", "mail", rcpt(b"<postmaster>") + bdat(TEXT),
        f"{RCPT_OK}, {QUEUED}", (BODY,), ("pm@example.com",)),
    Row("A38-Postmaster", "mail", rcpt(b"<Postmaster>") + bdat(TEXT),
        f"{RCPT_OK}, {QUEUED}", (BODY,), ("pm@example.com",)),
    *each("A39", "mail", rcpt, RCPT_OK, literal=b"<c@[10.0.0.1]>",
          ipv6=b"<c@[IPv6:2001:db8::1]>"),
    *each("A39", "mail", rcpt, "501 5.1.3", number=b"<c@[10.0.0.999]>",
          not_closed=b"<c@[>", no_ipv6=b"<c@[IPv6:10.0.0.1]>"),
    Row("A40-the-same-twice", "rcpt", RCPT + rcpt(b"<c@D.EXAMPLE>") +
        bdat(TEXT), f"{RCPT_OK}, {RCPT_OK}, {QUEUED}", (BODY,)),
]

PARAMETERS = [
    *each("A41", "hello", lambda size: mail(b"<a@b.example>", b" SIZE=" + size),
          "552 5.3.4", overflow=b"99999999999999999999",
          no_overflow=b"18446744073709551615", too_big=b"52428801"),
    *each("A41", "hello", lambda size: mail(b"<a@b.example>", b" SIZE=" + size),
          "501 5.5.4", negative=b"-1", empty=b"", letter=b"1x", hex=b"0x10",
          plus=b"+1"),
    Row("A41-limit", "hello", mail(b"<a@b.example>", b" SIZE=52428800"),
        MAIL_OK),
    *each("A43", "hello", lambda body: mail(b"<a@b.example>", b" BODY=" + body),
          MAIL_OK, seven=b"7BIT", eight=b"8bitmime"),
    Row("A43-nine", "hello", mail(b"<a@b.example>", b" BODY=9BIT"),
        "501 5.5.4"),
    Row("A43-binary", "hello", mail(b"<a@b.example>", b" BODY=BINARYMIME"),
        "555 5.5.4"),
    *each("A44", "hello", lambda one: mail(b"<a@b.example>", b" " + one),
          "555 5.5.4", unknown=b"FOO=BAR", no_value=b"FOO"),
    *each("A44", "hello", lambda one: mail(b"<a@b.example>", b" " + one),
          "501 5.5.4", no_name=b"=x", twice=b"SIZE=1 SIZE=2"),
    *each("A45", "hello",
          lambda envid: mail(b"<a@b.example>", b" RET=FULL ENVID=" + envid),
          "501 5.5.4", cr=b"a+0Db", cut=b"a+3", no_hex=b"a+zz",
          octets_101=b"a" * 101),
    Row("A46-orcpt-with-lf", "mail",
        rcpt(b"<c@d.example>", b" ORCPT=rfc822;a+0Ab@c"),
        "501 5.5.4"),
    *each("A46", "mail",
          lambda notify: rcpt(b"<c@d.example>", b" NOTIFY=" + notify),
          "501 5.5.4", never_and=b"NEVER,SUCCESS", empty=b"",
          unknown=b"X"),
]

POST = (b"POST / HTTP/1.1\r\nHost: localhost:25\r\nContent-Type: text/plain"
        b"\r\nContent-Length: 99\r\n\r\n" + HELLO + MAIL + RCPT + bdat(TEXT))
STRANGERS = [
    *[Row(f"A49-{verb.decode()}", "", verb + b" / HTTP/1.1\r\nHost: x\r\n\r\n",
          "421 5.7.0", log="non-SMTP command")
      for verb in [b"GET", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"get"]],
    Row("A49-post-with-a-session", "", POST, "421 5.7.0",
        log="non-SMTP command"),
    Row("A49-host-line", "", b"X / HTTP/1.1\r\nHost: x\r\n" + HELLO,
        "500 5.5.2, 421 5.7.0", log="non-SMTP command"),
    Row("A50-client-hello", "",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\n\x80" * 250,
        "500 5.5.2", log="TLS on a plain port"),
    Row("A51-20-errors", "hello", b"X\r\n" * 20,
        asks("500 5.5.2", 20) + ", 421 4.7.0", log="too many errors"),
    Row("A51-19-errors", "hello", b"X\r\n" * 19, asks("500 5.5.2", 19)),
    *[Row(f"A51-101-{verb}", "", f"{verb}\r\n".encode() * 101,
          asks(OK, 100) + ", 421 4.7.0", log="too many commands")
      for verb in ["NOOP", "RSET"]],
    Row("A51-100-NOOP", "", b"NOOP\r\n" * 100, asks(OK, 100)),
    Row("A51-count-begins-anew", "",
        HELLO + b"NOOP\r\n" * 99 + MAIL + RCPT + bdat(TEXT) +
        b"NOOP\r\n" * 100,
        f"250, {asks(OK, 99)}, {MAIL_OK}, {RCPT_OK}, {QUEUED}, "
        f"{asks(OK, 100)}", (BODY,)),
]


@pytest.mark.parametrize("via", ["tcp", "unix"])
@pytest.mark.parametrize("row", **table(*SEQUENCE, *NAMES, *ADDRESSES,
                                        *PARAMETERS, *STRANGERS))
def test_command(server, row, via):
    server.play(row, via)


def test_A3_early_talker(server, frozen):
    """`printf ... | nc localhost 25`: all is there before the greeting."""
    for via in "tcp", "unix":
        with frozen(server.daemon):
            client = Exchange(connect(server.address(via))).send(
                HELLO + MAIL + RCPT + bdat(TEXT) + QUIT)
        replies = client.replies()
        assert_replies(replies, ["220", "250", MAIL_OK, RCPT_OK, QUEUED, BYE])
        server.arrived(queued_ids(replies))


SESSION = (HELLO + MAIL + RCPT + b"DATA\r\n" + TEXT +
           b"..\r\na\nb\r\n.\r\r\n.\r\n" + mail(b"<>") + RCPT +
           bdat(b"\r\n", last=False) + bdat(b"x\r") + b"NOOP\r\n" + QUIT)


def transcript(server, replies):
    """Replies and messages, without what differs from time to time."""
    ids = queued_ids(replies)
    replies = [f"{QUEUED} id" if one.startswith(QUEUED) else one
               for one in replies]
    messages = [one for one, in server.arrived(ids)]
    return replies, [(one.sender, one.recipients, re.sub(
        rb" \((localhost|userid) .*\)| id \w+|; .*|^Date: .*|^Message-ID: .*",
        b"", one.data, flags=re.M)) for one in messages]


@pytest.fixture(scope="module")
def at_once(server):
    return transcript(server, converse(server.address("unix"), SESSION))


def test_A7_all_at_once(at_once):
    replies, messages = at_once
    assert_replies(replies, [
        "220", "250", MAIL_OK, RCPT_OK, "354", QUEUED, MAIL_OK, RCPT_OK,
        "250 2.0.0 Ok: 2 octets so far", QUEUED, OK, BYE])
    assert messages[0][2].endswith(b"\n\r\nbody\r\n.\r\na\r\nb\r\n.\r\n\r\n")
    assert messages[1][2].endswith(b"\n\r\nx\r\n")


@pytest.mark.parametrize("part", range(4))
def test_A7_split_at_every_offset(server, at_once, part):
    for offset in range(1 + part, len(SESSION), 4):
        client = Exchange(connect(server.address("unix")))
        client.send_split(SESSION[:offset], SESSION[offset:])
        assert transcript(server, client.replies()) == at_once, offset


@pytest.mark.parametrize("via", ["tcp", "unix"])
def test_A7_each_octet_alone(server, at_once, via):
    client = Exchange(connect(server.address(via)))
    for octet in SESSION:
        send = client.send_split if via == "unix" else client.send
        send(bytes([octet]))
    assert transcript(server, client.replies()) == at_once


def test_A16_recipients_of_two_messages(server):
    replies = converse(server.address("tcp"), HELLO + MAIL + RCPT + bdat(TEXT) +
                       MAIL + rcpt(b"<e@d.example>") + bdat(TEXT) + QUIT)
    (first,), (second,) = server.arrived(queued_ids(replies))
    assert first.recipients == ["c@d.example"]
    assert second.recipients == ["e@d.example"]


def test_A21_log_is_escaped(server):
    row, = [row for row in NAMES if row.name.startswith("A21")]
    assert any("helo=<\\x3cscript\\x3e\\x1b[31m>" in line
               for line in server.play(row))


@pytest.mark.parametrize("row", **table(
    Row("A23-bare-lf-rejected", "", b"EHLO x\nNOOP\r\n", f"500 5.5.2, {OK}"),
    Row("A24-cr-cr-lf", "hello", b"NOOP\r\r\n", "500 5.5.2")))
def test_bare_newline_in_a_command_where_it_is_rejected(server, row):
    server.play(row, "reject")


def test_A40_limit_of_recipients(server):
    many = [b"%d@d.example" % n for n in range(1001)]
    replies = converse(server.address("tcp"), HELLO + MAIL + b"".join(
        rcpt(b"<" + one + b">") for one in many) + bdat(TEXT) + QUIT)
    assert_replies(replies, ["220", "250", MAIL_OK, *[RCPT_OK] * 1000,
                             "452 4.5.3", QUEUED, BYE])
    # The relayhost takes 100 at a time.
    messages, = server.arrived(queued_ids(replies), 10)
    assert sorted(to for one in messages for to in one.recipients) == sorted(
        one.decode() for one in many[:1000])


def test_A42_declared_size_is_no_promise(server):
    body = b"x" * 78 + b"\r\n"
    row = Row("", "hello", mail(b"<a@b.example>", b" SIZE=10") + RCPT +
              bdat(TEXT[:-6] + body * 13000),
              f"{MAIL_OK}, {RCPT_OK}, {QUEUED}", (body * 13000,))
    server.play(row)


@pytest.mark.parametrize("row", **table(
    *each("A57", "mail", rcpt, "554 5.7.1", domain=b"<c@d.example>",
          local=b"<root>", unknown=b"<nobody-here>", bad=b"<@>"),
    Row("A57-data", "mail", RCPT + b"DATA\r\n", "554 5.7.1, 554 5.5.1"),
    Row("A57-bdat", "mail", RCPT + bdat(TEXT), "554 5.7.1, 554 5.5.1")))
def test_stranger(server, row):
    """Each is told the same, whatever the name."""
    lines = server.play(row, "stranger")
    assert any("554 5.7.1 Relay access denied" in line for line in lines)


def descriptors(daemon):
    return sorted(os.listdir(f"/proc/{daemon.process.pid}/fd"), key=int)


def test_A59_descriptors_that_are_passed_are_closed_at_once(server):
    server.settle()
    before = descriptors(server.daemon)
    read, write = os.pipe()
    client = Exchange(connect(server.address("unix")))
    assert client.wait_replies(1).startswith("220")
    held = descriptors(server.daemon)
    for octet in HELLO:
        socket.send_fds(client.sock, [bytes([octet])], [write] * 10)
    os.close(write)
    assert client.wait_replies(2).startswith("250")
    # It had taken them all when it answered: the pipe has no writer left.
    os.set_blocking(read, False)
    assert os.read(read, 1) == b""
    assert descriptors(server.daemon) == held
    client.send(QUIT)
    assert len(client.replies()) == 3
    server.settle()
    assert descriptors(server.daemon) == before
    os.close(read)


def test_A59_garbage_on_the_unix_socket(server):
    mark = server.begin()
    client = Exchange(connect(server.address("unix")))
    client.send(bytes(range(11, 256)) * (1 << 14))
    assert_replies(client.replies(), ["220", "421 4.7.0"])
    assert any("long line after CONNECT from userid" in line
               for line in server.since(mark))


@pytest.mark.parametrize("via", ["tcp", "unix"])
@pytest.mark.parametrize("data, replies", [
    (b"", ["220"]), (HELLO + MAIL, ["220", "250", MAIL_OK]),
    (HELLO + MAIL + RCPT + b"DATA\r\nx", ["220", "250", MAIL_OK, RCPT_OK,
                                         "354"]),
    (HELLO + QUIT, ["220", "250", BYE])],
    ids=["A59-nothing", "A59-mail", "A59-data", "A60-after-quit"])
def test_half_closed(server, frozen, data, replies, via):
    """Its own side is closed; it still gets what it asked for."""
    mark = server.begin()
    with frozen(server.daemon):
        client = Exchange(connect(server.address(via))).send(data)
        client.sock.send(b"")
        client.sock.shutdown(socket.SHUT_WR)
    assert_replies(client.replies(), replies)
    lines = server.since(mark)
    server.assert_nothing_else(lines, [])
    assert data.endswith((QUIT, b"")) or \
        any("lost connection after" in line for line in lines)


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                    struct.pack("ii", 1, 0))
    sock.close()


POINTS = {"greeting": (b"", 1), "hello": (HELLO, 2), "mail": (HELLO + MAIL, 3),
          "rcpt": (HELLO + MAIL + RCPT, 4),
          "data": (HELLO + MAIL + RCPT + b"DATA\r\n", 5),
          "in-data": (HELLO + MAIL + RCPT + b"DATA\r\n" + TEXT, 5),
          "in-bdat": (HELLO + MAIL + RCPT + b"BDAT 99 LAST\r\nx", 4)}


@pytest.mark.parametrize("point", POINTS, ids=lambda point: f"A61-{point}")
def test_reset_before_the_end(server, point):
    data, count = POINTS[point]
    mark = server.begin()
    client = Exchange(connect(server.address("tcp"))).send(data)
    client.wait_replies(count)
    reset(client.sock)
    lines = server.since(mark)
    server.assert_nothing_else(lines, [])
    if data:
        assert any("lost connection after" in line for line in lines)


def test_A61_reset_when_the_reply_was_due(server, frozen):
    """All had come: it is kept, and the log says that nobody was told."""
    mark = server.begin()
    client = Exchange(connect(server.address("unix"))).send(
        HELLO + MAIL + RCPT)
    client.wait_replies(4)
    with frozen(server.daemon):
        client.send(bdat(TEXT))
        client.sock.close()
    told = server.daemon.wait_log(
        r"(\w+): lost connection with userid \d+ before it knew of "
        r'"queued": it may send the message again')[1]
    (message,), = server.arrived([told])
    assert message.body == BODY
    server.assert_nothing_else(server.since(mark), [told])


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
