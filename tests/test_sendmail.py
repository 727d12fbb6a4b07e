"""The sendmail command against a scripted daemon on a unix socket: its
options, the text and the dialogue.  What is wrong with a command line or a
header is in test_badinput_sendmail.py and test_badinput_header.py.
"""

import re
import socket
import subprocess
import threading

import pytest

from fake_daemon import (CONFIG, DATAERR, EHLO, GREETING, LOGIN, NOPERM,
                         NOUSER, OK, SENDMAIL, TEMPFAIL, UNAVAILABLE, USAGE,
                         as_user, assert_nothing_sent)

FROM = b"From: a@b.example\n"
TO = b"To: c@d.example\n"


@pytest.mark.parametrize("arguments", [
    ("-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root"),
    ("-i", "-B", "8BITMIME", "root"),
    ("-FAnacron", "-odi", "root"),
    ("-F", "Atrun Service", "-odi", "-oem", "root"),
    ("-oi", "root"), ("-o", "em", "root"), ("-oee", "root"),
    ("-oeq", "root"), ("-oep", "root"), ("-em", "root"),
    ("-i", "--", "root"), ("-oem", "-oi", "--", "root"),
    ("-bm", "root"), ("-om", "-n", "-U", "-G", "root"),
    ("-h", "3", "root"), ("-h3", "root"), ("-L", "tag", "root"),
    ("-Ac", "root"), ("-p", "SMTP:x", "root"), ("-x", "root"),
    ("-C/etc/shadow", "root"), ("-C", "/tmp/evil.cf", "root"),
    ("-D/tmp/log", "-d99.9", "root"), ("-d", "root"), ("-oL9", "root"),
    ("-oA/tmp/aliases", "root"),
    ("-N", "never", "-R", "hdrs", "-V", "id", "root"),
    ("-Nsuccess,DELAY", "-Rfull", "root"),
    # Bundled, the last with its value attached or behind it.
    ("-ioem", "root"), ("-iFx", "root"), ("-iF", "x", "root"),
    ("-nGUo", "i", "root"), ("-iB8BITMIME", "-odb", "root"),
    ("-D", "/tmp/log", "root"), ("-T", "-odq", "-s", "root"),
    ("-oi", "-F", "x", "-oem", "-B", "7BIT", "-i", "root"),
    ("-O", "DeliveryMode=b", "-ODeliveryMode=b", "-M", "x", "root"),
], ids=" ".join)
def test_callers_options_are_taken(place, arguments):
    place.serve()
    result = place.run(*arguments, text=FROM + b"\nbody\n")
    assert (result.returncode, result.stderr) == (OK, b"")
    assert place.daemon.recipients == ["root"]
    assert place.daemon.contents == [FROM + b"\nbody\n"]


@pytest.mark.parametrize("arguments", [
    ("-t",), ("-ti",), ("-it",), ("-i", "-t"), ("-t", "-oi"), ("-tv",),
    ("-FCronDaemon", "-i", "-odi", "-oem", "-oi", "-t", "-f", "me"),
    ("-oi", "-f", "root@vm", "-t"), ("-fa@b.example", "-i", "-t"),
    ("-tif", "a@b.example"), ("-tfa@b.example", "-i"), ("-vti",),
    ("-bm", "-t"),
], ids=" ".join)
def test_recipients_come_from_the_header(place, arguments):
    place.serve()
    text = FROM + TO + b"Cc: e@f.example, \"G\" <g>\nBcc: h\n\nbody\n"
    assert place.run(*arguments, text=text).returncode == OK
    assert place.daemon.recipients == ["c@d.example", "e@f.example", "g", "h"]
    assert place.daemon.contents == [text]


def test_recipients_come_from_header_and_arguments(place):
    place.serve()
    assert place.run("-t", "x", "y@z.example", text=TO + b"\n").returncode == OK
    assert set(place.daemon.recipients) == {"x", "y@z.example", "c@d.example"}


