"""Addresses from the client to the relayhost: aliases, masquerade, the keys
for staging, and what relayctl explain says of them.  Names carry the case
numbers of hostile input where there is one."""

import json
import os
import subprocess
import threading

import pytest

from harness import BIN, TIMEOUT, USER, assert_valid, private

OK, WRONG, USAGE, DATAERR, NOUSER, NOPERM = 0, 1, 64, 65, 67, 77
TEXT = b"Subject: disk full\n\n/var is full.\n"


def send(daemon, *arguments, data=TEXT, status=OK):
    done = daemon.sendmail(*arguments, data=data)
    assert done.returncode == status, done.stderr.decode()
    return done.stderr.decode()


def replace(daemon, text):
    """Put a new aliases file in place, as editors do."""
    new = daemon.directory / "aliases.new"
    new.write_bytes(text if isinstance(text, bytes) else text.encode())
    new.chmod(0o644)
    new.rename(daemon.directory / "aliases")


def recipients(host, number):
    """Of the message with that number, from 1."""
    return host.wait_messages(number)[number - 1].recipients


def fields(message):
    """The lines of the header without those that differ each time."""
    lines = message.header.decode().splitlines()
    shown, kept = False, []
    for line in lines:
        if line[:1] not in " \t":
            shown = line.split(":")[0] not in ("Received", "Date",
                                               "Message-ID")
        if shown:
            kept.append(line)
    return kept


# Masquerade, redirect, allow_recipients, header_add.

def test_d20_masquerade(host, make_daemon):
    daemon = make_daemon(top={"masquerade": [
        "root@web1.example.com=ops@example.com",
        "@old.example=@new.example"]}).start()
    send(daemon, "-f", "root@web1.example.com", "x@old.example",
         data=b"From: root@web1.example.com (Cron Daemon)\n"
              b"To: \"bob@old.example\" <Bob@OLD.example>,\n"
              b" xroot@web1.example.com.org (bob@old.example)\n"
              b"Cc: bob@old.example.org\n" + TEXT)
    first, = host.wait_messages(1)
    send(daemon, "-f", "bob@web1.example.com", "root")
    second = host.wait_messages(2)[1]
    assert first.sender == "ops@example.com"
    assert first.recipients == ["x@old.example"]    # not for these
    assert fields(first) == [
        'From: "Cron Daemon" <ops@example.com>',
        'To: "bob@old.example" <Bob@new.example>,',
        " xroot@web1.example.com.org (bob@old.example)",
        "Cc: bob@old.example.org", "Subject: disk full"]
    assert_valid(first)
    assert second.sender == USER                    # from, as ever
    daemon.wait_log(r"from=<ops@example\.com>")


def test_staging_sends_to_redirect_what_is_not_allowed(host, make_daemon):
    daemon = make_daemon(top={
        "redirect": "dev@example.com",
        "allow_recipients": ["*@dev.example.com", "you@example.com"],
        "header_add": ["X-Env: staging"]}).start()
    header = (b"From: a@b.example\nTo: shop@customer.example\n"
              b"Date: Tue, 24 Nov 2026 05:14:29 +0000\n"
              b"Message-ID: <1@b.example>\n")
    send(daemon, "-f", "a@b.example", "shop@customer.example", "root",
         "t@Dev.example.com", data=header + b"\nx\n")
    message, = host.wait_messages(1)
    assert message.recipients == ["dev@example.com", "you@example.com",
                                  "t@Dev.example.com"]
    assert message.header.endswith(
        header.replace(b"\n", b"\r\n") + b"X-Env: staging\r\n")
    daemon.wait_log(r"to=<dev@example\.com>, orig_to=<shop@customer\.example>")


