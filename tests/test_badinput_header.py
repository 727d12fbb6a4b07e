"""Section D of the catalogue of bad input: the text of a message, by
"sendmail -t" and by DATA.  A test's id begins with the number of its case."""

import dataclasses
import email.header
import re
import subprocess

import pytest

from badinput import ROOT_MAIL, Arrival, by_id, serve
from harness import BIN, quote

TO = "c@d.example"
FROM = b"From: a@b.example\n"
# By line, as chance may put "bcc" into a Message-ID.
BCC = (b"\r\nbcc", b"\r\nresent-bcc")


@pytest.fixture(scope="module")
def station(authority):
    with serve(authority) as one:
        yield one


@dataclasses.dataclass
class Case:
    """One text.

    to       whom -t sends it to; none: it is refused with status 65
    stderr   what is then said, a part of it
    reply    of DATA, its beginning
    """

    id: str
    text: bytes
    to: tuple = (TO,)
    stderr: bytes = b""
    reply: str = "250 2.0.0"
    has: tuple = ()
    lacks: tuple = ()
    body: bytes = b"body\r\n"


T = b"To: c@d.example\n"
END = b"\nbody\n"
MADE = (b"\r\nDate: ", b"\r\nMessage-ID: <")

CASES = [
    Case("D4-lone-cr", FROM + T + b"\n10%\r20%\r\rdone\n",
         body=b"10%\r\n20%\r\n\r\ndone\r\n"),
    Case("D4-lone-cr-in-a-field", FROM + T + b"Subject: x\rBcc: e@f.example\n"
         + END, to=(TO, "e@f.example"), has=(b"\r\nSubject: x\r\n",),
         lacks=(*BCC, b"e@f")),
    Case("D5-no-blank-line", FROM + T + b"Subject: x\n", body=b"",
         has=(b"\r\nSubject: x\r\n", *MADE)),
    Case("D5-no-line-end", FROM + T + b"Subject: x", body=b"",
         has=(b"\r\nSubject: x\r\n", *MADE)),
    Case("D6-body-only", b"hello\nworld\n", to=(),
         stderr=b"no recipients in header", body=b"hello\r\nworld\r\n",
         has=(b"\r\nFrom: ", *MADE), lacks=(b"hello",)),
    Case("D6-body-behind-fields", T + b"hello\nTo: x@y.example\n",
         body=b"hello\r\nTo: x@y.example\r\n", lacks=(b"x@y", b"hello")),
    Case("D7-mbox", b"From root Mon Jan  1 00:00:00 2026\n" + T + END,
         lacks=(b"From root",)),
    Case("D7-quoted-mbox", b">From root Mon Jan  1\n" + T + END,
         lacks=(b"From root",)),
    Case("D7-once", b"From root Mon\nFrom root Tue\n" + T + END, to=(),
         stderr=b"no recipients", lacks=(b"From root",),
         body=b"From root Tue\r\nTo: c@d.example\r\n\r\nbody\r\n"),
    Case("D7-not-the-first-line", FROM + T + b"From root Mon\n" + END,
         lacks=(b"From root",), body=b"From root Mon\r\n\r\nbody\r\n"),
    Case("D8-folded", b"Bcc: e@x.example,\n f@x.example\nSubject: s\n" + END,
         to=("e@x.example", "f@x.example"), lacks=(*BCC, b"x.example"),
         has=(b"\r\nSubject: s\r\n",)),
    Case("D8-folded-no-comma", b"Bcc: e@x.example\n f@x.example\n" + END,
         to=("e@x.example", "f@x.example"), lacks=(*BCC, b"x.example")),
    Case("D8-capitals", FROM + b"BCC: e@x.example\n" + END,
         to=("e@x.example",), lacks=BCC),
    Case("D8-space", FROM + b"Bcc : e@x.example\n" + END,
         to=("e@x.example",), lacks=BCC),
    Case("D8-two", b"Bcc: e@x.example\n" + FROM + b"bCC: f@x.example\n" + END,
         to=("e@x.example", "f@x.example"), lacks=(*BCC, b"x.example")),
    Case("D8-resent", FROM + b"To: no@d.example\nResent-Bcc: e@x.example\n" +
         END, to=("e@x.example",), lacks=BCC,
         has=(b"\r\nTo: no@d.example\r\n",)),
    Case("D8-last-field", FROM + b"Bcc: e@x.example,\n\tf@x.example",
         to=("e@x.example", "f@x.example"), lacks=(*BCC, b"x.example"),
         body=b""),
    Case("D9-folding", FROM + b"To:\n a@b.example,\n\tc@d.example\n" + END,
         to=("a@b.example", TO),
         has=(b"\r\nTo:\r\n a@b.example,\r\n\tc@d.example\r\n",)),
    Case("D9-empty-members", FROM + b"To: a@b.example, , ,c@d.example,\n" +
         END, to=("a@b.example", TO)),
    Case("D10-undisclosed", FROM +
         b"To: undisclosed-recipients:;\nBcc: a@b.example\n" + END,
         to=("a@b.example",), lacks=BCC,
         has=(b"\r\nTo: undisclosed-recipients:;\r\n",)),
    Case("D10-group", FROM + b"To: g: a@b.example, c@d.example;\n" + END,
         to=("a@b.example", TO)),
    Case("D10-empty-group", FROM + b"To: undisclosed-recipients:;\n" + END,
         to=(), stderr=b"no recipients in header"),
    Case("D11-names-and-comments", FROM + b'To: "Doe, John" <j@d.example>, '
         b'(comment, with <e@x>) k@d.example, <l@d.example> (x)\n' + END,
         to=("j@d.example", "k@d.example", "l@d.example")),
    Case("D12-deep-comment", FROM + b"To: " + b"(" * 100000 + b"\n" + END,
         to=(), stderr=b"header field To"),
    Case("D12-deep-and-closed", FROM + b"To: a@b.example " + b"(" * 400 +
         b")" * 400 + b"\n" + END, to=("a@b.example",)),
    Case("D12-open-quote", FROM + b'To: "a@b.example, c@d.example\n' + END,
         to=(), stderr=b"header field To"),
    Case("D12-angles", FROM + b"To: " + b"<" * 900 + b"\n" + END,
         to=(), stderr=b"header field To"),
    Case("D12-colons", FROM + b"To: a:b:c:;;\n" + END, to=(),
         stderr=b"header field To"),
    Case("D12-cc", FROM + T + b"Cc: (((\n" + END, to=(),
         stderr=b"header field Cc"),
    Case("D13-encoded-word", FROM +
         b"To: =?utf-8?q?a=40b.example?= <c@d.example>\n" + END,
         has=(b"\r\nTo: =?utf-8?q?a=40b.example?= <c@d.example>\r\n",)),
    Case("D13-encoded-word-alone", FROM + b"To: =?utf-8?q?a=40b.example?=\n" +
         END, to=(), stderr=b"header field To"),
    Case("D15-space-before-colon", FROM + b"To : c@d.example\n" + END),
    Case("D15-nul-in-a-name", FROM + T + b"T\0o: a@b.example\n" + END, to=(),
         stderr=b"550 5.6.0 NUL", reply="550 5.6.0 NUL"),
    Case("D15-no-name", FROM + T + b": x\n\nbody\n",
         body=b": x\r\n\r\nbody\r\n"),
    Case("D15-8-bit-name", FROM + T + b"\x80: x\n\nbody\n",
         body=b"\x80: x\r\n\r\nbody\r\n"),
    Case("D15-long-name", FROM + T + b"X" * 990 + b": x\n" + END),
    Case("D16-continuation-first", b" x\nTo: c@d.example\n" + END, to=(),
         stderr=b"no recipients", has=MADE, lacks=(b"To: c@d",),
         body=b" x\r\nTo: c@d.example\r\n\r\nbody\r\n"),
    Case("D17-from", FROM + b"From: e@f.example\n" + T + END,
         has=(b"\r\nFrom: a@b.example\r\n", b"\r\nFrom: e@f.example\r\n")),
    Case("D17-date-and-id", FROM + T + b"Date: x\nDate: y\nMessage-ID: <a@b>\n"
         b"Message-ID: <c@d>\n" + END,
         has=(b"\r\nDate: x\r\nDate: y\r\n"
              b"Message-ID: <a@b>\r\nMessage-ID: <c@d>\r\n",)),
    Case("D17-to", FROM + T + b"To: e@f.example\n" + END,
         to=(TO, "e@f.example"),
         has=(b"\r\nTo: c@d.example\r\nTo: e@f.example\r\n",)),
    Case("D17-empty-from", b"From:\n" + T + END, lacks=(b"\r\nFrom:\r\n",)),
    Case("D19-left-alone", FROM + T + b"Message-ID: x\nDate: tomorrow\n" + END,
         has=(b"\r\nMessage-ID: x\r\nDate: tomorrow\r\n",)),
    Case("D20-whole-addresses", FROM + b'To: "root@web1" <c@d.example>,\n'
         b' (root@web1 was) e@f.example, xroot@web1x.example\n' + END,
         to=(TO, "e@f.example", "xroot@web1x.example"),
         has=(b'\r\nTo: "root@web1" <c@d.example>,\r\n'
              b' (root@web1 was) e@f.example, xroot@web1x.example\r\n',)),
    Case("D20-whole-local-address", FROM + b"To: c@d.example, root@web1\n" +
         END, to=(TO, ROOT_MAIL),
         has=(b'\r\nTo: c@d.example, "root on web1" <you@example.com>\r\n',)),
    Case("D22-return-path", b"Return-Path: <r@p.example>\n" + FROM + T + END,
         lacks=(b"return-path", b"r@p")),
    Case("D22-bcc-in-a-part", FROM + T + b"MIME-Version: 1.0\n"
         b"Content-Type: message/rfc822\n\nBcc: e@f.example\nTo: x\n\nbody\n",
         body=b"Bcc: e@f.example\r\nTo: x\r\n\r\nbody\r\n"),
    Case("D23-10000-recipients", FROM + b"To: " + b",\n ".join(
        b"u%d@d.example" % n for n in range(5000)) + b"\nCc: " + b",\n ".join(
            b"u%d@d.example" % n for n in range(5000, 10000)) + b"\n" + END,
         to=(), stderr=b"452 4.5.3 Too many recipients"),
    Case("D25-utf-8", FROM + T + b"Subject: caf\xc3\xa9\n" + END,
         has=(b"\r\nSubject: caf\xc3\xa9\r\n",)),
    Case("D25-8-bit", FROM + T + b"Subject: caf\xe9\n" + END,
         has=(b"\r\nSubject: caf\xe9\r\n",)),
    Case("D26-empty", b"", to=(), stderr=b"no recipients in header", body=b"",
         has=(b"\r\nFrom: ", *MADE)),
    Case("D27-bom", b"\xef\xbb\xbf" + T + FROM + END,
         has=(b"\r\nTo: c@d.example\r\n", b"\r\nFrom: a@b.example\r\n"),
         lacks=(b"\xef\xbb\xbf",)),
    Case("D27-bom-and-mbox", b"\xef\xbb\xbfFrom root Mon\n" + T + END,
         lacks=(b"\xef\xbb\xbf", b"From root")),
    Case("D28-crlf-in-quotes", FROM +
         b'To: "a@b.example\n.\nMAIL"@d.example\n' + END, to=(),
         stderr=b"header field To", lacks=(b"MAIL",),
         body=b'.\r\nMAIL"@d.example\r\n\r\nbody\r\n'),
    Case("D28-nul-in-quotes", FROM + b'To: "a\0b"@d.example\n' + END, to=(),
         stderr=b"header field To", reply="550 5.6.0 NUL"),
]