def test_the_dialogue_is_one_transaction(place):
    place.serve()
    text = FROM + b"\nbody\n"
    place.run("-f", "s@b.example", "a", "b", text=text)
    place.daemon.stop()
    assert place.daemon.lines == [
        "EHLO localhost",
        f"MAIL FROM:<s@b.example> SIZE={len(text)} BODY=8BITMIME",
        "RCPT TO:<a>", "RCPT TO:<b>", f"BDAT {len(text)} LAST", "QUIT"]
    place.daemon = None


@pytest.mark.unsanitized    # sanitizers make system calls of their own
def test_nothing_is_waited_for_without_need(place):
    """Nor done: its system calls, once it has started, are few."""
    heard = []

    def converse(listener):
        with listener, listener.accept()[0] as peer:
            for reply in f"{GREETING}\r\n{EHLO}", "250 ok\r\n250 ok", "250 ok":
                heard.append(peer.recv(1 << 16))    # and only then, a reply
                peer.sendall(reply.encode() + b"\r\n")
            heard.append(peer.recv(1))              # none to QUIT

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(place.path / "submit.sock"))
    listener.listen()
    daemon = threading.Thread(target=converse, args=(listener,), daemon=True)
    daemon.start()
    trace = place.path / "trace"
    done = place.run("-o", str(trace), SENDMAIL, "-f", "a@b.example", "c",
                     program="strace", text=FROM + b"\nx\n")
    assert (done.returncode, done.stderr) == (OK, b"")
    daemon.join()
    assert heard == [
        b"EHLO localhost\r\n",
        b"MAIL FROM:<a@b.example> SIZE=21 BODY=8BITMIME\r\n"
        b"RCPT TO:<c>\r\n",
        b"BDAT 21 LAST\r\n" + FROM + b"\nx\nQUIT\r\n", b""]
    calls = re.findall(r"^(\w+)\(", trace.read_text(), re.M)
    calls = calls[len(calls) - calls[::-1].index("socket"):]
    assert calls.count("write") == 3 and len(calls) <= 24, calls
    last = len(calls) - calls[::-1].index("read")
    assert set(calls[last:]) <= {"close", "munmap", "exit_group"}, calls


def test_what_is_not_offered_is_not_asked_for(place):
    place.serve(EHLO="250-test\r\n250 CHUNKING")
    assert place.run("-f", "a@b.example", "root").returncode == OK
    assert place.daemon.sender == "MAIL FROM:<a@b.example>"


