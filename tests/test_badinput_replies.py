"""A relayhost that misbehaves once there is mail to it: replies to MAIL, RCPT,
DATA and BDAT, to the message, and after it.  A message is sent when its own
end was answered with 2xx, and only then; whatever else happens it waits or
goes back to its sender."""

import email
import json
import re
import sys

import pytest

from harness import SANITIZED, peak
from misbehaviour import deaf

SENDER = "a@example.net"
SOON = {"timeout": "1s"}
TEXT = b"Subject: x\n\nbody\n"
LATER = r"dsn=4\.\d\.\d, status=deferred \("
UNKNOWN = (LATER + r"dup=possible, lost connection after end of data, may be "
           "a duplicate")


def send(daemon, *to, sender=SENDER, text=TEXT):
    done = daemon.sendmail("-f", sender, *(to or ("r@example.org",)),
                           data=text)
    assert done.returncode == 0, done


def flush(daemon):
    assert daemon.relayctl("flush").returncode == 0


def be_patient(daemon):
    """With the relayhost, from now on."""
    daemon.relay["timeout"] = None
    daemon.write_config()
    assert daemon.relayctl("reload").returncode == 0


def waiting(daemon):
    """The one message in the queue."""
    listed, = json.loads(daemon.relayctl("queue", "--json").stdout)
    return listed


def assert_attempts(daemon, count):
    """It is on the disk soon after it is in the log."""
    for _ in range(500):
        if waiting(daemon)["attempts"] == count:
            return
    raise AssertionError(daemon.log[-20:])


def assert_over(daemon, count=1):
    """So many have left, nothing is left of them, and all is well."""
    daemon.wait_log("removed", count)
    assert daemon.queued() == []
    assert daemon.relayctl("status").returncode == 0


def message_id(message):
    return email.message_from_bytes(message.data)["Message-ID"]


def row(name, words, *faults, attempts=1, **options):
    """faults: arguments of Relayhost.fault(); options: relay keys; or
    extensions, which the relayhost offers."""
    return pytest.param(words, faults, attempts, options, id=name)


def at(point, reply=None, **options):
    return point, reply, options


DEFERRED = [
    row("I34-421", "paused .*ended the session at MAIL: 421 4.3.2 closing",
        at("MAIL", "421 4.3.2 closing", then="close"), attempts=0),
    row("I34-451", LATER + "451 4.3.0 later",
        at("MAIL", "451 4.3.0 later")),
    row("I34-452", LATER + "452 4.3.1 disk full",
        at("MAIL", "452 4.3.1 disk full")),
    row("I40-greylisted", LATER + "450 4.7.1 greylisted",
        at("RCPT", "450 4.7.1 greylisted, come back later")),
    row("I41-fewer-replies", LATER + "timed out while sending RCPT",
        at("RCPT", then="stall", times=1), **SOON),
    row("I42-more-replies", LATER + "out of step: DATA was answered by: 250",
        at("RCPT", "250 2.1.5 ok\r\n250 2.1.5 ok")),
    row("I42-lock-step", "paused .*said without being asked: 250 2.1.5 again",
        at("MAIL", "250 2.1.0 ok\r\n250 2.1.5 again"), extensions=["SIZE"],
        attempts=0),
    row("I44-250", LATER + "out of step: DATA was answered by: 250 2.0.0 ok",
        at("DATA", "250 2.0.0 ok")),
    row("I44-none", LATER + "timed out while sending DATA",
        at("DATA", then="stall"), **SOON),
    row("I44-451", LATER + "451 4.3.0 no", at("DATA", "451 4.3.0 no")),
    row("I44-421", "paused .*ended the session at DATA: 421 4.3.2 bye",
        at("DATA", "421 4.3.2 bye", then="close"), attempts=0),
    row("I48-421", LATER + "421 4.3.2 bye", at("END", "421 4.3.2 bye",
                                               then="close")),
    row("I48-451", LATER + "451 4.3.0 no", at("END", "451 4.3.0 no")),
    row("I51-reply-before-the-content",
        LATER + "out of step: message was answered by: 250 2.0.0 taken",
        at("DATA", "354 go\r\n250 2.0.0 taken")),
    row("I9-MAIL", "paused .*no SMTP reply to MAIL: 2a0 x",
        at("MAIL", "2a0 x"), attempts=0),
    row("I10-MAIL", "paused .*no SMTP reply to MAIL: 250-x",
        at("MAIL", b"250-x\r\n" * 1000, then="stall"), attempts=0),
    row("I11-RCPT", "paused .*no SMTP reply to RCPT: 251 b",
        at("RCPT", "250-a\r\n251 b", then="stall"), attempts=0),
]


