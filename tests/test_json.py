"""JSON for programs: the log (badinput L3) and what relayctl prints are what
schema/ says, whatever the input."""

import json
import pathlib
import signal
import socket

import jsonschema
import pytest

from harness import TIMEOUT

SCHEMA = pathlib.Path(__file__).parent.parent / "schema"
TEXT = b"From: me@example.com\nSubject: disk\n\nfull\n"

# Invalid UTF-8, U+2028, quotes, NUL, an escape sequence.
HOSTILE = [b"\xff\xfe\x80", "a\u2028b\u2029".encode(), b'"},{"x":"', b"\\",
           b"a\0b", b"\x1b]0;x\x07", b"\xed\xa0\x80", "é".encode()]


def check(name, value):
    schema = json.loads((SCHEMA / f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(value, schema,
                        jsonschema.Draft202012Validator)
    return value


def ask(daemon, *arguments, status=0):
    result = daemon.relayctl(*arguments, "--json")
    assert result.returncode == status, result.stdout
    return check(arguments[0], json.loads(result.stdout))


# The log.

def converse(daemon, *lines):
    with socket.create_connection(("127.0.0.1", daemon.port),
                                  TIMEOUT) as sock:
        sock.sendall(b"".join(line + b"\r\n" for line in (*lines, b"QUIT")))
        with sock.makefile("rb") as file:
            file.read()


@pytest.fixture
def json_daemon(make_daemon):
    return make_daemon(top={"log_format": "json",
                            "log_level": "debug"}).start()


def lines(daemon):
    return [check("logline", json.loads(line)) for line in daemon.log]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_L3_a_line_is_valid_json(json_daemon, host, text):
    host.fault("RCPT", "450 4.2.1 x" + text.decode("latin-1"))
    converse(json_daemon, b"EHLO " + text, b"EHLO x", b"MAIL FROM:<%s>" % text,
             b"VRFY " + text)
    assert json_daemon.sendmail("root", data=TEXT).returncode == 0
    json_daemon.wait_log("status=deferred")
    json_daemon.stop()
    told = lines(json_daemon)
    assert any("status=deferred" in line["message"] and
               line["program"] == "relayd/smtp" for line in told)
    assert {line["pid"] for line in told} == {told[0]["pid"]}


def test_L3_a_long_line_stays_one_and_valid(json_daemon):
    converse(json_daemon, b"EHLO " + b'"\\' * 240)
    json_daemon.stop()
    assert max(map(len, json_daemon.log)) < 2400
    assert any('"\\' in line["message"] or "\\x" in line["message"]
               for line in lines(json_daemon))


def test_only_the_line_of_a_crash_has_no_time(json_daemon):
    json_daemon.process.send_signal(signal.SIGABRT)
    json_daemon.expect_killed(signal.SIGABRT)
    *others, last = lines(json_daemon)
    assert all("time" in line for line in others)
    assert "time" not in last and last["level"] == "error"
    assert last["message"].startswith("ended by SIGABRT: relayd ")


def test_the_level_is_a_field_and_not_in_the_text(make_daemon, host):
    daemon = make_daemon(top={"log_format": "json"}).start()
    (daemon.spool / "history").mkdir()
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    daemon.wait_log("status=sent")
    line, = (line for line in lines(daemon) if "history" in line["message"])
    assert line["level"] == "warning"
    assert not line["message"].startswith("warning")


# What relayctl prints.

@pytest.fixture
def mixed(daemon, host):
    """A message of each kind in the queue, and in the history."""
    host.fault("RCPT", "450 4.2.1 la\u2028\"ter", match="slow")
    host.fault("RCPT", "550 5.1.1 no", match="bad")
    for count, (name, status) in enumerate(
            [("root", "sent"), ("slow@example.org", "deferred"),
             ("bad@example.org", "bounced")], 1):
        assert daemon.sendmail("-N", "never", name,
                               data=TEXT).returncode == 0
        daemon.wait_log(f"status={status}")
    return daemon


def test_queue_has_its_schema(mixed):
    assert ask(mixed, "queue")[0]["state"] == "waiting"
    assert mixed.relayctl("hold", "--all").returncode == 0
    assert ask(mixed, "queue")[0]["state"] == "hold"


def test_failed_messages_have_the_schema_too(mixed):
    mixed.wait_log("kept in failed/")
    failed, = ask(mixed, "queue", "--failed")
    assert failed["state"] == "failed"
    assert failed["recipients"][0]["state"] == "failed"
    (mixed.spool / "failed" / "00000000000a").write_bytes(b"no message")
    states = {one["state"] for one in ask(mixed, "queue", "--failed")}
    assert states == {"failed", "damaged"}


def test_log_has_its_schema(mixed):
    assert {one["status"] for one in ask(mixed, "log")} == {
        "sent", "deferred", "bounced"}


def test_status_has_its_schema(mixed):
    assert ask(mixed, "status", status=1)["queue"]["failed"] == 1
    mixed.stop()
    assert ask(mixed, "status", status=1)["running"] is False


def test_status_of_a_paused_relay_has_the_schema(daemon, host):
    host.fault("GREETING", "421 4.3.2 later", then="close")
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    daemon.wait_log("status=deferred")
    relay, = ask(daemon, "status", status=1)["relays"]
    assert relay["state"] == "paused" and relay["last_error"]["code"] == 421


@pytest.mark.parametrize("name", ["queue", "log", "status", "logline"])
def test_a_schema_refuses_what_it_does_not_name(name):
    entry = {"x": 1}
    with pytest.raises(jsonschema.ValidationError):
        check(name, [entry] if name in ("queue", "log") else entry)
