"""Section B of the catalogue of bad input: content, by DATA and by BDAT.  A
test's id begins with the number of its case; B18 and B19 (every string over
CR, LF, dot and a letter) are in test_smuggling.*, and what needs a daemon of
its own (B24, B37, B42, B43) is in test_badinput_limits.py."""

import email
import re
import sys

import pytest

from dialogue import (BYE, END, HEADER, MAIL, MAIL_OK, OK, QUEUED, QUIT,
                      RCPT, RCPT_OK, STAGES, TEXT, Exchange, Row,
                      assert_replies, bdat, connect, queued_ids, table)
from harness import SANITIZED

HEAD = HEADER + b"\r\n"
NEXT = b"MAIL FROM:<e@x.example>\r\n"
BARE = "550 5.6.11"
CHUNK = "250 2.0.0 Ok: {} octets so far"


def by_data(name, text, body, **options):
    """text is sent as it is, behind a good header."""
    return Row(f"{name}-data", "data", HEAD + text + b".\r\n", QUEUED, (body,),
               **options)


def by_chunk(name, text, body, **options):
    return Row(f"{name}-bdat", "rcpt", bdat(HEAD + text), QUEUED, (body,),
               **options)


def as_sent(*pieces):
    """The body is these, whatever the encoding that it arrives in."""
    def judge(message):
        # From the wire: a charset does not matter here.
        part = email.message_from_bytes(message.data)
        encoded = part["content-transfer-encoding"]
        if encoded in (None, "7bit", "8bit"):
            assert message.body == b"".join(pieces)
        else:
            assert part.get_payload(decode=True) == b"".join(pieces)
    return judge


# The text, and what it is once by DATA and once by BDAT; the third: is there
# a bare CR or LF in it?
SMUGGLING = {
    "B3": (b"a\n.\n", b"a\r\n.\r\n", None, True),
    "B4": (b"a\n.\r\n", b"a\r\n.\r\n", None, True),
    "B5": (b"a\r\n.\n", b"a\r\n.\r\n", None, True),
    "B6": (b"a\r.\r", b"a\r\n.\r\n", None, True),
    "B7": (b"a\r\n.\r", b"a\r\n.\r\n", None, True),
    "B8": (b"a\r.\r\n", b"a\r\n.\r\n", None, True),
    "B9": (b"a\n.\r", b"a\r\n.\r\n", None, True),
    "B10": (b"a\r.\n", b"a\r\n.\r\n", None, True),
    # A dot that begins a line behind CRLF was stuffed.
    "B11": (b"a\r\n\0.\r\n", b"a\r\n\0.\r\n", None, False),
    "B12": (b"a\r\n.\0\r\n", b"a\r\n\0\r\n", b"a\r\n.\0\r\n", False),
    "B13": (b"a\r\n.\r\r\n", b"a\r\n.\r\n\r\n", None, True),
    "B15": (b"a\r\n. \r\n", b"a\r\n \r\n", b"a\r\n. \r\n", False),
    "B16": (b"a\x85.\x85", b"a\x85.\x85", None, False),
    "B17": (b"a\x0b.\x0b", b"a\x0b.\x0b", None, False),
}


def smuggling(rejects):
    for name, (text, data, chunk, bare) in SMUGGLING.items():
        for row in (by_data(name, text + NEXT, as_sent(data, NEXT)),
                    by_chunk(name, text + NEXT, as_sent(chunk or data, NEXT))):
            if bare and rejects:
                row.replies, row.bodies, row.closes = BARE, (), True
            yield row


