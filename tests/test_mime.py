"""Messages that a relayhost can't take as they are: converted, so that what
the reader decodes is what was written; and nothing else is touched."""

import email
import email.message
import email.policy
import random
import smtplib
import subprocess
import sys

import pytest

from harness import assert_valid, crlf, decoded_body, peak

SEVEN = ["PIPELINING", "SIZE 104857600", "ENHANCEDSTATUSCODES"]
EIGHT = SEVEN + ["8BITMIME"]
FULL = EIGHT + ["CHUNKING", "SMTPUTF8"]
UMLAUTS = "Grüße aus Köln, und noch viel mehr.\n"


def leaves(message):
    """Type, headers that describe it, and decoded content of each part."""
    return [(part.get_content_type(), part.get_params(), part["Subject"],
             part.get_payload(decode=True))
            for part in message.walk() if not part.is_multipart()]


def nested():
    """A multipart with about everything in it."""
    message = email.message.EmailMessage(policy=email.policy.SMTP)
    message["Subject"] = "nested"
    message["To"] = "root@example.com"
    message.set_content(UMLAUTS, cte="8bit")
    message.add_alternative(f"<p>{UMLAUTS}</p>\n", subtype="html", cte="8bit")
    inner = email.message.EmailMessage(policy=email.policy.SMTP)
    inner["Subject"] = "inner"
    inner.set_content(UMLAUTS * 20 + ". From\nFrom me\n", cte="8bit")
    inner.add_attachment("short\n", subtype="csv")
    message.add_attachment(inner)
    message.add_attachment(bytes(range(256)) * 9, "image", "png",
                           filename="x.png")
    message.add_attachment("=" * 70 + "\nä\n", cte="quoted-printable")
    return message


def assert_seven_bit(message):
    assert max(message.data) < 128
    assert max(map(len, message.data.split(b"\r\n"))) <= 998


def assert_size_was_told(message):
    assert f"SIZE={len(message.data)}" in message.mail_parameters.split()


@pytest.mark.parametrize("extensions", [
    SEVEN, SEVEN + ["CHUNKING"], [], ["SIZE 1000000"]],
    ids=lambda extensions: " ".join(extensions) or "none")
def test_I56_each_part_is_decoded_to_what_it_was(daemon, host, extensions):
    host.extensions = extensions
    sent = nested().as_bytes()
    assert daemon.sendmail("root", data=sent).returncode == 0
    message, = host.wait_messages(1)
    assert_seven_bit(message)
    assert leaves(email.message_from_bytes(message.data)) == \
        leaves(email.message_from_bytes(sent))
    assert "BODY=" not in message.mail_parameters
    if "SIZE" in " ".join(extensions):
        assert_size_was_told(message)
    daemon.wait_log(r"relayd/smtp\[\d+\]: \w+: converted to what the "
                    rf"relayhost takes, size={len(message.data)}$")


def test_I56_a_relayhost_with_8bitmime_gets_it_as_it_is(daemon, host):
    host.extensions = EIGHT
    sent = nested().as_bytes()
    assert daemon.sendmail("root", data=sent).returncode == 0
    message, = host.wait_messages(1)
    assert message.body == sent.partition(b"\r\n\r\n")[2]
    assert_size_was_told(message)
    assert "BODY=8BITMIME" in message.mail_parameters.split()
    daemon.wait_log("removed")
    assert not any("converted" in line for line in daemon.log)


def test_I56_a_message_without_mime_gets_its_header(daemon, host):
    host.extensions = SEVEN
    for body in (UMLAUTS.encode(), UMLAUTS.encode("latin-1")):
        assert daemon.sendmail("root", data=b"\n" + body).returncode == 0
    for message, charset in zip(host.wait_messages(2),
                                ("utf-8", "unknown-8bit")):
        parsed = assert_valid(message)
        assert parsed["MIME-Version"] == "1.0"
        assert parsed["Content-Type"] == f'text/plain; charset="{charset}"'
        assert crlf(decoded_body(message)).decode(
            "latin-1" if charset != "utf-8" else charset) == \
            UMLAUTS.replace("\n", "\r\n")


def test_I56_a_fuzz_of_multiparts_is_decoded_to_what_it_was(daemon, host):
    host.extensions = SEVEN
    chance = random.Random(56)
    words = ["a", "ä", " ", "\t", "\n", "\n", ".", "=", "\nFrom ", "--", "€",
             "x" * 75, "y" * 999, "z" * 3000]
    sent = {}
    for number in range(40):
        parts = []
        for _ in range(chance.randrange(1, 4)):
            text = "".join(chance.choices(words, k=chance.randrange(30)))
            head = chance.choice(["", "Content-Type: text/html\n",
                                  "Content-Type: image/png\n"])
            head += chance.choice(["", "Content-Transfer-Encoding: 8bit\n"])
            parts.append(f"{head}\n{text}\n")
        data = f"Subject: {number}\nMIME-Version: 1.0\nContent-Type: " \
            "multipart/mixed; boundary=\"=_b\"\n\n" + \
            "".join(f"--=_b\n{part}" for part in parts) + "--=_b--\n"
        sent[f"{number}"] = crlf(data.encode())
        assert daemon.sendmail("root", data=data.encode()).returncode == 0
    for message in host.wait_messages(len(sent)):
        assert_seven_bit(message)
        parsed = email.message_from_bytes(message.data)
        assert leaves(parsed) == leaves(
            email.message_from_bytes(sent[parsed["Subject"]]))