@pytest.mark.parametrize("words, faults, attempts, options", DEFERRED)
def test_the_message_waits_and_is_sent_once(make_daemon, host, words, faults,
                                            attempts, options):
    options = dict(options)
    host.extensions = options.pop("extensions", ["PIPELINING"])
    daemon = make_daemon(relay=options).start()
    for point, reply, more in faults:
        host.fault(point, reply, **more)
    send(daemon)
    daemon.wait_log(words)
    daemon.wait_log(r"to=<r@example.org>, .*status=deferred")
    assert_attempts(daemon, attempts)
    assert host.messages == []
    host.mend()
    if options:
        be_patient(daemon)
    flush(daemon)
    host.wait_messages(1)
    assert_over(daemon)
    assert len(host.messages) == 1
    assert not any("bounced" in line for line in daemon.log)


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("reply", [b"", b"250 2.0.0 o"],
                         ids=["I48-no-reply", "I24-half-a-reply"])
def test_without_a_whole_reply_it_may_have_been_taken(daemon, host, reply,
                                                      then):
    host.fault("END", reply, then=then, times=1, keep=True)
    send(daemon)
    daemon.wait_log(UNKNOWN)
    assert_attempts(daemon, 1)
    flush(daemon)
    first, second = host.wait_messages(2)
    assert message_id(first) == message_id(second)
    assert first.body == second.body
    assert_over(daemon)


def test_I24_a_whole_reply_counts_whatever_follows(daemon, host):
    host.fault("END", "250 2.0.0 ok", then="reset", times=1, keep=True)
    send(daemon)
    assert_over(daemon)
    assert len(host.messages) == 1


BOUNCED = [
    ("I36-MAIL", "5.3.4", [at("MAIL", "552 5.3.4 too big", match=SENDER)]),
    ("I36-END", "5.3.4", [at("END", "552 5.3.4 too big", match=SENDER)]),
    ("I44-554", "5.6.0", [at("DATA", "554 5.6.0 no", times=1)]),
    ("I38-a-lone-dot", "5.1.1",
     [at("RCPT", "550 5.1.1 nobody", match="example.org"),
      at("DATA", "354 go", times=1)]),
    ("I38-503", "5.1.1",
     [at("RCPT", "550 5.1.1 nobody", match="example.org"),
      at("DATA", "503 5.5.1 no", times=1)]),
    ("I38-554", "5.1.1", [at("RCPT", "550 5.1.1 nobody",
                             match="example.org")]),
]


@pytest.mark.parametrize("status, faults", [one[1:] for one in BOUNCED],
                         ids=[one[0] for one in BOUNCED])
def test_the_message_goes_back(daemon, host, status, faults):
    host.extensions = ["PIPELINING"]
    for point, reply, more in faults:
        host.fault(point, reply, **more)
    send(daemon)
    daemon.wait_log(rf"to=<r@example.org>, .*dsn={status}, status=bounced")
    report, = host.wait_messages(1)
    assert (report.sender, report.recipients) == ("", [SENDER])
    assert f"Status: {status}".encode() in report.body
    assert_over(daemon, 2)
    if faults[-1][1] == "354 go":
        assert b"DATA\r\n.\r\n" in host.sessions[0].plain


