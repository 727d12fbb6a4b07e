"""The mail programs that people and scripts run: what each one hands over
arrives at the relayhost once, with the right envelope, a valid header, and its
body byte for byte."""

import sys

import pytest

from callers import BLIND, BODY, COPY, TO
from harness import USER


OVER = pytest.mark.parametrize("smtp", [False, True],
                               ids=["over sendmail", "over SMTP"])


@pytest.mark.peers("bsd-mailx")
def test_bsd_mailx(run, arrived):
    run("bsd-mailx", "-s", "disk", "-b", BLIND, "root")
    header = arrived([TO, BLIND], body=BODY + "\n")
    assert header["subject"] == "disk"
    assert header["from"].addresses[0].addr_spec == USER


@OVER
@pytest.mark.peers("s-nail")
def test_s_nail(run, daemon, arrived, smtp):
    over = ["-S", f"mta=smtp://127.0.0.1:{daemon.port}", "-S",
            "smtp-auth=none", "-S", "v15-compat"]
    run("s-nail", "-n", "-s", "disk", "-S", "mime-encoding=8bit",
        "-S", "DEAD=/dev/null",
        *(over if smtp else ()), "-r", "root@web1.example.com", "-c", COPY,
        "root@localhost" if smtp else "root", data=BODY + "\n")
    # s-nail itself quotes this.
    header = arrived([TO, COPY], body=BODY.replace("\nFrom ", "\n>From "))
    assert header["subject"] == "disk"


@OVER
@pytest.mark.peers("mailutils")
def test_mailutils_mail(run, daemon, arrived, smtp):
    over = ["-E", f"set sendmail=smtp://127.0.0.1:{daemon.port}"]
    run("mail.mailutils", "-E", "set nodot", *(over if smtp else ()),
        "-s", "disk", "root")
    header = arrived()
    assert header["to"].addresses[0].domain


@OVER
@pytest.mark.peers("mutt")
def test_mutt(run, daemon, arrived, smtp):
    over = ["-e", f"set smtp_url=smtp://127.0.0.1:{daemon.port} "
            "ssl_force_tls=no"]
    run("mutt", "-n", "-F", "/dev/null", *(over if smtp else ()), "-s", "disk",
        "-b", BLIND, "-c", COPY, "root")
    header = arrived([TO, COPY, BLIND], decoded=True)
    assert header["subject"] == "disk"


@pytest.mark.peers("mutt")
def test_mutt_with_all_options_of_sendmail(run, host, arrived):
    """-B, -f, and what it asks for of DSN is passed on."""
    host.extensions.append("DSN")
    run("mutt", "-n", "-F", "/dev/null", "-e", "set use_envelope_from "
        "from=me@example.net dsn_notify='failure,delay' dsn_return=hdrs "
        "use_8bitmime allow_8bit send_charset=utf-8", "-s", "disk", "root")
    arrived(sender="me@example.net", decoded=True)
    mail, rcpt = (line for line in host.sessions[0].commands
                  if line.startswith(("MAIL", "RCPT")))
    assert "BODY=8BITMIME" in mail and "RET=HDRS" in mail
    assert "NOTIFY=FAILURE,DELAY" in rcpt


@OVER
@pytest.mark.peers("git-email")
def test_git_send_email(run, daemon, arrived, directory, smtp):
    over = ["--smtp-server=127.0.0.1", f"--smtp-server-port={daemon.port}"]
    body = BODY + "\n-- \n2.39.5\n"
    (directory / "0001.patch").write_text(
        "From 0123456789abcdef0123456789abcdef01234567 Mon Sep 17 00:00:00 "
        "2001\nFrom: A U Thor <author@example.net>\nDate: Tue, 24 Nov 2026 "
        "05:14:29 +0000\nSubject: [PATCH] a change\nMIME-Version: 1.0\n"
        "Content-Type: text/plain; charset=UTF-8\n"
        "Content-Transfer-Encoding: 8bit\n\n" + body)
    run("git", "-c", "user.name=A U Thor", "-c",
        "user.email=author@example.net", "send-email", "--confirm=never",
        "--suppress-cc=all", "--to=list@example.net",
        "--transfer-encoding=8bit", "--envelope-sender=auto",
        *(over if smtp else ()),
        "--from=A U Thor <author@example.net>",
        str(directory / "0001.patch"))
    header = arrived(["list@example.net"], "author@example.net", body)
    assert header["subject"] == "[PATCH] a change"
    assert header["from"] == "A U Thor <author@example.net>"


# ---- SMTP clients ----

MESSAGE = ("From: app@example.net\nTo: root\nBcc: blind@example.net\n"
           "Subject: x\n\n" + BODY)


@pytest.mark.peers("swaks")
def test_swaks_over_tcp(run, daemon, arrived):
    run("swaks", "--server", f"127.0.0.1:{daemon.port}", "--from",
        "app@example.net", "--to", "root,two@example.net", "--data", "-",
        data=MESSAGE)
    header = arrived([TO, "two@example.net"], "app@example.net", BODY + "\n")
    assert header["subject"] == "x"


@pytest.mark.peers("msmtp")
@pytest.mark.parametrize("sender", [["--read-envelope-from"],
                                    ["--from=app@example.net"]],
                         ids=lambda words: words[0])
def test_msmtp_over_tcp(run, daemon, arrived, sender):
    run("msmtp", "--host=127.0.0.1", f"--port={daemon.port}", "-t", *sender,
        data=MESSAGE)
    arrived([TO, BLIND], "app@example.net")


@pytest.mark.peers("curl")
def test_curl_over_tcp(run, daemon, arrived):
    run("curl", "-sS", f"smtp://127.0.0.1:{daemon.port}/host.example.net",
        "--mail-from", "app@example.net", "--mail-rcpt", "root",
        "--mail-rcpt", "two@example.net", "--upload-file", "-", "--crlf",
        data=MESSAGE)
    arrived([TO, "two@example.net"], "app@example.net")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
