"""The real callers of sendmail, and SMTP clients: what each one hands over
arrives at the relayhost with the right envelope, a valid header, and its body
byte for byte."""

import os
import smtplib
import socket
import subprocess
import sys

import pytest

from harness import BIN, TIMEOUT, USER, assert_valid, crlf, private

# Lines that break careless programs: dots, 8-bit, no final newline.
BODY = "disk full\n.\n..two\n.three\n\nFrom here to café\nlast line"
TO = "you@example.com"      # what aliases make of root


@pytest.fixture
def start(daemon, directory):
    """Start a command where relayd's sendmail is the system's and its socket
    in the usual place."""
    scratch = directory / "private"
    scratch.mkdir()
    binds = [(BIN / "sendmail", "/usr/sbin/sendmail"),
             (daemon.run, "/run/relayd")]

    processes = []

    def starter(*command, **options):
        processes.append(subprocess.Popen(
            private(scratch, command, binds, **options), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8",
                 "HOME": str(directory), "USER": "root",
                 # Under faketime another library is loaded first.
                 "ASAN_OPTIONS": "verify_asan_link_order=0"}))
        return processes[-1]

    yield starter
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def run(start):
    def runner(*command, data=BODY):
        process = start(*command)
        output, _ = process.communicate(data.encode(), TIMEOUT)
        assert process.returncode == 0, output.decode()

    return runner


def arrived(host, daemon, to=(TO,), sender=USER, body=BODY):
    """The one message that arrives, compared."""
    message, = host.wait_messages(1)
    assert sorted(message.recipients) == sorted(to)
    assert message.sender == sender
    assert message.user == USER and message.tls.startswith("TLSv1.")
    wanted = crlf(body.encode())
    if not wanted.endswith(b"\r\n"):
        wanted += b"\r\n"
    assert message.body == wanted
    daemon.wait_log(r"relayd/smtp\[\d+\]: .*status=sent \(250 2.0.0 Ok: taken")
    return assert_valid(message)


@pytest.mark.peers("bsd-mailx")
def test_bsd_mailx(run, host, daemon):
    run("bsd-mailx", "-s", "disk", "-b", "blind@example.net", "root")
    header = arrived(host, daemon, [TO, "blind@example.net"],
                     body=BODY + "\n")
    assert header["subject"] == "disk"
    assert header["from"].addresses[0].addr_spec == USER


@pytest.mark.peers("s-nail")
def test_s_nail(run, host, daemon):
    run("s-nail", "-n", "-s", "disk", "-S", "mime-encoding=8bit",
        "-r", "root@web1.example.com", "-c", "copy@example.net", "root",
        data=BODY + "\n")
    # s-nail itself quotes this.
    header = arrived(host, daemon, [TO, "copy@example.net"],
                     body=BODY.replace("\nFrom ", "\n>From "))
    assert header["subject"] == "disk"


@pytest.mark.peers("mailutils")
def test_mailutils_mail(run, host, daemon):
    run("mail.mailutils", "-E", "set nodot", "-s", "disk", "root")
    header = arrived(host, daemon)
    assert header["to"].addresses[0].domain


@pytest.mark.peers("php-cli")
def test_php_mail(run, host, daemon):
    run("php8.2", "-d", "sendmail_path=/usr/sbin/sendmail -t -i", "-r",
        "mail('root', 'disk', stream_get_contents(STDIN),"
        " \"From: www@web1.example.com\\r\\nBcc: blind@example.net\","
        " '-fwww@web1.example.com') or exit(1);")
    header = arrived(host, daemon, [TO, "blind@example.net"])
    assert header["subject"] == "disk"


@pytest.mark.peers("git-email")
def test_git_send_email(run, host, daemon, directory):
    body = BODY + "\n-- \n2.39.5\n"
    (directory / "0001.patch").write_text(
        "From 0123456789abcdef0123456789abcdef01234567 Mon Sep 17 00:00:00 "
        "2001\nFrom: A U Thor <author@example.net>\nDate: Tue, 24 Nov 2026 "
        "05:14:29 +0000\nSubject: [PATCH] a change\nMIME-Version: 1.0\n"
        "Content-Type: text/plain; charset=UTF-8\n"
        "Content-Transfer-Encoding: 8bit\n\n" + body)
    run("git", "-c", "user.name=A U Thor", "-c",
        "user.email=author@example.net", "send-email", "--confirm=never",
        "--suppress-cc=all", "--to=list@example.net", "--transfer-encoding=8bit",
        "--envelope-sender=auto", "--from=A U Thor <author@example.net>",
        str(directory / "0001.patch"))
    header = arrived(host, daemon, ["list@example.net"],
                     sender="author@example.net", body=body)
    assert header["subject"] == "[PATCH] a change"
    assert header["from"] == "A U Thor <author@example.net>"


def run_cron(start, job, user="root"):
    """A cron daemon that has just this job."""
    # Its minutes are six seconds long.
    return start("sh", "-euc", f"""
        rm -rf /etc/cron.d /etc/crontab
        mkdir -p /etc/cron.d /var/spool/cron/crontabs
        cat >/etc/cron.d/job <<'END'
MAILTO=root
* * * * * {user} {job}
END
        faketime -f '@2026-11-24 05:14:50 x10' /usr/sbin/cron -f""",
                 end_all=True)


@pytest.mark.peers("cron", "faketime")
def test_a_job_of_cron(start, host, daemon):
    job = r"printf 'disk full\n.\ncaf\303\251'"
    run_cron(start, job)
    header = arrived(host, daemon, body="disk full\n.\ncafé\n")
    assert header["subject"] == f"Cron <root@{socket.gethostname()}> {job}"
    assert header["from"].addresses[0].display_name == "Cron Daemon"


@pytest.mark.peers("swaks")
def test_swaks_over_tcp(start, host, daemon):
    process = start(
        "swaks", "--server", f"127.0.0.1:{daemon.port}", "--from",
        "app@example.net", "--to", "root,two@example.net", "--data", "-")
    text = "From: app@example.net\nTo: two@example.net\nSubject: x\n\n" + BODY
    output, _ = process.communicate(text.encode(), TIMEOUT)
    assert process.returncode == 0, output.decode()
    header = arrived(host, daemon, [TO, "two@example.net"],
                     sender="app@example.net", body=BODY + "\n")
    assert header["subject"] == "x"


TEXT = crlf(("From: app@example.net\nTo: root\nSubject: x\n\n" +
             BODY).encode())


@pytest.mark.parametrize("text", [TEXT, TEXT.replace(b"\r", b"")],
                         ids=["with CRLF", "with LF alone"])
def test_python_smtplib_over_tcp(host, daemon, text):
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        client.sendmail("app@example.net", ["root"], text)
    arrived(host, daemon, sender="app@example.net")


def test_python_smtplib_over_the_unix_socket(host, daemon):
    class Client(smtplib.SMTP):
        def _get_socket(self, *_):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(daemon.socket))
            return sock

    with Client("localhost") as client:
        client.sendmail("app@example.net", ["root", "two@example.net"], TEXT)
    arrived(host, daemon, [TO, "two@example.net"], sender="app@example.net")
    daemon.wait_log(rf"relayd/pickup\[\d+\]: \w+: uid={os.getuid()} from=")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