DATA = [
    by_data("B1", b"a\r\n", b"a\r\n"),
    Row("B14-data", "data",
        HEAD + b"a\r\r\n.\r\n" + NEXT + b"DATA\r\n.\r\n",
        f"{QUEUED}, {MAIL_OK}, 554 5.5.1, 500 5.5.2", (b"a\r\n\r\n",)),
    Row("B2-data", "data", b".\r\n", QUEUED, (b"",)),
    by_data("B20", b"..\r\n...\r\n..a\r\n", b".\r\n..\r\n.a\r\n"),
    by_data("B20-not-stuffed", b".a\r\n", b"a\r\n"),
    by_chunk("B20", b".\r\n..\r\n.a\r\n", b".\r\n..\r\n.a\r\n"),
    *[row for text in [b"\xc3\xa4\r\n", b"\x80\xff\r\n"]
      for row in (by_data(f"B23-{text[:2].hex()}", text, as_sent(text)),
                  by_chunk(f"B23-{text[:2].hex()}", text, as_sent(text)))],
    *[make("B22-nul-in-body", b"a\0b\r\n\0\r\n", as_sent(b"a\0b\r\n\0\r\n"))
      for make in (by_data, by_chunk)],
]

# Refused once all has come; the session goes on.
REFUSED = {
    "B22-nul-in-value": (b"X: a\0b\r\n\r\nx\r\n", "550 5.6.0"),
    "B22-nul-in-name": (b"X\0: a\r\n\r\nx\r\n", "550 5.6.0"),
    "B22-nul-first": (b"\0X: a\r\n\r\nx\r\n", "550 5.6.0"),
    "B22-nul-without-body": (b"X: a\0", "550 5.6.0"),
    "B26-field": (b"X: " + b"a" * (100 << 10) + b"\r\n\r\nx", "550 5.6.0"),
    "B26-section": (b"X: " + b"a" * 1000 + b"\r\n", "550 5.6.0"),
    "B26-fields": (b"X: a\r\n" * 1001 + b"\r\nx", "550 5.6.0"),
    "B41-51": (b"Received: x\r\n" * 51 + b"\r\nx", "554 5.4.6"),
    "B41-51-blank": (b"received : x\r\n" * 51 + b"\r\nx", "554 5.4.6"),
    "B41-51-capitals": (b"RECEIVED:\r\n" * 51 + b"\r\nx", "554 5.4.6"),
    "B41-51-mixed": (b"Received: x\r\nreceived : x\r\nRECEIVED:\r\n" * 17 +
                     b"\r\nx", "554 5.4.6"),
}
REFUSED["B26-section"] = (REFUSED["B26-section"][0] * 1043 + b"\r\nx",
                          "550 5.6.0")


def refused():
    for name, (text, reply) in REFUSED.items():
        good = MAIL + RCPT + bdat(TEXT)
        more = f"{MAIL_OK}, {RCPT_OK}, {QUEUED}"
        yield Row(f"{name}-data", "data", text + END + good,
                  f"{reply}, {more}", (b"body\r\n",))
        yield Row(f"{name}-bdat", "rcpt", bdat(text) + good,
                  f"{reply}, {more}", (b"body\r\n",))


ACCEPTED = [
    Row("B41-50", "rcpt", bdat(b"Received: x\r\n" * 50 + TEXT), QUEUED,
        (b"body\r\n",)),
    Row("B26-field-at-the-limit", "rcpt",
        bdat(b"X: " + b"a" * ((100 << 10) - 5) + b"\r\n" + TEXT), QUEUED,
        (b"body\r\n",)),
    Row("B26-fields-at-the-limit", "rcpt",
        bdat(b"X: a\r\n" * 997 + TEXT), QUEUED, (b"body\r\n",)),
]