@pytest.mark.parametrize("case", by_id(CASES))
def test_by_sendmail(station, strict_mail, case):
    strict_mail(case.text)
    # Recursion or a pass for each octet would not do with so little.
    done = subprocess.run(
        ["prlimit", "--stack=262144", "--cpu=5", BIN / "sendmail", "-t"],
        input=case.text, capture_output=True,
        env={"RELAYD_SOCKET": str(station.daemon.socket)})
    if not case.to:
        assert done.returncode == 65
        assert case.stderr in done.stderr
        station.assert_nothing()
        return
    assert (done.returncode, done.stderr) == (0, b"")
    station.assert_arrives(Arrival(case.to, None, case.has, case.lacks,
                                   case.body))


@pytest.mark.parametrize("case", by_id(CASES))
def test_by_data(station, strict_mail, case):
    """Recipients come from the envelope, whatever the header says; so one
    that can't be parsed does no harm and goes as it is."""
    strict_mail(case.text)
    reply = station.data(case.text)
    assert reply.startswith(case.reply)
    if not reply.startswith("2"):
        station.assert_nothing()
        return
    station.assert_arrives(Arrival((TO,), "a@b.example", case.has, case.lacks,
                                   case.body))


def send(station, *arguments, text):
    done = station.daemon.sendmail(*arguments, data=text)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("field", [
    b"Bcc: e@x.example\n f@x.example", b"BCC: e@x.example",
    b"Bcc : e@x.example", b"Bcc: e@x.example\nBcc: f@x.example", b"Resent-Bcc: e@x.example",
], ids=["D8-folded", "D8-capitals", "D8-space", "D8-two", "D8-resent"])
def test_bcc_without_t(station, field):
    send(station, TO, text=FROM + field + b"\n" + END)
    station.assert_arrives(Arrival((TO,), lacks=(*BCC, b"x.example")))


