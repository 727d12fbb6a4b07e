"""The sendmail command against a scripted daemon on a unix socket.

Numbers are those of the catalogue of bad input.
"""

import dataclasses
import os
import pathlib
import pty
import pwd
import shutil
import socket
import subprocess
import threading

import pytest

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
    (("-f", ""), ""), (("-f", "<>"), ""), (("-f<>",), ""),  # C10
    (("-f", "a@b.example"), "a@b.example"), (("-fa@b.example",), "a@b.example"),
    (("-r", "a@b.example"), "a@b.example"),
    (("-f", "root (Cron Daemon)"), "root"),  # C12
    (("-f", "Root <root>"), "root"), (("-f", "<root>"), "root"),
    (("-f", "root"), "root"),
])
def test_sender(place, arguments, sender):
    place.serve()
    assert place.run(*arguments, "root").returncode == OK
    assert place.daemon.sender.startswith(f"MAIL FROM:<{sender}>")


@pytest.mark.parametrize("sender", [
    "a@b.example -OQueueDirectory=/tmp -X/tmp/x",  # C5
    "a@b.example\nRCPT TO:<c@d>", "a@b.example\rx", "a\x7f@b.example",  # C11
    "a\x1b@b.example", "a@b.example, c@d.example", " ", "a@b@c",
])
def test_bad_sender_is_refused(place, sender):
    place.serve()
    result = place.run("-f", sender, "root")
    assert result.returncode == DATAERR
    assert result.stderr.count(b"\n") == 1 and b"\x1b" not in result.stderr
    assert place.daemon.lines == []


@pytest.mark.parametrize("argument, recipients", [
    ("a@b.example,c@d.example", ["a@b.example", "c@d.example"]),
    ("<a@b.example>", ["a@b.example"]),
    ("A <a@b.example>", ["a@b.example"]),
    ("a@b.example (x)", ["a@b.example"]),
    ("|id", ["|id"]), ("/tmp/x", ["/tmp/x"]), ("\"|id\"@x", ["\"|id\"@x"]),
])
def test_recipient_arguments(place, argument, recipients):  # C15, C16
    place.serve()
    assert place.run(argument).returncode == OK
    assert place.daemon.recipients == recipients


@pytest.mark.parametrize("arguments", [
    ("",), (" ",), ("a@",), (":include:/etc/passwd",), ("-",),
    ("--", "-bp"), ("root", "-bp"), ("root", "a b"),  # C9
    ("x" * 100000,),  # C17
    ("a@b.example\nDATA",),
])
def test_bad_recipient_sends_nothing(place, arguments):
    place.serve()
    result = place.run(*arguments)
    assert result.returncode == DATAERR
    assert result.stderr.count(b"\n") == 1
    assert place.daemon.lines == []


def test_too_many_recipients_send_nothing(place):  # C17
    many = iter(range(10**6))
    place.serve(RCPT=lambda _: "250 2.1.5 ok" if next(many) < 1000 else
                "452 4.5.3 too many recipients")
    result = place.run(*(f"user{n}@example.com" for n in range(5000)))
    assert result.returncode == DATAERR
    assert b"too many recipients" in result.stderr
    assert len(place.daemon.recipients) == 5000
    assert_nothing_sent(place)