CHUNKS = [
    Row("B29", "rcpt", b"BDAT 5 LAST\r\nhello", QUEUED, (b"hello\r\n",)),
    Row("B30", "rcpt", b"BDAT 0 LAST\r\n", QUEUED, (b"",)),
    *[Row(f"B31-{name}", "rcpt", b"BDAT" + argument + b"\r\nQUIT\r\n",
          "501 5.5.4", closes=True)
      for name, argument in [
          ("nothing", b""), ("letter", b" x"), ("negative", b" -1"),
          ("first", b" 5 FIRST"), ("overflow", b" 18446744073709551616 LAST"),
          ("hex", b" 0x10"), ("two-words", b" 5 LAST LAST"),
          ("two-blanks", b" 5  LAST")]],
    Row("B32", "rcpt", b"BDAT 5\r\nhelloBDAT 0 LAST\r\n",
        f"{CHUNK.format(5)}, {QUEUED}", (b"hello\r\n",)),
    Row("B33-before-rcpt", "mail", b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n",
        f"503 5.5.1, {OK}"),
    Row("B33-before-mail", "hello", b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n",
        f"503 5.5.1, {OK}"),
    Row("B33-before-hello", "", b"BDAT 6\r\nQUIT\r\nNOOP\r\n",
        f"503 5.5.1, {OK}"),
    Row("B33-goes-on", "mail", b"BDAT 6 LAST\r\nQUIT\r\n" + RCPT + bdat(TEXT),
        f"503 5.5.1, {RCPT_OK}, {QUEUED}", (b"body\r\n",)),
    Row("B34", "mail", b"RCPT TO:<x@>\r\nBDAT 6 LAST\r\nQUIT\r\n" + RCPT,
        f"501 5.1.3, 554 5.5.1, {RCPT_OK}"),
    Row("B35-bdat-after-data", "data", b".\r\nBDAT 6 LAST\r\nQUIT\r\n",
        f"{QUEUED}, 503 5.5.1", (b"",)),
    Row("B35-data-after-bdat", "rcpt", b"BDAT 5\r\nhelloDATA\r\n" +
        b"BDAT 0 LAST\r\n", f"{CHUNK.format(5)}, 503 5.5.1, {QUEUED}",
        (b"hello\r\n",)),
    Row("B36", "rcpt", b"BDAT 40 LAST\r\nQUIT\r\n" + b"x" * 34, QUEUED,
        (b"QUIT\r\n" + b"x" * 34 + b"\r\n",)),
    Row("B38", "rcpt", b"BDAT 5\r\na\r\nb\rBDAT 4 LAST\r\n\nc\r\n",
        f"{CHUNK.format(5)}, {QUEUED}", (b"a\r\nb\r\nc\r\n",)),
    by_chunk("B39", b"a\nb\n", b"a\r\nb\r\n"),
    Row("B40", "rcpt", b"BDAT 1 LAST\r\n.", QUEUED, (b".\r\n",)),
]


@pytest.mark.parametrize("via", ["tcp", "unix"])
@pytest.mark.parametrize("row", **table(*smuggling(False), *DATA, *refused(),
                                        *ACCEPTED, *CHUNKS))
def test_content(server, row, via):
    server.play(row, via)


@pytest.mark.parametrize("row", **table(
    *smuggling(True),
    Row("B39-bdat", "rcpt", bdat(HEAD + b"a\nb\n"), BARE, closes=True),
    Row("B38-bdat", "rcpt", b"BDAT 5\r\na\r\nb\rBDAT 4 LAST\r\n\nc\r\n",
        f"{CHUNK.format(5)}, {QUEUED}", (b"a\r\nb\r\nc\r\n",))))
def test_bare_newlines_rejected(server, row):
    server.play(row, "reject")


def test_B2_gets_what_it_lacks(server):
    def judge(message):
        for name in b"From", b"Date", b"Message-ID":
            assert re.search(rb"^%s: \S" % name, message.header, re.M)
        assert message.body == b""
    server.play(Row("B2", "data", b".\r\n", QUEUED, (judge,)))


def test_B20_B40_are_stuffed_again_on_the_wire(server):
    server.play(Row("", "rcpt", bdat(HEAD + b".\r\n..\r\n.b20"), QUEUED,
                    (b".\r\n..\r\n.b20\r\n",)))
    assert any(b"\r\n..\r\n...\r\n..b20\r\n.\r\n" in one.clear
               for one in server.host.sessions)


@pytest.mark.parametrize("make", [by_data, by_chunk])
@pytest.mark.parametrize("octets", [998, 999, 1000, 1 << 16, 10 << 20],
                         ids=lambda octets: f"B21-{octets}")