@pytest.mark.parametrize("text, names", [
    (FROM + b"From: e@f.example\n", "From"),
    (FROM + b"Date: x\nDate: y\n", "Date"),
    (FROM + b"Message-ID: <a@b>\nMessage-ID: <c@d>\n", "Message-ID"),
    (FROM + T + T, "To"),
    (FROM + FROM + b"Cc: x@y.example\n" + T + b"cc : x@y.example\n",
     "From, Cc"),
], ids=["D17-from", "D17-date", "D17-message-id", "D17-to", "D17-several"])
def test_repeated_fields_are_logged(station, strict_mail, text, names):
    strict_mail(text + END)
    before = len(station.daemon.log)
    send(station, TO, text=text + END)
    message = station.assert_arrives(Arrival((TO,)))
    queue_id = re.search(rb"\bid (\w+)", message.header)[1].decode()
    station.daemon.wait_log(rf"relayd/cleanup\[\d+\]: {queue_id}: "
                            rf"more than one header field: {names}$")
    assert sum("more than one header field" in line
               for line in station.daemon.log[before:]) == 1


@pytest.mark.parametrize("fields, count", [
    (FROM + b"Date: tomorrow\nMessage-ID: x\n", 1),
    (FROM + b"Date: x\nMessage-ID: <a@b>\n" * 2 + FROM, 2),
    (b"FROM : a@b.example\nDATE :\n x\nmessage-id\t: x\n", 1),
], ids=["D19-one", "D17-two", "D15-spelled-oddly"])
def test_none_is_added_to_what_is_there(station, strict_mail, fields, count):
    strict_mail(fields + END)
    send(station, TO, text=fields + END)
    message = station.assert_arrives(Arrival((TO,)))
    for name in rb"from", rb"date", rb"message-id":
        assert len(re.findall(rb"(?mi)^%s[ \t]*:" % name,
                              message.header)) == count, message.header


