"""What can't be delivered: its sender is told once, in a report that a strict
parser reads, and nothing loops, floods or is lost.  J1 to J14 are numbers of
the catalogue of bad input."""

import collections
import email
import email.policy
import os
import re
import smtplib
import sys
import time

import pytest

from harness import crlf
from relayhost import EXTENSIONS

STRICT = email.policy.SMTP.clone(raise_on_defect=True)
SENDER = "me@example.net"
REFUSED = "550 5.1.1 no such user"


class Report:
    """A report as the relayhost got it, read strictly."""

    def __init__(self, message):
        assert message.sender == ""
        self.recipients = message.recipients
        self.header = parsed = email.message_from_bytes(message.data,
                                                        policy=STRICT)
        for part in parsed.walk():
            assert not part.defects
            for _, value in part.items():
                assert not getattr(value, "defects", ())
        assert parsed.get_content_type() == "multipart/report"
        assert parsed.get_param("report-type") == "delivery-status"
        assert parsed["Auto-Submitted"] == "auto-replied"
        assert "MAILER-DAEMON" in str(parsed["From"]) or \
            "Mail Delivery System" in str(parsed["From"])
        human, status, self.returned = parsed.iter_parts()
        self.text = human.get_content()
        assert status.get_content_type() == "message/delivery-status"
        # Python takes the empty line behind the last block for one more.
        self.message, *self.blocks = [block for block in status.get_payload()
                                      if block.keys()]

    def of(self, address):
        found, = [block for block in self.blocks
                  if block["Final-Recipient"] == f"rfc822; {address}"]
        return found

    @property
    def actions(self):
        return [(block["Final-Recipient"].partition("; ")[2], block["Action"],
                 block["Status"]) for block in self.blocks]


def reports(host):
    return [Report(message) for message in host.messages
            if message.sender == ""]


def send(daemon, *recipients, sender=SENDER, options=(), data=b"Subject: x\n\nx\n"):
    before = sum("(queue active)" in line for line in daemon.log)
    done = daemon.sendmail("-f", sender, *options, *recipients, data=data)
    assert done.returncode == 0, done
    return daemon.wait_log(r"qmgr\[\d+\]: (\w+): from=", before + 1)[1]


def send_many(daemon, envelopes):
    """Messages by SMTP: a list of (sender, recipient)."""
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        for sender, recipient in envelopes:
            client.sendmail(sender, [recipient], "Subject: x\r\n\r\nx\r\n")


def mails(host):
    """MAIL commands of all sessions."""
    return sum(line.startswith("MAIL ") for session in host.sessions
               for line in session.commands)


def kept(daemon, why, count=1):
    daemon.wait_log(r"error: \w+: kept in failed/: .*" + why, count)


# Reports.

def test_one_report_for_all_who_failed(daemon, host):
    host.fault("RCPT", "550 5.1.1 no such user", match="one@")
    host.fault("RCPT", "552 5.2.2 <two> is over quota", match="two@")
    name = send(daemon, "one@example.org", "good@example.org",
                "two@example.org",
                data=b"Subject: the disk\nMessage-ID: <1@web1>\n\nfull\n")
    daemon.wait_log(f"{name}: removed")
    new = daemon.wait_log(rf"relayd/bounce\[\d+\]: {name}: sender "
                          r"non-delivery notification: (\w+)$")[1]
    daemon.wait_log(f"{new}: removed")
    report, = reports(host)
    assert report.recipients == [SENDER]
    assert report.header["To"] == SENDER
    assert report.header["Subject"] == "Undelivered mail: the disk"
    assert report.header["References"] == "<1@web1>"
    assert report.header["In-Reply-To"] == "<1@web1>"
    assert report.message["Reporting-MTA"] == "dns; web1.example.com"
    assert report.message["Arrival-Date"]
    assert report.actions == [("one@example.org", "failed", "5.1.1"),
                              ("two@example.org", "failed", "5.2.2")]
    assert report.of("two@example.org")["Diagnostic-Code"] == \
        "smtp; 552 5.2.2 <two> is over quota"
    assert report.of("one@example.org")["Remote-MTA"] == "dns; localhost"
    assert "no such user" in report.text and "over quota" in report.text
    assert "good@example.org" not in report.text
    assert report.returned.get_content_type() == "text/rfc822-headers"
    assert "Message-ID: <1@web1>" in report.returned.get_content()
    assert "full" not in report.returned.get_content()
    assert daemon.queued() == []