@pytest.mark.parametrize("arguments, status", [
    ((), USAGE),  # C1
    (("-f",), USAGE), (("-F",), USAGE), (("-b",), USAGE),  # C10
    (("-be", "${run{/usr/bin/id}}"), USAGE), (("-bt",), USAGE),  # C7
    (("-bh", "x"), USAGE), (("-bH",), USAGE), (("-bxyz",), USAGE),
    (("-bd",), USAGE), (("-bD",), USAGE), (("-bd", "-q15m"), USAGE),  # C22
    (("-N", "x", "root"), USAGE), (("-R", "x", "root"), USAGE),  # C19
    (("-N", "never,success", "root"), USAGE), (("-N", "", "root"), USAGE),
    (("-Nsuccess,success", "root"), USAGE), (("-N", "x,", "root"), USAGE),
    (("-V", "a\nb", "root"), USAGE), (("-V", "x" * 101, "root"), USAGE),
    (("-V", "", "root"), USAGE), (("-V\u00e4", "root"), USAGE),
    (("-V", "+" * 34, "root"), USAGE), (("-R", "", "root"), USAGE),
    (("--help",), USAGE), (("-Y", "root"), USAGE), (("-bv",), USAGE),
])
def test_usage_errors(place, arguments, status):
    place.serve()
    result = place.run(*arguments)
    assert result.returncode == status
    assert result.stderr.startswith(b"sendmail: ")
    assert place.daemon.lines == []


@pytest.mark.parametrize("text", [
    b"", b"Subject: x\n\nTo: a\n", b"To:\n\nbody\n",  # C2
    b"To: undisclosed-recipients:;\n\n",
    b"To: \"a@b.example\n\nbody\n", b"To: " + b"(" * 100000 + b"\n\n",  # D12
])
def test_no_usable_recipients_in_the_header(place, text):
    place.serve()
    result = place.run("-t", text=text)
    assert result.returncode == DATAERR
    assert b"header" in result.stderr
    assert place.daemon.lines == []


def test_files_that_options_name_are_not_touched(place):  # C4, C6
    place.serve()
    for name in ("q", "x", "d"):
        (place.path / name).mkdir()
    trace = place.path / "trace"
    names = [str(place.path / name / "f") for name in ("q", "x", "d")]
    result = place.run(
        "-f", "-qq", "-o", str(trace), "-e", "trace=file,creat", SENDMAIL,
        "-t", "-i", f"-OQueueDirectory={names[0]}", f"-X{names[1]}",
        f"-D{names[2]}", "-C/etc/shadow", program="strace",
        text=FROM + TO + b"\n", env={"ASAN_OPTIONS": "detect_leaks=0"})
    assert result.returncode == OK
    opened = trace.read_text().split("\n", 1)[1]  # but for the execve
    assert not any(name in opened for name in (*names, "shadow"))


# ---- the text ----

@pytest.mark.parametrize("text", [
    FROM + b"\na\n.\nb\n",  # C18
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


@pytest.mark.parametrize("options, content", [
    ((), b"a\n"), (("-i",), b"a\n.\nb\n")])
def test_dot_ends_the_message_on_a_terminal(place, options, content):  # C18
    place.serve()
    ours, theirs = pty.openpty()
    os.write(ours, FROM + b"\na\n.\nb\n\x04")
    try:
        assert place.run(*options, "root", stdin=theirs).returncode == OK
    finally:
        os.close(ours)
        os.close(theirs)
    assert place.daemon.contents == [FROM + b"\n" + content]


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
    (("-F", "x\nBcc: e@x.example"), f'"x Bcc: e@x.example" <{LOGIN}>'),  # C13
    (("-F", 'a "b" \\c'), f'"a \\"b\\" \\\\c" <{LOGIN}>'),
    (("-F", ""), LOGIN), (("-F", "x", "-f", ""), f'"x" <{LOGIN}>'),
])
def test_full_name_is_quoted(place, options, line):
    place.serve()
    assert place.run(*options, "root", text=b"\n").returncode == OK
    assert place.daemon.contents == [f"From: {line}\r\n\n".encode()]


@pytest.mark.parametrize("gecos, line", [
    ('a & b "x" \\, room 1, 555', '"a Root b \\"x\\" \\\\" <root>'),  # C34
    ("", "root"), (",,,", "root"), ("Super User", '"Super User" <root>'),
])
def test_gecos_is_the_name(place, gecos, line):
    place.serve()
    result = run_with_passwd(place, f"root:x:0:0:{gecos}:/root:/bin/sh")
    assert result.returncode == OK
    assert place.daemon.contents == [f"From: {line}\r\n\n".encode()]