def test_redirect_alone_takes_everything(host, make_daemon):
    daemon = make_daemon(top={"redirect": "dev@example.com"}).start()
    send(daemon, "root", "a@b.example", "c@d.example")
    assert recipients(host, 1) == ["dev@example.com"]
    # So does the daemon's own message.
    done = daemon.relayctl("test", "a@b.example")
    assert done.returncode == OK, done.stdout
    assert recipients(host, 2) == ["dev@example.com"]


def test_who_is_not_allowed_is_refused_by_name(host, make_daemon):
    daemon = make_daemon(top={"allow_recipients": "@example.com"},
                         aliases="ops: shop@customer.example\n").start()
    told = send(daemon, "ops", "root", status=NOPERM)
    assert "ops: 550 5.7.1 Recipient is not among allow_recipients" in told
    daemon.wait_log(r"warning: NOQUEUE: not among allow_recipients: "
                    r"ops -> shop@customer\.example \(alias\)$")
    done = daemon.relayctl("test", "a@customer.example")
    assert done.returncode == WRONG and "550 5.7.1" in done.stdout
    send(daemon, "root")    # all or nothing: of the others none was sent
    assert recipients(host, 1) == ["root@example.com"]


# Aliases.

def test_f1_a_cycle_is_cut(host, make_daemon):
    daemon = make_daemon(aliases="a: b\nb: a\nc: c\n").start()
    send(daemon, "a", "c")
    assert recipients(host, 1) == ["a@example.com", "c@example.com"]


def test_f1_too_deep_is_refused_with_the_chain(host, make_daemon):
    chain = "".join(f"n{i}: n{i + 1}\n" for i in range(21))
    daemon = make_daemon(aliases=chain).start()
    told = send(daemon, "n0", status=NOUSER)
    assert "550 5.4.6" in told
    daemon.wait_log(r"warning: NOQUEUE: alias chain over 20 deep: n0 -> "
                    r"n1 \(alias\) -> .*n20 \(alias\)$")
    send(daemon, "n1")
    assert recipients(host, 1) == ["n21@example.com"]


def test_f2_a_fan_out_bomb_stops_at_the_limit(host, make_daemon):
    lines = [f"l{level}x{i}: " + ", ".join(f"l{level + 1}x{i}y{j}, l{level + 1}"
                                           f"x{j}" for j in range(10))
             for level in range(20) for i in range(10)]
    daemon = make_daemon(aliases="\n".join(lines) + "\n").start()
    told = send(daemon, "l0x0", status=DATAERR)
    assert "452 4.5.3" in told
    send(daemon, "root")
    assert recipients(host, 1) == ["root@example.com"]


def test_f3_what_sendmail_would_run_is_ignored(host, make_daemon, directory):
    ran = directory / "ran"
    daemon = make_daemon(aliases=(
        f"a: |touch {ran}\n\nb: \"|touch {ran}\"\n"
        f"c: {ran}, you@example.com\nd: :include:/etc/shadow\n")).start()
    for line, target in (1, "|touch"), (3, '"|touch'), (4, "/"), (5, ":incl"):
        daemon.wait_log(rf"warning: \S+/aliases:{line}: only addresses are "
                        rf"supported, ignored: {target}".replace("|", r"\|"))
    for number, name in enumerate("abcd", 1):
        send(daemon, name)
        assert recipients(host, number) == [
            "you@example.com" if name == "c" else "postmaster@example.com"]
    assert not ran.exists()


def test_f4_f5_lines_as_sendmail_reads_them(host, make_daemon):
    daemon = make_daemon().start()
    replace(daemon, b"# comment\nROOT: one@example.com,\n\ttwo@example.com, \n"
                    b"nul\0: x\nno colon\nempty:\n\xff: y\n"
                    b'bob: "a #b"@example.com\r\nlong: ' + b"x" * (1 << 20) +
                    b"\n*: rest@example.com")
    # Without the last newline it might not be complete: be it old.
    os.utime(daemon.directory / "aliases", (1e9, 1e9))
    for number, (name, to) in enumerate([
            ("root+cron", ["one@example.com", "two@example.com"]),
            ("bob", ['"a #b"@example.com']),
            ("long", ["rest@example.com"]), ("empty", ["rest@example.com"]),
            ("nobody", ["rest@example.com"])], 1):
        send(daemon, name)
        assert recipients(host, number) == to
    for line, text in ((4, "NUL in an entry"), (5, "no colon"),
                       (6, "no address"), (7, "not a local name"),
                       (9, "entry too long")):
        daemon.wait_log(rf"warning: \S+/aliases:{line}: {text}")