@pytest.mark.parametrize("length", [998, 999, 1000, 65536, 10 << 20])
@pytest.mark.parametrize("extensions", [EIGHT, FULL], ids=["DATA", "BDAT"])
def test_B21_long_lines_are_encoded(daemon, host, length, extensions):
    host.extensions = extensions
    body = b"short\r\n" + b"x" * length + b"\r\n\xc3\xa4\r\n"
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        client.sendmail("root", ["root"], b"To: root\r\n\r\n" + body)
    message, = host.wait_messages(1)
    assert_size_was_told(message)
    assert max(map(len, message.data.split(b"\r\n"))) <= 998
    assert decoded_body(message) == body
    assert (message.body == body) == (length == 998)


def test_B22_nul_octets_are_kept(daemon, host):
    host.extensions = SEVEN
    body = b"\0a\0\r\n\0\r\n\xc3\xa4" + b" text" * 9 + b"\0\r\n"
    assert daemon.sendmail("root", data=b"\n" + body).returncode == 0
    message, = host.wait_messages(1)
    assert_seven_bit(message)
    assert b"\0" not in message.data and decoded_body(message) == body


def test_what_is_signed_is_not_touched(daemon, host, authority, tmp_path):
    host.extensions = SEVEN
    content, signed = tmp_path / "content", tmp_path / "signed"
    received = tmp_path / "received"
    content.write_bytes(b"Content-Type: text/plain\r\n\r\n" +
                        UMLAUTS.encode() + b"x" * 2000 + b"\r\n")
    certificate, key = map(str, authority.certificate())
    subprocess.run(["openssl", "smime", "-sign", "-in", content, "-out", signed,
                    "-signer", certificate, "-inkey", key], check=True)
    assert daemon.sendmail("root", data=signed.read_bytes()).returncode == 0
    message, = host.wait_messages(1)
    assert message.body == crlf(signed.read_bytes()).partition(b"\r\n\r\n")[2]
    received.write_bytes(message.data)
    subprocess.run(["openssl", "smime", "-verify", "-noverify", "-in", received,
                    "-out", tmp_path / "verified"], check=True)
    assert b"x" * 2000 in (tmp_path / "verified").read_bytes()
    daemon.wait_log("removed")
    assert not any("converted" in line for line in daemon.log)


def send_utf8(daemon, header, recipient="a@b.example"):
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        client.sendmail("s@b.example", [recipient],
                        f"{header}\r\n\r\nx\r\n".encode(),
                        mail_options=["SMTPUTF8", "BODY=8BITMIME"])


NAMES = "From: Zoë Größe <s@b.example>\r\nSubject: " + "Grüße " * 20


@pytest.mark.parametrize("extensions", [EIGHT, SEVEN], ids=["8BITMIME", "7bit"])
def test_I56_names_and_subject_need_no_smtputf8(daemon, host, extensions):
    host.extensions = extensions
    send_utf8(daemon, NAMES)
    message, = host.wait_messages(1)
    assert_seven_bit(message)
    assert max(map(len, message.data.split(b"\r\n"))) <= 78
    assert "SMTPUTF8" not in message.mail_parameters
    parsed = assert_valid(message)
    assert parsed["Subject"].strip() == ("Grüße " * 20).strip()
    assert parsed["From"].addresses[0].display_name == "Zoë Größe"


@pytest.mark.defective_input(   # in the header that the report returns
    "from: NonASCIILocalPartDefect", "from: UndecodableBytesDefect",
    "cc: UndecodableBytesDefect")
@pytest.mark.parametrize("header, recipient", [
    ("From: zoë@b.example", "a@b.example"),
    ("From: s@b.example\r\nCc: Zoë <zoe@bücher.example>", "a@b.example"),
    ("From: s@b.example", "zoë@b.example")],
    ids=["From", "Cc", "recipient"])
def test_I56_an_address_needs_smtputf8(daemon, host, header, recipient):
    host.extensions = EIGHT
    send_utf8(daemon, header, recipient)
    daemon.wait_log(r"dsn=5\.6\.7, status=bounced")
    report, = host.wait_messages(1)
    assert (report.sender, report.recipients) == ("", ["s@b.example"])


def test_I56_a_relayhost_with_smtputf8_gets_it_as_it_is(daemon, host):
    host.extensions = FULL
    send_utf8(daemon, NAMES, "zoë@b.example")
    message, = host.wait_messages(1)
    assert "Subject: Grüße".encode() in message.header
    assert "SMTPUTF8" in message.mail_parameters
    assert message.recipients == ["zoë@b.example".encode().decode("latin-1")]


def test_D25_other_8bit_headers_pass(daemon, host):
    host.extensions = SEVEN
    assert daemon.sendmail("root", data=b"Subject: caf\xe9\n\nx\n") \
        .returncode == 0
    message, = host.wait_messages(1)
    assert b"\r\nSubject: caf\xe9\r\n" in message.header
    assert message.body == b"x\r\n" and b"MIME" not in message.header


@pytest.mark.slow
@pytest.mark.parametrize("extensions", [SEVEN, SEVEN + ["CHUNKING"]],
                         ids=["DATA", "BDAT"])
def test_fifty_megabytes_are_converted_in_little_memory(make_daemon, host,
                                                        extensions):
    host.extensions = extensions
    daemon = make_daemon(top={"message_size_limit": "64M"}).start()
    assert daemon.sendmail("root", data=b"small\n").returncode == 0
    host.wait_messages(1)
    before = peak(daemon)
    line = b"0123456789abcdef" * 4 + b"\xc3\xa4\n"
    body = line * (50 * 1024 * 1024 // len(line))
    assert daemon.sendmail("root", data=b"\n" + body).returncode == 0
    _, message = host.wait_messages(2)
    assert_size_was_told(message)
    assert decoded_body(message) == crlf(body)
    daemon.wait_log("removed", 2)
    assert peak(daemon) - before < 8


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