def test_long_line(server, octets, make):
    text = b"0123456789"[:octets % 10] + b"abcdefghij" * (octets // 10) + \
        b"\r\nsecond\r\n"
    server.play(make("", text, as_sent(text)))


@pytest.mark.parametrize("folding", [b" a\r\n", b"\t\r\n", b" (\r\n",
                                     b" ,\r\n", b" a@b,\r\n"])
@pytest.mark.parametrize("name", [b"Subject", b"To", b"From"])
def test_B26_many_foldings_take_linear_time(server, name, folding):
    """A field of 1 MiB is refused, one at the limit taken; what either costs
    the daemon in processor time grows with its length, not faster."""
    def processor_time():
        with open(f"/proc/{server.daemon.process.pid}/schedstat",
                  encoding="ascii") as file:
            return int(file.read().split()[0])

    def cost(octets, expected):
        text = name + b":\r\n" + folding * (octets // len(folding))
        before = processor_time()
        replies = Exchange(connect(server.address("unix"))).send(
            STAGES["rcpt"][0] + bdat(text + b"\r\nx") + QUIT).replies()
        assert_replies(replies, ["220", *STAGES["rcpt"][1], expected, BYE])
        return processor_time() - before

    server.begin()
    cost(12 << 10, QUEUED)      # the first costs more
    small, large = cost(12 << 10, QUEUED), cost((100 << 10) - 20, QUEUED)
    assert large < 3 * 8 * small
    refused = cost(10 * 100_000, "550 5.6.0")
    # ASan's memrchr() looks at all that it is given, even behind the find.
    assert SANITIZED or refused < 3 * 10 * large


@pytest.mark.parametrize("via", ["tcp", "unix"])
@pytest.mark.parametrize("stage, text, place", [
    ("data", TEXT, f"DATA ({len(TEXT)} bytes)"),
    ("data", b"\r\n.", "DATA (3 bytes)"),
    ("data", b"\r\n.\r", "DATA (4 bytes)"),
    ("data", b"", "DATA (0 bytes)"),
    ("rcpt", b"BDAT 9 LAST\r\nabc", "BDAT (3 bytes)"),
    ("rcpt", b"BDAT 3\r\nabc", "BDAT (3 bytes)"),
    ("rcpt", b"BDAT 3\r\nabcBDAT 2\r\nd", "BDAT (4 bytes)"),
], ids=["B27-in-data", "B27-dot", "B27-dot-cr", "B27-nothing", "B27-in-chunk",
        "B27-between-chunks", "B27-in-second-chunk"])
def test_connection_lost(server, frozen, stage, text, place, via):
    data, replies = STAGES[stage]
    mark = server.begin()
    client = Exchange(connect(server.address(via))).send(data)
    client.wait_replies(len(replies) + 1)
    with frozen(server.daemon):
        client.send(text)
        client.sock.close()
    lines = server.since(mark)
    server.assert_nothing_else(lines, [])
    assert any(f"lost connection after {place} from " in line
               for line in lines), lines


@pytest.mark.parametrize("via", ["tcp", "unix"])
@pytest.mark.parametrize("stage, text", [("data", TEXT + b".\r\n"),
                                         ("rcpt", bdat(TEXT))],
                         ids=["B28-data", "B28-bdat"])
def test_connection_lost_before_the_reply(server, frozen, stage, text, via):
    data, replies = STAGES[stage]
    mark = server.begin()
    client = Exchange(connect(server.address(via))).send(data)
    client.wait_replies(len(replies) + 1)
    with frozen(server.daemon):
        client.send(text)
        client.sock.close()
    told = server.daemon.wait_log(r"qmgr\[\d+\]: (\w+): from=<a@b\.example>",
                                  1 + sum("from=<a@b.example>" in line and
                                          "qmgr" in line for line in
                                          server.daemon.log[:mark]))[1]
    (message,), = server.arrived([told])
    assert message.body == b"body\r\n"
    server.assert_nothing_else(server.since(mark), [told])


@pytest.mark.parametrize("stage, text", [
    ("data", TEXT + b".\r\n"), ("rcpt", bdat(TEXT))],
    ids=["B19-data", "B19-bdat"])
def test_end_of_data_octet_by_octet(server, stage, text):
    data, replies = STAGES[stage]
    client = Exchange(connect(server.address("unix"))).send(data)
    client.send_split(*(bytes([octet]) for octet in text + QUIT))
    got = client.replies()
    assert_replies(got, ["220", *replies, QUEUED, BYE])
    (message,), = server.arrived(queued_ids(got))
    assert message.body == b"body\r\n"


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
