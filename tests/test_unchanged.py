"""A message that is complete and valid is not touched: only Received comes on
top, and Bcc and Return-Path go.  So the signatures in it stay good."""

import base64
import concurrent.futures
import re
import socket
import subprocess

import dkim
import nacl.signing
import pytest

from corpus import MESSAGES
from harness import TIMEOUT, crlf
from relayhost import EXTENSIONS, Relayhost

SENDER = "a@b.example"
NOT_SIGNED = {"obsolete"}   # python3-dkim does not parse it


def expected(message):
    """The octets that are to follow the new Received."""
    header, empty, body = crlf(message).partition(b"\r\n\r\n")
    fields = re.findall(rb"(?s)[^\r\n].*?(?:\r\n(?![ \t])|\Z)", header)
    kept = [field for field in fields if not re.match(
        rb"(?i)(resent-)?bcc\s*:|return-path\s*:", field)]
    text = b"".join(kept).removesuffix(b"\r\n") + (empty or b"\r\n\r\n") + body
    return text if text.endswith(b"\r\n") else text + b"\r\n"


# Ways in: each hands over {recipient: message}.

def by_sendmail(daemon, messages, convert=bytes):
    def send(item):
        done = daemon.sendmail("-i", "-f", SENDER, item[0],
                               data=convert(item[1]))
        assert (done.returncode, done.stderr) == (0, b"")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(send, messages.items()))


def by_sendmail_with_crlf(daemon, messages):
    by_sendmail(daemon, messages, crlf)


def by_smtp(daemon, messages, content):
    text = b"EHLO client.example\r\n" + b"".join(
        f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{to}>\r\n".encode() +
        content(crlf(message)) for to, message in messages.items())
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(str(daemon.socket))
        sock.sendall(text + b"QUIT\r\n")
        with sock.makefile("rb") as file:
            replies = file.read()
    assert replies.count(b"queued as") == len(messages), replies


def by_data(daemon, messages):
    by_smtp(daemon, messages, lambda text: b"DATA\r\n" + (
        b"\r\n" + text).replace(b"\r\n.", b"\r\n..")[2:].removesuffix(
            b"\r\n") + b"\r\n.\r\n")


def by_bdat(daemon, messages):
    by_smtp(daemon, messages, lambda text: b"BDAT 7\r\n" + text[:7] +
            b"BDAT %d LAST\r\n" % len(text[7:]) + text[7:])


# Signatures.

def make_keys():
    """algorithm: (private key for dkim.sign(), the record in the DNS)"""
    private = subprocess.run(
        ["openssl", "genrsa", "-traditional", "1024"], check=True,
        capture_output=True).stdout
    public = subprocess.run(
        ["openssl", "rsa", "-pubout", "-outform", "DER"], input=private,
        check=True, capture_output=True).stdout
    edwards = nacl.signing.SigningKey.generate()
    return {
        b"rsa-sha256": (private, b"k=rsa; p=" + base64.b64encode(public)),
        b"ed25519-sha256": (
            base64.b64encode(bytes(edwards)),
            b"k=ed25519; p=" + base64.b64encode(bytes(edwards.verify_key)))}


def signed(message, algorithm, form, key):
    """With a DKIM-Signature on top."""
    field = dkim.sign(crlf(message), b"test", b"b.example", key,
                      canonicalize=(form, form), signature_algorithm=algorithm)
    return (field + crlf(message)).replace(b"\r\n", b"\n")


@pytest.fixture(scope="module")
def variants():
    """Each message as it is and signed in four ways, and the records."""
    keys = make_keys()
    made = {f"{name}.none": message for name, message in MESSAGES.items()}
    for algorithm, (key, _) in keys.items():
        for form in b"relaxed", b"simple":
            kind = f"{form.decode()}.{algorithm.decode()}"
            for name in MESSAGES.keys() - NOT_SIGNED:
                made[f"{name}.{kind}"] = signed(MESSAGES[name], algorithm,
                                                form, key)
    return made, {algorithm.decode(): record
                  for algorithm, (_, record) in keys.items()}


# Obsolete, and 8-bit without SMTPUTF8.
@pytest.mark.defective_input(
    "to: InvalidHeaderDefect", "to: UndecodableBytesDefect",
    "cc: ObsoleteHeaderDefect", "MissingHeaderBodySeparatorDefect")
@pytest.mark.parametrize("chunking", [True, False])
@pytest.mark.parametrize("hand_over", [by_sendmail, by_sendmail_with_crlf,
                                       by_data, by_bdat])
def test_a_valid_message_is_not_touched(authority, make_daemon, variants,
                                        hand_over, chunking):
    made, records = variants
    messages = {f"{name}@d.example": message for name, message in made.items()}
    extensions = [one for one in EXTENSIONS if chunking or one != "CHUNKING"]
    with Relayhost(authority, tls="none", extensions=extensions) as host:
        daemon = make_daemon(host=host, trace=False, relay={
            "tls": "none", "user": None, "password_file": None}).start()
        hand_over(daemon, messages)
        arrived = {message.recipients[0]: message.data
                   for message in host.wait_messages(len(messages))}
    assert arrived.keys() == messages.keys()
    for name, data in arrived.items():
        rest = re.sub(rb"\AReceived: from .*\r\n(?:\t.*\r\n)+", b"", data)
        assert rest == expected(messages[name]), name
        kind = name.removesuffix("@d.example").split(".", 1)[1]
        if kind != "none":
            record = records[kind.split(".")[1]]
            assert dkim.verify(data, dnsfunc=lambda *_, **__: record), name