def test_what_was_refused_first_is_known_after_a_restart(daemon, host):
    """Its report waits until the others are done, with its own words."""
    host.fault("RCPT", "550 5.1.1 no such user", match="never@")
    later = host.fault("RCPT", "450 4.2.1 busy", match="later@")
    send(daemon, "never@example.org", "later@example.org",
         options=("-V", "an envelope"))
    daemon.wait_log("to=<later@example.org>.*status=deferred")
    daemon.kill()
    daemon.start()
    host.mend(later)
    assert daemon.relayctl("flush").returncode == 0
    host.wait_messages(2)
    report, = reports(host)
    assert report.actions == [("never@example.org", "failed", "5.1.1")]
    assert report.message["Original-Envelope-Id"] == "an envelope"
    assert "550 5.1.1" in report.of("never@example.org")["Diagnostic-Code"]


@pytest.mark.parametrize("size, kind", [
    (10, "message/rfc822"), (3000, "message/rfc822"),
    (60_000, "text/rfc822-headers")])
def test_ret_full_returns_what_there_is_room_for(make_daemon, host, size,
                                                 kind):
    host.fault("RCPT", REFUSED, match="bad@")
    daemon = make_daemon(top={"message_size_limit": "64K"}).start()
    body = (b"x" * 70 + b"\n") * (size // 71) + "grüß\n".encode()
    send(daemon, "bad@example.org", options=("-R", "full"),
         data=b"Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; "
         b"charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n" + body)
    host.wait_messages(1)
    report, = reports(host)
    assert report.returned.get_content_type() == kind
    if kind == "message/rfc822":
        inner, = report.returned.iter_parts()
        assert inner.get_content().encode() == crlf(body)


def test_orcpt_and_alias(make_daemon, host):
    host.fault("RCPT", REFUSED, match="admin@")
    daemon = make_daemon(aliases="root: admin@example.org\n").start()
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        client.ehlo()
        client.mail(SENDER, ["ENVID=QQ+2B1"])
        client.rcpt("root", ["ORCPT=rfc822;root@web1"])
        assert client.data(b"Subject: x\r\n\r\nx\r\n")[0] == 250
    host.wait_messages(1)
    report, = reports(host)
    block = report.of("admin@example.org")
    assert block["Original-Recipient"] == "rfc822;root@web1"
    assert report.message["Original-Envelope-Id"] == "QQ+1"
    assert '<admin@example.org> (from "root")' in report.text


# Loops.

@pytest.fixture
def refusing(make_daemon, host):
    """Every recipient is refused; postmaster is another than the sender."""
    host.fault("RCPT", REFUSED)
    return make_daemon(top={"postmaster": "boss@example.com"}).start()


def test_J1_the_null_senders_message_goes_to_postmaster(make_daemon, host):
    host.fault("RCPT", REFUSED, match="bad@")
    daemon = make_daemon().start()
    name = send(daemon, "bad@example.org", sender="",
                data=b"Subject: x\n\nthe text\n")
    daemon.wait_log(f"{name}: postmaster non-delivery notification: ")
    host.wait_messages(1)
    report, = reports(host)
    assert report.recipients == ["you@example.com"]     # root's
    inner, = report.returned.iter_parts()
    assert inner.get_content() == "the text\r\n"
    daemon.wait_log("removed", 2)
    assert daemon.queued() == []


def test_J2_postmaster_is_told_once(refusing, host):
    send(refusing, "bad@example.org", sender="")
    kept(refusing, "it is the copy for postmaster")
    assert mails(host) == 2 and host.messages == []
    assert len(refusing.queued()) == len(refusing.queued("failed")) == 1


def test_J3_a_bounce_is_not_bounced(refusing, host):
    """The message, its bounce, the copy for postmaster, and no more."""
    name = send(refusing, "b@example.org")
    kept(refusing, "it is the copy for postmaster")
    refusing.wait_log(f"{name}: removed")
    assert mails(host) == 3
    assert len(refusing.queued()) == len(refusing.queued("failed")) == 1


def test_J3_postmaster_is_the_sender(make_daemon, host):
    host.fault("RCPT", REFUSED)
    daemon = make_daemon(top={"postmaster": SENDER}).start()
    send(daemon, "b@example.org")
    kept(daemon, "it is to postmaster, from the null sender")
    assert mails(host) == 2
    assert len(daemon.queued()) == len(daemon.queued("failed")) == 1


def test_J4_root_whose_alias_is_gone(make_daemon, host):
    host.fault("RCPT", REFUSED, match="bad@|gone@")
    daemon = make_daemon(
        aliases="root: gone@example.org\n", top={
            "origin": "web1.example.com", "from": "root@web1.example.com",
            "postmaster": "boss@example.com"}).start()
    send(daemon, "bad@example.org", sender="root")
    message, = host.wait_messages(1)
    assert message.recipients == ["boss@example.com"]
    daemon.wait_log(r"to=<gone@example.org>, orig_to=<root@web1.*bounced")
    daemon.wait_log("removed", 3)
    assert daemon.queued() == [] and mails(host) == 3


def test_J5_a_relayhost_that_refuses_the_null_sender(make_daemon, host):
    host.fault("MAIL", "501 5.1.7 Invalid MAIL FROM address", match="<>")
    host.fault("RCPT", REFUSED, match="bad@")
    daemon = make_daemon().start()
    send(daemon, "bad@example.org")
    kept(daemon, "it is the copy for postmaster")
    assert mails(host) == 3 and host.messages == []


@pytest.mark.parametrize("value, told", [
    ("auto-replied", False), ("Auto-Replied; x=y (vacation)", False),
    ("auto-notified", False), ("auto-generated", True), ("no", True)])
def test_J6_an_automatic_reply_has_no_report(daemon, host, value, told):
    host.fault("RCPT", REFUSED, match="bad@")
    send(daemon, "bad@example.org",
         data=f"Auto-Submitted: {value}\nSubject: x\n\nx\n".encode())
    if told:
        host.wait_messages(1)
        assert len(reports(host)) == 1
    else:
        kept(daemon, "it is an automatic reply")
        assert host.messages == [] and len(daemon.queued("failed")) == 1


@pytest.mark.parametrize("reply", [
    b"550-5.1.1 one\r\n550-5.1.1 --=_0\r\n550 5.1.1 Content-Type: x\r\n",
    b"550 5.1.1 m\xc3\xa4\xff\x01\x00\x7f\r\n",
    b"".join(b"550-5.1.1 %s\r\n" % (b"x" * 3000) for _ in range(20)) +
    b"550 5.1.1 end\r\n",
    b"550\r\n"], ids=["lines", "octets", "60 KiB", "bare"])
def test_J7_whatever_a_relayhost_says(daemon, host, reply):
    host.fault("RCPT", reply, match="bad@")
    send(daemon, "bad@example.org")
    message, = host.wait_messages(1)
    report, = reports(host)
    assert report.of("bad@example.org")["Diagnostic-Code"].startswith("smtp;")
    assert max(map(len, message.data.split(b"\r\n"))) <= 998
    assert message.data.isascii()


@pytest.mark.parametrize("limit, whole", [("50M", True), ("128K", False)])
def test_J9_a_thousand_recipients(make_daemon, host, limit, whole):
    host.fault("RCPT", REFUSED, match="bad")
    daemon = make_daemon(top={"message_size_limit": limit},
                         relay={"recipients_per_message": 1000}).start()
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        client.sendmail(SENDER, ["good@example.org"] + [
            f"bad{number}@example.org" for number in range(999)],
            "Subject: x\r\n\r\nx\r\n")
    host.wait_messages(2)
    report, = reports(host)
    assert (len(report.blocks) == 999) == whole and report.blocks
    assert "and 979 more" in report.text
    assert len(host.messages[1].data) < (1 << 20 if whole else 1 << 16)


# Lifetimes.

QUICK = {"queue_lifetime": "1s", "retry": ["1s"]}


def test_J13_own_failures_bounce(make_daemon, host):
    host.fault("RCPT", "450 4.2.1 busy", match="late@")
    daemon = make_daemon(top=QUICK).start()
    send(daemon, "late@example.org")
    host.wait_messages(1)
    report, = reports(host)
    assert report.actions == [("late@example.org", "failed", "4.4.7")]
    assert "450 4.2.1 busy" in report.of("late@example.org")["Diagnostic-Code"]


def reply(point, words):
    return words, lambda host: host.fault(point, words), {}


def lost(point):
    return "lost|closed", lambda host: host.fault(point, None, then="close"), {}


def certificate(kind, words):
    return words, lambda host: setattr(host, "certificate", kind), {}


AT_FAULT = {
    "DNS": ("does-not-exist", lambda host: None,
            {"host": "does-not-exist.invalid"}),
    "TCP": ("Connection refused", lambda host: host.stop(), {}),
    "silence": ("waiting for the greeting", lambda host: host.fault(
        "GREETING", None, then="stall"), {"connect_timeout": "1s"}),
    "no SMTP": reply("GREETING", "SSH-2.0-x"),
    "greeting lost": lost("GREETING"),
    "greeting 421": reply("GREETING", "421 4.3.2 not now"),
    "greeting 554": reply("GREETING", "554 5.7.1 go away"),
    "EHLO 421": reply("EHLO", "421 4.7.0 busy"),
    "EHLO lost": lost("EHLO"),
    "no STARTTLS": ("STARTTLS", lambda host: setattr(
        host, "tls", "none"), {}),
    "STARTTLS 454": reply("STARTTLS", "454 4.7.0 no TLS"),
    "certificate": certificate("expired", "expired"),
    "TLS 1.0": certificate("old", "TLS"),
    "AUTH 535": reply("AUTH", "535 5.7.8 no"),
    "AUTH 454": reply("AUTH", "454 4.7.0 later"),
    "AUTH lost": lost("AUTH"),
    "no AUTH": ("AUTH", lambda host: setattr(host, "auth", ()), {}),
    "MAIL 421": reply("MAIL", "421 4.3.2 closing"),
    "MAIL 530": reply("MAIL", "530 5.7.0 log in"),
    "quota": reply("MAIL", "550 5.4.5 Daily user sending limit exceeded"),
    "quota at the end": reply("END", "454 Throttling failure: Daily message "
                              "quota exceeded"),
}


@pytest.mark.parametrize("fault", AT_FAULT)
def test_J13_a_relay_that_was_at_fault_all_the_time(make_daemon, host, fault):
    """Nothing is tried too often for it, nothing bounces."""
    words, spoil, relay = AT_FAULT[fault]
    spoil(host)
    daemon = make_daemon(top=QUICK, relay=relay).start()
    name = send(daemon, "one@example.org")
    kept(daemon, "the relayhost was at fault all the time")
    assert sum(" error: " in line for line in daemon.log) == 1
    assert sum("(queue active)" in line for line in daemon.log) == 1
    assert daemon.queued() == daemon.queued("failed") == [name]
    assert re.search(words, daemon.relayctl("queue", "--failed").stdout)


def test_J13_own_failures_bounce_though_the_relay_is_at_fault(make_daemon,
                                                              host):
    """At the end, that is; and not by a restart."""
    host.fault("RCPT", "450 4.2.1 busy", match="late@", times=1)
    host.fault("RCPT", REFUSED, match="late@")
    down = host.fault("GREETING", "421 4.3.2 not now", skip=1)
    daemon = make_daemon(top={**QUICK, "queue_lifetime": "3s"},
                         relay={"messages_per_connection": 1}).start()
    name = send(daemon, "late@example.org")
    daemon.wait_log(f"{name}: .*status=deferred .450 4.2.1")
    daemon.wait_log(f"{name}: .*status=deferred .*421 4.3.2")
    assert daemon.stop() == 0
    daemon.start()
    daemon.wait_log(f"{name}: .*status=bounced .queue_lifetime is over")
    daemon.wait_log(f"{name}: removed")
    host.mend(down)
    assert daemon.relayctl("flush").returncode == 0
    host.wait_messages(1)
    report, = reports(host)
    assert report.actions == [("late@example.org", "failed", "4.4.7")]


def test_J13_bounces_have_a_life_of_their_own(make_daemon, host):
    host.fault("RCPT", REFUSED, match="bad@")
    host.fault("RCPT", "450 4.2.1 busy", match=SENDER)
    daemon = make_daemon(top={"bounce_lifetime": "1s", "retry": ["1s"]})
    daemon.start()
    send(daemon, "bad@example.org")
    kept(daemon, "bounce_lifetime is over")
    assert host.messages == []
    assert len(daemon.queued()) == len(daemon.queued("failed")) == 1


def test_a_sender_that_is_refused_gets_no_bounce(make_daemon, host):
    host.fault("MAIL", "553 5.7.1 <me@example.net>: Sender address rejected: "
               "not owned by user relay", match=SENDER)
    daemon = make_daemon(top=QUICK).start()
    send(daemon, "one@example.org")
    kept(daemon, "the relayhost refuses its sender")
    assert host.messages == [] and len(daemon.queued("failed")) == 1


def test_a_warning_when_it_is_late(make_daemon, host):
    """One, whatever happens; and none to those who don't want it."""
    late = host.fault("RCPT", "450 4.2.1 busy", match="late@")
    daemon = make_daemon(top={"delay_warning": "1s", "retry": ["1s"]}).start()
    name = send(daemon, "late@example.org")
    send(daemon, "late@example.org", sender="quiet@example.net",
         options=("-N", "failure"))
    send(daemon, "late@example.org", sender="")
    new = daemon.wait_log(f"{name}: sender delay notification: (.*)")[1]
    daemon.wait_log(f"{new}: removed")
    message, = host.wait_messages(1)
    report, = reports(host)
    assert report.actions == [("late@example.org", "delayed", "4.2.1")]
    assert report.header["Subject"] == "Delayed mail: x"
    assert report.blocks[0]["Will-Retry-Until"]
    daemon.kill()
    daemon.start()
    hits = late.hits
    host.wait_hits(late, hits + 6)
    assert host.messages == [message]


# What the sender asks for.

@pytest.mark.parametrize("notify", ["never", "success,delay"])
def test_a_sender_who_wants_no_report(daemon, host, notify):
    host.fault("RCPT", REFUSED, match="bad@")
    send(daemon, "bad@example.org", options=("-N", notify))
    kept(daemon, "its sender wants no report")
    assert host.messages == [] and len(daemon.queued("failed")) == 1


@pytest.mark.parametrize("dsn", [False, True])
def test_success_is_told_where_the_relayhost_does_not(daemon, host, dsn):
    if dsn:
        host.extensions = [*EXTENSIONS, "DSN"]
    host.fault("RCPT", "450 4.2.1 busy", match="b@", times=1)
    name = send(daemon, "a@example.org", "b@example.org",
                options=("-N", "success"))
    daemon.wait_log("to=<b@example.org>.*deferred")
    assert daemon.relayctl("flush").returncode == 0
    daemon.wait_log(f"{name}: removed")
    if dsn:
        assert len(host.messages) == 2
        return
    host.wait_messages(3)
    report, = reports(host)
    assert report.actions == [("a@example.org", "relayed", "2.0.0"),
                              ("b@example.org", "relayed", "2.0.0")]
    assert report.header["Subject"] == "Relayed mail: x"
    daemon.wait_log("sender delivery status notification")


# Where it goes.

@pytest.mark.parametrize("top, to", [
    ({"bounce_to": "ops@example.org"}, "ops@example.org"),
    ({"bounce_to": "root"}, "you@example.com"),
    ({"redirect": "stage@example.org"}, "stage@example.org"),
    ({"redirect": "stage@example.org",
      "allow_recipients": ["*@example.com"]}, "stage@example.org")],
    ids=["bounce_to", "alias", "redirect", "allow_recipients"])
def test_where_bounces_go(make_daemon, host, top, to):
    host.fault("RCPT", REFUSED, times=1)
    daemon = make_daemon(top=top).start()
    send(daemon, "bad@example.com")
    message, = host.wait_messages(1)
    assert message.recipients == [to]


def test_nobody_beyond_allow_recipients_is_told(make_daemon, host):
    host.fault("RCPT", REFUSED)
    daemon = make_daemon(top={"allow_recipients": ["*@example.com"]}).start()
    send(daemon, "bad@example.com")
    kept(daemon, "550 5.7.1")
    assert mails(host) == 1 and len(daemon.queued("failed")) == 1


# Floods.

def test_J14_ten_an_hour_to_one_address(make_daemon, host):
    """Messages that are refused: a report each, as far as that goes, and for
    each of the others a line."""
    count, limit = 300, 10
    host.fault("RCPT", REFUSED, match="bad")
    daemon = make_daemon().start()
    send_many(daemon, [(SENDER, f"bad{number}@example.org")
                       for number in range(count)] +
              [("other@example.net", "bad@example.org")])
    kept(daemon, "too many reports to its sender", count - limit)
    host.wait_messages(limit + 1)
    told = collections.Counter(report.recipients[0]
                               for report in reports(host))
    assert told == {SENDER: limit, "other@example.net": 1}
    daemon.wait_log("removed", 2 * (limit + 1))
    failed = daemon.queued("failed")
    assert failed == daemon.queued() and len(failed) == count - limit
    told = [match[1] for line in daemon.log
            if (match := re.search(r"error: (\w+): kept in failed/", line))]
    assert sorted(told) == failed


def test_J14_a_relayhost_that_refuses_everything(refusing, host):
    count = 300
    send_many(refusing, [(f"from{number % 100}@example.net",
                          f"bad{number}@example.org")
                         for number in range(count)])
    # A report each, of which ten had a copy for postmaster.
    kept(refusing, "", count)
    assert 2 * count < mails(host) <= 3 * count and host.messages == []
    assert len(refusing.queued()) == len(refusing.queued("failed")) == count


# The operator.

@pytest.mark.parametrize("place", ["cur", "hold", "failed"])
def test_relayctl_bounce(daemon, host, place):
    if place == "failed":
        host.fault("RCPT", REFUSED, match="slow@")
    else:
        host.fault("RCPT", "450 4.2.1 busy", match="slow@")
    name = send(daemon, "slow@example.org", options=(
        "-N", "failure"), data=b"Auto-Submitted: auto-replied\n\nx\n")
    if place == "failed":
        kept(daemon, "automatic")
    else:
        daemon.wait_log("status=deferred")
    if place == "hold":
        assert daemon.relayctl("hold", name).returncode == 0
    assert daemon.queued(place) == [name]
    done = daemon.relayctl("bounce", name)
    assert (done.returncode, done.stdout) == (0, "1 message bounced\n")
    assert name not in daemon.queued()
    host.wait_messages(1)
    report, = reports(host)
    (address, action, status), = report.actions
    assert (address, action) == ("slow@example.org", "failed")
    code = report.of(address)["Diagnostic-Code"]
    if place == "failed":
        assert status == "5.1.1" and code == f"smtp; {REFUSED}"
    else:
        assert status == "5.0.0" and "450 4.2.1 busy" in code
        daemon.wait_log(rf"bounce\[\d+\]: {name}: to=<slow@example.org>.*"
                        "status=bounced")
    daemon.wait_log("removed", 2)
    assert daemon.queued() == []


def test_relayctl_bounce_of_all_but_what_has_no_sender(daemon, host):
    host.fault("RCPT", "450 4.2.1 busy", match="slow@")
    send(daemon, "slow@example.org")
    name = send(daemon, "slow@example.org", sender="")
    daemon.wait_log("status=deferred", 2)
    done = daemon.relayctl("bounce", "--all")
    assert done.returncode == 1
    assert f"{name}: it has no sender who wants to be told" in done.stdout
    assert "1 message bounced" in done.stdout
    host.wait_messages(1)
    daemon.wait_log("removed", 2)
    assert daemon.queued() == [name]


def test_failed_lifetime(make_daemon, host):
    host.fault("RCPT", REFUSED)
    daemon = make_daemon(top={"failed_lifetime": "2d"}).start()
    old, new = [send(daemon, "bad@example.org", options=("-N", "never"))
                for _ in range(2)]
    kept(daemon, "", 2)
    then = time.time() - 3 * 86400
    os.utime(daemon.spool / "failed" / old, (then, then))
    daemon.stop()
    daemon.start()
    daemon.wait_log(f"{old}: removed from failed/: failed_lifetime is over")
    assert daemon.queued() == [new]


# Crashes and a full disk.

def calls(daemon):
    """[(system call, its number)] of those between the refusal of a message
    and its removal, and those of them that write to the spool."""
    trace, = daemon.traces()
    counts, found, spool, inside = collections.Counter(), [], [], False
    for line in trace.read_text(errors="replace").splitlines():
        match = re.match(r"(?:(\d+) +)?(\w+)\(", line)
        if not match or (match[1] and int(match[1]) != daemon.process.pid):
            continue
        counts[match[2]] += 1
        if inside:
            found.append((match[2], counts[match[2]]))
            if str(daemon.spool) in line:
                spool.append(found[-1])
        if "status=bounced" in line:
            inside = True
        elif re.search(r"qmgr.*: removed", line):
            break
    return found, spool


def bounce_once(daemon, host):
    """A refused message, until its end or the daemon's."""
    host.fault("RCPT", REFUSED, match="bad@")
    name = send(daemon, "bad@example.org")
    daemon.wait_log_or_end(f"{name}:? (removed|the report can't|can't be)|"
                           "the spool can't be written")
    return name


def settle(daemon, host, name):
    """After a restart, if need be, there is no more to do."""
    if not daemon.ended:
        daemon.stop()
    daemon.start()
    daemon.wait(lambda: not daemon.queued())
    told = reports(host)
    assert 1 <= len(told) <= 2
    for report in told:
        assert report.recipients == [SENDER]
        assert report.message["X-Relayd-Queue-ID"] == name
    return len(told)


@pytest.mark.slow
@pytest.mark.root
def test_J11_J12_no_original_is_lost(make_daemon, host):
    """Killed at each system call of the bounce's making, or each that is about
    the spool fails: the sender is told once, or twice."""
    daemon = make_daemon().start()
    bounce_once(daemon, host)
    daemon.stop()
    every, spool = calls(daemon)
    assert {"rename", "renameat2", "fdatasync", "fsync", "unlinkat"} & {
        name for name, _ in spool}
    faults = [f"{name}:signal=KILL:when={number}" for name, number in every]
    faults += [f"{name}:error={error}:when={number}" for name, number in spool
               for error in ("ENOSPC", "EIO")]
    twice = killed = 0
    for fault in faults:
        host.mend()
        host.messages.clear()
        daemon = make_daemon().start(inject=[fault])
        name = bounce_once(daemon, host)
        if daemon.ended:
            daemon.expect_killed()
            killed += 1
        try:
            twice += settle(daemon, host, name) - 1
        except AssertionError as error:
            raise AssertionError(f"{fault}\n" + "\n".join(daemon.log)) \
                from error
        daemon.stop()
    # But for those that come after the last line of the log.
    assert killed >= len(every) - 2 and twice > 0
    print(f"{len(faults)} faults, {killed} kills, {twice} told twice")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