@pytest.mark.parametrize("name", ["a" * 200, "a b", "a\\b"])
def test_login_that_is_no_address_is_replaced(place, name):  # C34
    place.serve()
    assert run_with_passwd(place, f"{name}:x:0:0::/:/bin/sh").returncode == OK
    assert place.daemon.contents == [b"From: uid0\r\n\n"]
    assert place.daemon.sender.startswith("MAIL FROM:<uid0>")


def test_user_without_an_entry_has_a_number(place):  # C34
    place.serve()
    result = place.run(*as_user([SENDMAIL, "x"]), program="unshare",
                       text=b"\n")
    assert result.returncode == OK
    assert place.daemon.contents == [b"From: uid12345\r\n\n"]


def test_directory_as_input_is_refused(place):  # C28
    place.serve()
    directory = os.open(place.path, os.O_RDONLY)
    result = place.run("root", stdin=directory)
    os.close(directory)
    assert result.returncode == NOINPUT
    assert place.daemon.lines == []


def test_message_over_the_size_limit_is_not_sent(place):  # C28
    place.serve(EHLO="250-test\r\n250-SIZE 1000\r\n250 CHUNKING")
    result = place.run("root", text=FROM + b"\n" + b"x" * 2000)
    assert result.returncode == UNAVAILABLE
    assert b"message too big" in result.stderr
    assert_nothing_sent(place)


def test_full_disk_sends_nothing(place):  # C29
    place.serve()
    result = place.run("--fsize=0", SENDMAIL, "root", program="prlimit",
                       text=FROM + b"\n" + b"x" * (1 << 20))
    assert result.returncode == IOERR
    assert_nothing_sent(place)


def test_no_descriptors_send_nothing(place):  # C29
    place.serve()
    result = place.run("-c", 'ulimit -n 4; exec "$0" root 3</dev/null',
                       SENDMAIL, program="sh")
    assert result.returncode != OK
    assert_nothing_sent(place)


# ---- refusals ----

@pytest.mark.parametrize("reply, status", [
    ("452 4.3.1 full", TEMPFAIL), ("451 4.3.0 x", TEMPFAIL),  # C32
    ("421 4.3.2 x", TEMPFAIL), ("550 x", UNAVAILABLE),
    ("554 5.0.0 x", UNAVAILABLE), ("552 5.3.4 big", UNAVAILABLE),
    ("550 5.6.0 x", DATAERR), ("553 5.6.7 x", DATAERR),
    ("550 5.1.1 x", NOUSER), ("501 5.1.3 x", DATAERR),
    ("550 5.7.1 x", NOPERM), ("554 5.4.6 loop", DATAERR),  # B41
    ("354 go on", TEMPFAIL), ("blah", TEMPFAIL), (None, TEMPFAIL),  # C31
    ("250-x\r\n550 y", TEMPFAIL), (b"\r\n", TEMPFAIL),
])
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "BDAT"])
def test_refusal_is_the_exit_status(place, verb, reply, status):
    place.serve(**{verb: reply})
    result = place.run("root")
    assert result.returncode == status
    assert result.stderr.startswith(b"sendmail: ")
    if verb != "BDAT":
        assert_nothing_sent(place)


@pytest.mark.parametrize("verb", ["GREETING", "EHLO"])
@pytest.mark.parametrize("reply, status", [
    ("421 4.3.2 going down", TEMPFAIL), ("554 5.7.1 no", NOPERM),
    (None, TEMPFAIL), ("HTTP/1.1 200 OK", TEMPFAIL), (b"\x00" * 100 + b"\r\n", TEMPFAIL),
    (b"220-x\r\n" * 100000, TEMPFAIL), (b"2" * (1 << 22), TEMPFAIL),
], ids=["421", "554", "close", "http", "nul", "lines", "line"])
def test_what_is_no_relayd_gets_nothing(place, verb, reply, status):  # C31
    place.serve(**{verb: reply})
    result = place.run("root")
    assert result.returncode == status
    assert result.stderr.count(b"\n") == 1
    assert_nothing_sent(place)