@pytest.mark.parametrize("options, mail, rcpt", [
    (("-N", "never", "-R", "hdrs", "-V", "id"),
     " RET=HDRS ENVID=id", " NOTIFY=NEVER"),
    (("-Nsuccess,DELAY,failure", "-Rfull", "-Va+b =c"),
     " RET=FULL ENVID=a+2Bb+20+3Dc", " NOTIFY=SUCCESS,FAILURE,DELAY"),
    (("-oem", "-oi", "-N", "failure,delay", "-R", "hdrs", "--"),
     " RET=HDRS", " NOTIFY=FAILURE,DELAY"),  # mutt
    (("-N", "success", "-Nnever"), "", " NOTIFY=NEVER"),
    ((), "", ""),
], ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")
@pytest.mark.parametrize("offered", [True, False])
def test_dsn_is_asked_for_where_it_is_offered(  # C19
        place, options, mail, rcpt, offered):
    place.serve(EHLO="250-test\r\n250-DSN\r\n250 CHUNKING" if offered
                else "250-test\r\n250 CHUNKING")
    assert place.run("-fa@b.example", *options, "c", "d").returncode == OK
    mail, rcpt = (mail, rcpt) if offered else ("", "")
    assert place.daemon.lines[1:4] == [
        f"MAIL FROM:<a@b.example>{mail}", f"RCPT TO:<c>{rcpt}",
        f"RCPT TO:<d>{rcpt}"]


def test_utf8_addresses_ask_for_smtputf8(place):
    place.serve()
    assert place.run("-f", "a@b.example", "\u00e4@b.example").returncode == OK
    assert place.daemon.sender.endswith(" SMTPUTF8")
    assert place.daemon.recipients == ["\u00e4@b.example"]


@pytest.mark.parametrize("arguments, sender", [
    ((), LOGIN),
    (("-f", "a@b.example"), "a@b.example"), (("-fa@b.example",), "a@b.example"),
    (("-r", "a@b.example"), "a@b.example"),
    (("-f", "root"), "root"),
])
def test_sender(place, arguments, sender):
    place.serve()
    assert place.run(*arguments, "root").returncode == OK
    assert place.daemon.sender.startswith(f"MAIL FROM:<{sender}>")


@pytest.mark.parametrize("sender", [
    "a@b.example, c@d.example", " ", "a@b@c", "a@"])
def test_bad_sender_is_refused(place, sender):
    place.serve()
    result = place.run("-f", sender, "root")
    assert result.returncode == DATAERR
    assert result.stderr.count(b"\n") == 1
    assert place.daemon.lines == []


@pytest.mark.parametrize("arguments", [
    ("a@",), ("-",), ("root", "a b"), ("a@b.example\nDATA",),
])
def test_bad_recipient_sends_nothing(place, arguments):
    place.serve()
    result = place.run(*arguments)
    assert result.returncode == DATAERR
    assert result.stderr.count(b"\n") == 1
    assert place.daemon.lines == []


@pytest.mark.parametrize("arguments, status", [
    (("-F",), USAGE), (("-bd", "-q15m"), USAGE), (("-tio",), USAGE),
    (("-N", "never,success", "root"), USAGE), (("-N", "", "root"), USAGE),
    (("-Nsuccess,success", "root"), USAGE), (("-N", "x,", "root"), USAGE),
    (("-V", "x" * 101, "root"), USAGE),
    (("-V", "", "root"), USAGE), (("-V\u00e4", "root"), USAGE),
    (("-V", "+" * 34, "root"), USAGE), (("-R", "", "root"), USAGE),
    (("--help",), USAGE), (("-Y", "root"), USAGE),
    (("-tiY", "root"), USAGE), (("-bv",), USAGE),
])
def test_usage_errors(place, arguments, status):
    place.serve()
    result = place.run(*arguments)
    assert result.returncode == status
    assert result.stderr.startswith(b"sendmail: ")
    assert place.daemon.lines == []


# ---- the text ----

@pytest.mark.parametrize("text", [
    FROM + b"\n.\n", FROM + b"\r\nx\r\n.\r\n", FROM + b"\nno newline",
    FROM + b"\n\x00\xff\x00\n", FROM + b"\n" + b"x" * 100000 + b"\n",
    b"\xef\xbb\xbf" + FROM + b"\n", b"From root Mon\n" + FROM + b"\nx\n",
])
@pytest.mark.parametrize("options", [(), ("-i",), ("-oi",)])
def test_text_goes_as_it_is(place, options, text):
    place.serve()
    assert place.run(*options, "root", text=text).returncode == OK
    assert place.daemon.contents == [text]


@pytest.mark.parametrize("size", [(1 << 20) - 1, 1 << 20, (1 << 20) + 1,
                                  5000000])
def test_large_text_goes_through_a_file(place, size):
    place.serve()
    text = (FROM + b"\n" + bytes(range(256)) * (size // 256 + 1))[:size]
    assert place.run("root", text=text).returncode == OK
    assert place.daemon.contents == [text]
    assert [p.name for p in place.path.iterdir()] == ["submit.sock"]


@pytest.mark.parametrize("text, content", [
    (b"Subject: x\n\nbody\n", b"F\r\nSubject: x\n\nbody\n"),
    (b"Subject: x\n", b"F\r\nSubject: x\n"),  # D5
    (b"hello\nworld\n", b"F\r\n\r\nhello\nworld\n"),  # D6
    (b"\nbody\n", b"F\r\n\nbody\n"),
    (b" x\nTo: a\n", b"F\r\n\r\n x\nTo: a\n"),  # D16
    (b"", b"F\r\n"),
    (b"From root Mon Jan  1 00:00:00 2026\nTo: a\n\n", b"F\r\nTo: a\n\n"),
    (b">From root\r\nTo: a\r\n\r\n", b"F\r\nTo: a\r\n\r\n"),  # D7
    (b"From root Mon\nhello\n", b"F\r\n\r\nhello\n"),
    (b"\xef\xbb\xbfTo: a\n\n", b"F\r\nTo: a\n\n"),
])
def test_missing_from_is_put_on_top(place, text, content):
    place.serve()
    assert place.run("-fa@b.example", "x", text=text).returncode == OK
    assert place.daemon.contents == [
        content.replace(b"F\r", b"From: a@b.example\r", 1)]


@pytest.mark.parametrize("options, line", [
    (("-F", "A B"), f'"A B" <{LOGIN}>'),
    (("-FCronDaemon", "-fa@b.example"), '"CronDaemon" <a@b.example>'),
    # Lines of at most 76 octets, and characters that stay whole.
    (("-F", "\u20ac" * 8, "-f", "a-long-address@department.example.com"),
     "=?utf-8?q?=E2=82=AC=E2=82=AC=E2=82=AC=E2=82=AC=E2=82=AC?=\r\n"
     "\t=?utf-8?q?=E2=82=AC=E2=82=AC=E2=82=AC?=\r\n"
     "\t<a-long-address@department.example.com>"),
    (("-F", " "), LOGIN), (("-F", ""), LOGIN),
    (("-F", "x", "-f", ""), f'"x" <{LOGIN}>'),
])
def test_full_name_is_quoted(place, options, line):
    place.serve()
    assert place.run(*options, "root", text=b"\n").returncode == OK
    assert place.daemon.contents == [f"From: {line}\r\n\n".encode()]


def test_message_over_the_size_limit_is_not_sent(place):
    place.serve(EHLO="250-test\r\n250-SIZE 1000\r\n250 CHUNKING")
    result = place.run("root", text=FROM + b"\n" + b"x" * 2000)
    assert result.returncode == UNAVAILABLE
    assert b"message too big" in result.stderr
    assert_nothing_sent(place)


# ---- refusals ----

@pytest.mark.parametrize("verb", ["GREETING", "EHLO"])
@pytest.mark.parametrize("reply, status", [
    ("421 4.3.2 going down", TEMPFAIL), ("554 5.7.1 no", NOPERM)])
def test_daemon_that_serves_nobody_gets_nothing(place, verb, reply, status):
    place.serve(**{verb: reply})
    result = place.run("root")
    assert result.returncode == status
    assert result.stderr.count(b"\n") == 1
    assert_nothing_sent(place)


def test_reply_that_nothing_asked_for_is_no_success(place):
    place.serve(EHLO=EHLO + "\r\n250 2.0.0 more\r\n250 2.0.0 and more")
    assert place.run("root").returncode == TEMPFAIL
    assert_nothing_sent(place)


def test_daemon_without_chunking_is_not_ours(place):
    place.serve(EHLO="250 test")
    assert place.run("root").returncode == TEMPFAIL
    assert_nothing_sent(place)


# ---- no daemon ----

@pytest.mark.parametrize("prefix", ["", "unix:"])
def test_no_daemon_is_a_temporary_failure(place, alone, prefix):
    result = place.run(
        *as_user([alone, "root"]), program="unshare",
        env={"RELAYD_SOCKET": f"{prefix}{place.path}/none.sock"})
    assert result.returncode == TEMPFAIL
    assert result.stderr.startswith(b"sendmail: relayd is not running: ")
    assert result.stderr.count(b"\n") == 1


def test_socket_path_that_is_too_long_is_a_configuration_error(place):
    result = place.run("root", env={"RELAYD_SOCKET": "/" + "x" * 200})
    assert result.returncode == CONFIG


def test_daemon_that_comes_back_is_not_missed(place):
    process = subprocess.Popen(
        [SENDMAIL, "-v", "root"], stdin=subprocess.PIPE,
        env={"RELAYD_SOCKET": str(place.path / "submit.sock")})
    process.stdin.write(FROM + b"\n")
    process.stdin.close()
    place.serve()
    assert process.wait(60) == OK
    assert place.daemon.contents == [FROM + b"\n"]


# ---- modes ----

def test_verify_tells_each_recipient(place):
    place.serve(RCPT=lambda line: "250 2.1.5 ok" if "<a>" in line else
                "550 5.1.1 unknown")
    result = place.run("-bv", "a", "b")
    assert result.returncode == NOUSER
    assert result.stdout == (b"a... deliverable: mailer relay, user a\n"
                             b"b... 550 5.1.1 unknown\n")
    assert_nothing_sent(place)


def test_verify_of_good_recipients(place):
    place.serve()
    assert place.run("-bv", "a").returncode == OK
    place.daemon.stop()
    assert place.daemon.lines[-2:] == ["RSET", "QUIT"]
    place.daemon = None


def test_smtp_mode_copies_the_dialogue(place):
    place.serve()
    commands = (b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c>\r\n"
                b"BDAT 3 LAST\r\na\r\nQUIT\r\n")
    result = place.run("-bs", "-i", text=commands)
    assert (result.returncode, result.stderr) == (OK, b"")
    assert result.stdout == (GREETING + "\r\n" + EHLO + "\r\n" +
                             "250 2.0.0 ok\r\n" * 4).encode()
    assert place.daemon.contents == [b"a\r\n"]


def test_smtp_mode_ends_with_its_input(place):
    place.serve()
    result = place.run("-bs", text=b"NOOP\r\n")
    assert result.returncode == OK
    assert result.stdout.endswith(b"250 2.0.0 ok\r\n")


def test_smtp_mode_copies_more_than_buffers_hold(place):
    place.serve(NOOP="250 2.0.0 " + "x" * 400)
    result = place.run("-bs", text=b"NOOP\r\n" * 20000 + b"QUIT\r\n")
    assert result.returncode == OK
    assert result.stdout.count(b"\r\n") == 20002


def test_smtp_mode_without_a_daemon_says_421(place, alone):
    result = place.run(*as_user([alone, "-bs"]), program="unshare", text=b"")
    assert result.returncode == TEMPFAIL
    assert result.stdout.startswith(b"421 4.3.2 ")


@pytest.mark.parametrize("name, arguments, verb", [
    ("sendmail", ("-bp",), "queue"), ("mailq", (), "queue"),
    ("mailq", ("-v",), "queue"), ("sendmail", ("-bp", "-v"), "queue"),
    ("mailq", ("-Ac", "-q"), "queue"), ("sendmail", ("-v", "-q"), "flush"),
    ("sendmail", ("-q",), "flush"),
])
def test_relayctl_does_the_rest(place, alone, name, arguments, verb):
    relayctl = place.path / "bin" / "relayctl"
    relayctl.write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    relayctl.chmod(0o755)
    result = place.run(*arguments, program=f"/x/{name}", executable=alone)
    assert (result.returncode, result.stdout) == (OK, f"{verb}\n".encode())


@pytest.mark.parametrize("name, arguments", [
    ("newaliases", ()), ("sendmail", ("-bi",)), ("sendmail", ("-I",)),
    ("sendmail", ("-bi", "-oA/tmp/x")), ("sendmail", ("-q15m",)),
    ("sendmail", ("-qRexample.com",)), ("sendmail", ("-qIabc",)),
    ("sendmail", ("-qSroot",)), ("sendmail", ("-qf",)),
    ("sendmail", ("-v", "-q1h30m")), ("newaliases", ("-v",)),
])
def test_modes_that_have_nothing_to_do(place, name, arguments):
    result = place.run(*arguments, program=name, executable=SENDMAIL)
    assert (result.returncode, result.stdout, result.stderr) == (OK, b"", b"")


def test_closed_standard_streams_do_no_harm(place):
    place.serve()
    result = place.run("-c", 'exec "$0" "$@" <&- >&- 2>&-', SENDMAIL, "root",
                       program="sh")
    assert result.returncode == OK
    assert place.daemon.contents[0].startswith(b"From: ")


def test_verbose_shows_the_dialogue(place):
    place.serve()
    result = place.run("-v", "-fa@b.example", "root")
    assert b">>> MAIL FROM:<a@b.example>" in result.stderr
    assert b"250 2.0.0 ok" in result.stderr
    assert result.stdout == b""