def test_I37_each_recipient_has_its_own_reply(daemon, host):
    host.fault("RCPT", "550 5.1.1 nobody", match="r2@")
    busy = host.fault("RCPT", "450 4.2.1 busy", match="r3@")
    host.fault("RCPT", "251 2.1.5 forwarded", match="r4@")
    host.fault("RCPT", "252 2.1.5 perhaps", match="r5@")
    to = [f"r{n}@example.org" for n in range(1, 6)]
    send(daemon, *to)
    message, = host.wait_messages(1)
    assert message.recipients == [to[0], to[3], to[4]]
    for n, state in (1, "sent"), (2, "bounced"), (3, "deferred"), (4, "sent"):
        daemon.wait_log(rf"to=<r{n}@example.org>, .*status={state}")
    daemon.stop()   # what has been told is marked on the disk
    daemon.start()
    host.mend(busy)
    flush(daemon)
    first, *others = host.wait_messages(3)
    assert first.recipients == [to[0], to[3], to[4]]
    assert sorted(one.recipients for one in others) == [[SENDER], [to[2]]]
    assert_over(daemon, 2)


@pytest.mark.parametrize("reply", ["452 4.5.3 too many", "552 5.5.3 too many",
                                   "452 too many"])
def test_I39_too_many_recipients_take_the_next_transaction(daemon, host,
                                                           reply):
    host.fault("RCPT", reply, match="r[345]@", times=3)
    to = [f"r{n}@example.org" for n in range(1, 6)]
    send(daemon, *to)
    first, second = host.wait_messages(2)
    assert first.recipients == to[:2] and second.recipients == to[2:]
    assert_over(daemon)
    assert not any("deferred" in line or "bounced" in line
                   for line in daemon.log)


HOSTILE = (b"\x1b[31m%n%s \xc3\xa9\xff\0 =?utf-8?q?Bcc?= status=sent (250 "
           b"Action: delivered ")


def hostile_reply(code):
    lines = [code + b"-" + HOSTILE] + 14 * [code + b"-" + b"x" * 4000]
    return b"\r\n".join(lines) + b"\r\n" + code + b" end\r\n"


def assert_clean_log(daemon):
    for line in daemon.log:
        assert line.isascii() and line.isprintable()
        assert len(line) <= 1024 + 80


def test_I43_hostile_text_is_kept_short_and_escaped(make_daemon, host):
    daemon = make_daemon().start()
    fault = host.fault("RCPT", hostile_reply(b"450"))
    send(daemon)
    daemon.wait_log(LATER + r"450 \\x1b\[31m%n%s \\xc3\\xa9\\xff "
                    r"=\?utf-8\?q\?Bcc\?= status\\x3dsent \(250 Action")
    assert_clean_log(daemon)
    for output in (daemon.relayctl("queue").stdout,
                   daemon.relayctl("queue", "--json").stdout):
        assert output.isascii() and output.replace("\n", "").isprintable()
    assert len(waiting(daemon)["reason"]) <= 1100
    daemon.stop()
    daemon.start()
    host.mend(fault)
    flush(daemon)
    message, = host.wait_messages(1)
    assert message.recipients == ["r@example.org"]
    assert_over(daemon)


def test_I43_hostile_text_is_data_to_a_report(daemon, host):
    host.fault("RCPT", hostile_reply(b"550"), match="example.org")
    send(daemon)
    report, = host.wait_messages(1)
    assert report.data.isascii()
    assert not re.search(rb"[\0\x1b]", report.data)
    assert max(map(len, report.data.split(b"\r\n"))) <= 998
    status = email.message_from_bytes(report.data).get_payload()[1]
    _, recipient = status.get_payload()
    assert recipient["Action"] == "failed"
    assert recipient.get_all("Action") == ["failed"]
    assert recipient["Diagnostic-Code"].startswith("smtp; 550")
    assert_clean_log(daemon)


LARGE = TEXT + (1 << 18) * (b"x" * 63 + b"\n")    # more than buffers hold


@pytest.mark.parametrize("then, words", [
    (deaf, "timed out while sending"), ("close", "lost connection while")],
    ids=["I47-reads-no-more", "I24-closes"])