def test_one_refused_recipient_stops_all(place):  # C32
    replies = {"a": "250 2.1.5 ok", "b": "550 5.7.1 not you",
               "c": "451 4.3.0 later", "d": "250 2.1.5 ok"}
    place.serve(RCPT=lambda line: replies[line[9]])
    result = place.run("a", "b", "c", "d")
    place.daemon.stop()
    assert result.returncode == NOPERM
    assert result.stderr == (b"sendmail: b: 550 5.7.1 not you\n"
                             b"sendmail: c: 451 4.3.0 later\n")
    assert place.daemon.lines[-2:] == ["RSET", "QUIT"]
    assert_nothing_sent(place)
    place.daemon = None


def test_reply_text_is_escaped(place):  # C31
    place.serve(RCPT=b"550 5.1.1 \x1b[31m\xff\r\n")
    result = place.run("root")
    assert result.returncode == NOUSER
    assert result.stderr == b"sendmail: root: 550 5.1.1 \\x1b[31m\\xff\n"


def test_lost_reply_is_no_success(place):  # C30
    place.serve(BDAT=None)
    assert place.run("root").returncode == TEMPFAIL
    assert len(place.daemon.contents) == 1


def test_hang_up_in_the_content_is_no_success(place):
    def hang_up(_):
        raise HangUp
    place.serve(EARLY=hang_up)
    result = place.run("root", text=FROM + b"\n" + b"x" * 4000000)
    assert result.returncode == TEMPFAIL
    assert place.daemon.contents == []


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
def test_no_daemon_is_a_temporary_failure(place, alone, prefix):  # C3
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


RELAYD = """#!/usr/bin/python3
import sys
assert sys.argv[1:] == ["--stdio"]
say = lambda text: print(text, end="\\r\\n", flush=True)
say("220 test")
for line in iter(sys.stdin.buffer.readline, b""):
    if line.startswith(b"BDAT"):
        with open({path!r}, "wb") as out:
            out.write(sys.stdin.buffer.read(int(line.split()[1])))
    say("250-test\\r\\n250 CHUNKING" if line.startswith(b"EHLO") else "250 2.0.0 ok")
    if line.startswith(b"QUIT"):
        break
"""


def test_root_does_without_the_daemon(place, alone):  # C3
    relayd = place.path / "bin" / "relayd"
    relayd.write_text(RELAYD.format(path=str(place.path / "got")),
                      encoding="utf-8")
    relayd.chmod(0o755)
    command = namespaces("--map-root-user")
    result = place.run(*command[1:], alone, "root", program=command[0],
                       text=FROM + b"\nbody\n")
    assert (result.returncode, result.stderr) == (OK, b"")
    assert (place.path / "got").read_bytes() == FROM + b"\nbody\n"


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


def test_smtp_mode_copies_the_dialogue(place):  # C22
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
    ("sendmail", ("-bp",), "queue"), ("mailq", (), "queue"),  # C25
    ("-mailq", (), "queue"), ("sendmail", ("-q",), "flush"),
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
])
def test_modes_that_have_nothing_to_do(place, name, arguments):
    result = place.run(*arguments, program=name, executable=SENDMAIL)
    assert (result.returncode, result.stdout, result.stderr) == (OK, b"", b"")


def test_call_without_a_name_is_no_crash(place):  # C25
    result = place.run(
        "-c", "import ctypes, sys; none = (ctypes.c_char_p * 1)(None);"
        "ctypes.CDLL(None).execve(sys.argv[1].encode(), none, none)",
        SENDMAIL, program="/usr/bin/python3")
    assert result.returncode == USAGE
    assert result.stderr.startswith(b"sendmail: ")


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