def test_f8_replaced_while_mail_flows(host, make_daemon):
    """No message may go by half a table, or by none."""
    tables = [("".join(f"n{i}: n@{where}.example\n" for i in range(2000)) +
               f"root: root@{where}.example\n").encode()
              for where in ("aa", "bb")]
    daemon = make_daemon(aliases=tables[0].decode()).start()
    over = threading.Event()

    def write():
        count = 0
        while not over.is_set():
            count += 1
            text = tables[count % 2]
            replace(daemon, text)
            # In place: emptied, begun, and halfway in a line.
            with open(daemon.directory / "aliases", "wb", 0) as file:
                for start in range(0, len(text), len(text) // 3):
                    file.write(text[start:start + len(text) // 3])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(50):
            send(daemon, "root")
    finally:
        over.set()
        writer.join()
    told = {to for message in host.wait_messages(50)
            for to in message.recipients}
    assert told <= {"root@aa.example", "root@bb.example"}
    replace(daemon, "root: last@example.com\n")
    send(daemon, "root")
    assert recipients(host, 51) == ["last@example.com"]


def test_f10_a_file_that_everybody_may_write(host, make_daemon):
    daemon = make_daemon()
    (daemon.directory / "aliases").chmod(0o666)
    daemon.start()
    daemon.wait_log(r"warning: \S+/aliases: everybody may write it")
    send(daemon, "root")
    assert recipients(host, 1) == ["you@example.com"]


@pytest.mark.root
def test_newaliases_tells_what_is_not_used(directory):
    file, scratch = directory / "aliases", directory / "private"
    file.write_text("root: you@example.com\na: |id\nb\n")
    scratch.mkdir()

    def newaliases():
        return subprocess.run(
            private(scratch, [BIN / "newaliases"], [(file, "/etc/aliases")]),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=TIMEOUT)

    done = newaliases()
    assert done.returncode == OK
    assert done.stdout == (
        "sendmail: /etc/aliases:2: only addresses are supported, ignored: "
        "|id\nsendmail: /etc/aliases:3: no colon, ignored: b\n")
    file.write_text("root: you@example.com\n")
    assert (newaliases().returncode, newaliases().stdout) == (OK, "")


# relayctl explain.

RULES = {"masquerade": ["root@example.com=ops@example.com"],
         "allow_recipients": ["@example.com", "*@dev.example"],
         "header_add": ["X-Env: staging"]}
ALIASES = ("root: admin, bob\nadmin: you@example.com\nbob: b@dev.example\n"
           "out: x@customer.example\n*: rest@example.com\n")


def test_explain_for_people(make_daemon):
    daemon = make_daemon(top=RULES, aliases=ALIASES)    # it need not run
    done = daemon.relayctl("explain", "root", "nobody@localhost",
                           "x@dev.example")
    assert done.stdout.splitlines() == [
        "sender: root -> root@example.com (origin) -> ops@example.com "
        "(masquerade)",
        "recipient: root -> admin (alias) -> you@example.com (alias)",
        "recipient: root -> bob (alias) -> b@dev.example (alias)",
        "recipient: nobody@localhost -> rest@example.com (catch-all alias)",
        "recipient: x@dev.example",
        'header: From: "root on web1" <ops@example.com>',
        'header: To: "root on web1" <you@example.com>, "root on web1" '
        "<b@dev.example>,",
        'header:  "nobody on web1" <rest@example.com>,',
        "header:  x@dev.example",
        "header: X-Env: staging",
        f"relay: test (localhost:{daemon.relay['port']})"]
    assert done.returncode == OK


@pytest.mark.parametrize("top, sender, line", [
    ({"local_to": "me@example.com"}, "a@b.example",
     "recipient: toor -> me@example.com (local_to)"),
    ({}, "a@b.example", "recipient: toor -> toor@example.com (origin)"),
    ({"redirect": "dev@example.com"}, "a@b.example",
     "recipient: toor -> toor@example.com (origin) -> dev@example.com "
     "(redirect)"),
    ({}, "", "sender: <> (the null sender stays)"),
    ({}, "<>", "sender: <> (the null sender stays)"),
    ({"from_mode": "always"}, "a@b.example",
     f"sender: a@b.example -> {USER} (from)"),
    ({"from_mode": "missing"}, "bob",
     "sender: bob -> bob@example.com (origin)"),
])
def test_explain_names_the_cause(make_daemon, top, sender, line):
    daemon = make_daemon(top=top)
    done = daemon.relayctl("explain", "--sender", sender, "toor")
    assert line in done.stdout.splitlines(), done.stdout
    assert done.returncode == OK


def test_explain_says_who_is_refused(make_daemon):
    chain = "".join(f"n{i}: n{i + 1}\n" for i in range(21))
    daemon = make_daemon(top={**RULES, "recipient_limit": 2}, aliases=chain +
                         "out: x@customer.example\nmany: a, b, c\n")
    for name, way, reply in (
            ("out", "out -> x@customer.example (alias)",
             "550 5.7.1 Recipient is not among allow_recipients"),
            ("n0", "n0 -> n1 (alias) -> ", "550 5.4.6 Aliases are nested"),
            ("many", "many: ", "452 4.5.3 Too many recipients")):
        done = daemon.relayctl("explain", name)
        line, = [line for line in done.stdout.splitlines()
                 if line.startswith("refused: ")]
        assert line.startswith(f"refused: {way}") and reply in line
        assert "recipient: " not in done.stdout
        assert done.returncode == WRONG
        assert daemon.relayctl("explain", "--json", name).returncode == WRONG


def test_explain_says_what_the_daemon_does(host, make_daemon):
    daemon = make_daemon(top=RULES, aliases=ALIASES).start()
    to = ["root", "nobody", "x@dev.example"]
    done = daemon.relayctl("explain", "--json", "--sender", "root", *to)
    assert done.returncode == OK
    told = json.loads(done.stdout)
    send(daemon, "-f", "root", *to, data=(
        f"From: root\nTo: {', '.join(to[:1])},\n {to[1]},\n {to[2]}\n\n"
    ).encode())
    message, = host.wait_messages(1)
    assert told["sender"]["sent"] == message.sender
    assert told["sender"]["way"][-1]["address"] == message.sender
    assert [way[-1]["address"] for one in told["recipients"]
            for way in one["ways"]] == message.recipients
    assert [one["given"] for one in told["recipients"]] == to
    assert told["header"] == fields(message)
    assert told["relay"] == {"name": "test", "host": "localhost",
                             "port": host.port}


def test_explain_usage(make_daemon):
    daemon = make_daemon(aliases="a: |id\n")
    for arguments in ((), ("--sender", "a@@b", "root"), ("a@b", "x y"),
                      ("--unknown", "root")):
        assert daemon.relayctl("explain", *arguments).returncode == USAGE
    done = daemon.relayctl("explain", "a")
    assert f"warning: {daemon.directory}/aliases:1: only addresses" in \
        done.stdout
    assert "recipient: a -> postmaster (alias) -> postmaster@example.com " \
        "(origin)" in done.stdout
    daemon.top["redirect"] = "nobody"
    daemon.write_config()
    done = daemon.relayctl("explain", "root")
    assert done.returncode == WRONG and "redirect: " in done.stdout