def test_d17_an_empty_from_is_replaced_once(station):
    made = b'From: "a@b.example" <alerts@example.com>\r'
    for text, field in ((b"From:\n", made), (b"From: \nFROM:\n", made),
                        (b"From:\n" + FROM, FROM.replace(b"\n", b"\r"))):
        send(station, "-f", "a@b.example", TO, text=text + END)
        message = station.assert_arrives(Arrival((TO,)))
        assert re.findall(rb"(?mi)^from.*$", message.header) == [field]


def test_d20_folded_fields_keep_short_lines(station):
    """Though each of many addresses becomes longer."""
    names = b",\n\t".join(b", ".join([b"root@web1"] * 9 + [b"u%d@web1" % n])
                          for n in range(90))
    send(station, TO, text=FROM + b"To: " + names + b"\n" + END)
    message = station.assert_arrives(Arrival((TO,)))
    assert b"u89@example.com" in message.header
    assert max(map(len, message.header.split(b"\r\n"))) <= 998


@pytest.mark.parametrize("value", [
    "root@web1=a@b.example\r\nBcc: e@f.example", "root@web1=a@b.example\n",
    "root@web1\r=a@b.example",
], ids=["D21-crlf", "D21-lf", "D21-cr"])
def test_masquerade_with_a_line_end_is_refused_at_start(station, value,
                                                        directory):
    lines = station.daemon.file.read_text()
    file = directory / "relayd.conf"
    escaped = quote([value]).replace("\r", "\\x0d").replace("\n", "\\x0a")
    file.write_text(f"masquerade = {escaped}\n{lines}")
    done = subprocess.run([BIN / "relayd", "-n", "-f", file],
                          capture_output=True)
    assert done.returncode == 78
    assert b"masquerade: " in done.stderr


def test_d26_a_job_of_cron_without_output(station):
    send(station, "-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root", text=b"")
    message = station.assert_arrives(Arrival(
        has=(b'\r\nFrom: "CronDaemon" <', *MADE), body=b""))
    assert message.data.endswith(b"\r\n\r\n")


def test_d25_a_name_that_is_made_is_encoded(station):
    """Unlike what stands in the header already."""
    send(station, "-F", "J\u00fcrgen M", TO, text=END)
    message = station.assert_arrives(Arrival((TO,)))
    line = re.search(rb"(?m)^From: (\S+) <", message.header)[1].decode()
    assert str(email.header.make_header(
        email.header.decode_header(line))) == "J\u00fcrgen M"