def test_within_the_content_nothing_was_taken(make_daemon, host, then, words):
    daemon = make_daemon(relay=SOON, trace=False).start()
    host.fault("DATA", "354 go", then=then, times=1)
    host.extensions = ["PIPELINING"]
    send(daemon, text=LARGE)
    daemon.wait_log(LATER + words)
    if not SANITIZED:
        assert peak(daemon) < 32
    be_patient(daemon)
    flush(daemon)
    host.wait_messages(1)
    assert_over(daemon)


@pytest.mark.parametrize("reply", [
    "250 2.0.0 ok\r\n550 5.0.0 oops", "250 2.0.0 ok\r\n250 2.0.0 ok",
    "250 2.0.0 ok\r\ngarbage"], ids=["550", "250", "garbage"])
def test_I50_a_surplus_reply_judges_no_message(make_daemon, host, reply):
    """It ends the connection, whether or not the next message is on it."""
    daemon = make_daemon(relay={"connections": 1}).start()
    host.stop()
    for number in range(3):
        send(daemon, sender=f"s{number}@example.net")
    daemon.wait_log("status=deferred", 3)
    host.fault("END", reply, match="s0@", times=1, keep=True)
    host.start()
    flush(daemon)
    host.wait_messages(3)
    daemon.wait(lambda: len(daemon.queued()) == 0 or any(
        "out of step" in line for line in daemon.log))
    host.wait(lambda: host.sessions[-1].number > 0, "another connection")
    assert not any("bounced" in line for line in daemon.log)
    assert sorted(one.sender for one in host.messages) == \
        [f"s{number}@example.net" for number in range(3)]
    assert host.sessions[0].commands[-1] != "QUIT"


@pytest.mark.parametrize("reply, then", [
    (None, "stall"), ("500 5.5.1 what?", "stall"), (None, "close"),
    (None, "reset"), ("421 4.3.2 bye", "close")],
    ids=["silence", "no-221", "close", "reset", "421"])
def test_I52_how_it_parts_is_no_matter(make_daemon, host, reply, then):
    """The messages are sent, and no fault is told."""
    daemon = make_daemon(relay={"messages_per_connection": 1}).start()
    parting = host.fault("QUIT", reply, then=then)
    send(daemon)
    host.wait_hits(parting)
    host.mend()
    send(daemon)
    host.wait_messages(2)
    assert_over(daemon, 2)
    assert not any("paused" in line or "deferred" in line
                   for line in daemon.log)


@pytest.mark.parametrize("words", [
    b"421 4.3.2 idle for too long\r\n", b"250 2.0.0 ok\r\n", b"\x1b\0", None],
    ids=["421", "250", "garbage", "FIN"])
def test_I53_an_idle_connection_that_ends_costs_nothing(daemon, host, words):
    send(daemon)
    host.wait_messages(1)
    daemon.wait_log("removed")
    session, = host.sessions
    if words is None:
        host.disconnect()
    else:
        session.channel.write(words)
    host.wait_ended()
    send(daemon)
    host.wait_messages(2)
    assert_over(daemon, 2)
    assert len(host.sessions) == 2 and "QUIT" not in session.commands
    assert not any("paused" in line or "deferred" in line
                   for line in daemon.log)


@pytest.fixture
def burst(make_daemon, host):
    """Messages that go out in chunks, as soon as one is confirmed together;
    before: called before the first goes."""
    def sender(count, before):
        host.extensions = ["PIPELINING", "CHUNKING"]
        host.stop()
        daemon = make_daemon(relay={"connections": 1}).start()
        for number in range(count):
            send(daemon, f"r{number}@example.org",
                 sender=f"s{number}@example.net")
        daemon.wait_log("status=deferred", count)
        before()
        host.start()
        flush(daemon)
        return daemon
    return sender


def senders(host):
    return sorted(message.sender for message in host.messages
                  if message.sender)


@pytest.mark.parametrize("point, match", [("MAIL", "s2@"), ("RCPT", "r2@")])
def test_I54_a_refused_message_among_chunks(burst, host, point, match):
    daemon = burst(6, lambda: host.fault(point, "550 5.1.0 no", match=match))
    host.wait_messages(6)   # one of them is the report
    assert senders(host) == [f"s{n}@example.net" for n in (0, 1, 3, 4, 5)]
    daemon.wait_log("status=bounced")
    assert_over(daemon, 7)


def test_I54_a_connection_lost_among_chunks(burst, host):
    def break_it():
        host.fault("END", "250 2.0.0 ok", match="s4@", then="close", times=1,
                   keep=True)
    daemon = burst(8, break_it)
    daemon.wait_log("dup=possible")
    flush(daemon)
    daemon.wait_log("removed", 8)
    unknown = sum("dup=possible" in line for line in daemon.log)
    arrived = senders(host)
    assert sorted(set(arrived)) == [f"s{n}@example.net" for n in range(8)]
    assert len(arrived) <= 8 + unknown
    assert [one for one in arrived if one < "s5"] == \
        [f"s{n}@example.net" for n in range(5)]
    assert not any("bounced" in line for line in daemon.log)


@pytest.mark.parametrize("reply", ["502 5.5.1 no BDAT", "500 5.5.1 what?"])
def test_I55_BDAT_that_is_offered_and_not_there(daemon, host, reply):
    host.fault("BDAT", reply)
    send(daemon)
    send(daemon)
    assert [one.verb for one in host.wait_messages(2)] == ["DATA", "DATA"]
    assert_over(daemon, 2)
    assert not any("deferred" in line or "bounced" in line
                   for line in daemon.log)


@pytest.mark.parametrize("reply", ["502 5.5.1 no BDAT", "500 5.5.1 what?"])
def test_i55_a_chunk_that_is_taken_for_commands(make_daemon, host, reply):
    """The relayhost answers each of its lines: that connection is of no more
    use, and from the next one on mail flows by DATA."""
    daemon = make_daemon(relay={"connections": 1}).start()
    host.fault("BDAT", "\r\n".join([reply] * 9))
    send(daemon)
    host.wait_messages(1)
    for _ in range(3):
        send(daemon)
    assert [one.verb for one in host.wait_messages(4)] == ["DATA"] * 4
    assert_over(daemon, 4)
    tried = [session for session in host.sessions
             if any(one.startswith("BDAT") for one in session.commands)]
    assert tried == host.sessions[:1]
    told = [line for line in daemon.log if "has no BDAT; DATA is used" in line]
    assert len(told) == 1
    assert not any("bounced" in line for line in daemon.log)


def test_I56_wishes_for_reports_end_where_DSN_is_not_offered(daemon, host):
    """The sender hears how far it got (RFC 3461, section 5.2.2)."""
    done = daemon.sendmail("-f", SENDER, "-N", "success", "-R", "hdrs", "-V",
                           "abc", "r@example.org", data=TEXT)
    assert done.returncode == 0
    message, report = host.wait_messages(2)
    assert not re.search("RET|ENVID|NOTIFY", message.mail_parameters)
    assert report.sender == "" and b"Action: relayed" in report.body
    assert_over(daemon, 2)
    for session in host.sessions:
        assert b"NOTIFY" not in session.plain and b"ENVID" not in session.plain


def test_I57_one_message_a_connection(make_daemon, host):
    daemon = make_daemon(relay={"connections": 1}).start()
    host.fault("END", "250 2.0.0 ok\r\n421 4.3.2 one is enough", then="close",
               keep=True)
    for number in range(12):
        send(daemon, sender=f"s{number}@example.net")
    host.wait_messages(12)
    assert_over(daemon, 12)
    assert len(host.messages) == 12
    assert not any("paused" in line or "deferred" in line
                   for line in daemon.log)


@pytest.mark.parametrize("reply", ["454 4.7.0 Throttling failure: Maximum "
                                   "sending rate exceeded"])
def test_I34_a_throttled_message_costs_no_try(daemon, host, reply):
    """It goes as soon as the relayhost takes it, by itself."""
    host.fault("MAIL", reply, times=2)
    send(daemon)
    host.wait_messages(1)
    assert_over(daemon)
    assert not any("deferred" in line for line in daemon.log)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
