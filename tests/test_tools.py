"""The operator's tools that look at mail: relayctl log, show,
config, set and healthcheck."""

import json
import os
import pty
import re
import subprocess

import pytest

from harness import BIN, TIMEOUT

TEXT = b"From: me@example.com\nSubject: disk\n\nfull\n"


def queue_id(daemon, count=1):
    return daemon.wait_log(r"qmgr\[\d+\]: (\w+): from=", count)[1]


def on_terminal(daemon, *arguments):
    """What relayctl prints on a terminal."""
    leader, follower = pty.openpty()
    with subprocess.Popen([BIN / "relayctl", "-f", daemon.file, *arguments],
                          stdout=follower, stderr=follower) as process:
        os.close(follower)
        output = b""
        try:
            while piece := os.read(leader, 65536):
                output += piece
        except OSError:     # how a terminal ends
            pass
        os.close(leader)
        assert process.wait(TIMEOUT) == 0, output
    return output.replace(b"\r\n", b"\n")


# What was delivered or failed.

@pytest.fixture
def outcomes(daemon, host):
    """One recipient of each kind, in this order: sent, deferred, bounced;
    the deferred one is sent in the end."""
    host.fault("RCPT", "550 5.1.1 no such \"user\" \\x1b here", match="bad")
    host.fault("RCPT", "450 4.2.1 later", match="slow", times=2)
    for number, (recipient, status) in enumerate(
            [("root", "sent"), ("slow@example.org", "deferred"),
             ("bad@example.org", "bounced")], 1):
        assert daemon.sendmail("-N", "never", recipient,    # no bounce
                               data=TEXT).returncode == 0
        daemon.wait_log(rf"{queue_id(daemon, number)}: .*status={status}")
    for status, count in [("deferred", 2), ("sent", 1)]:
        assert daemon.relayctl("flush").returncode == 0
        daemon.wait_log(f"to=<slow@.*status={status}", count)


def history(daemon, *arguments):
    result = daemon.relayctl("log", "--json", *arguments)
    assert result.returncode == 0, result.stdout
    return json.loads(result.stdout)


def test_log_tells_each_outcome_and_the_first_deferral(daemon, outcomes):
    lines = history(daemon)
    assert [(one["to"], one["status"], one["dsn"]) for one in lines] == [
        ("you@example.com", "sent", "2.0.0"),
        ("slow@example.org", "deferred", "4.2.1"),
        ("bad@example.org", "bounced", "5.1.1"),
        ("slow@example.org", "sent", "2.0.0")]
    assert lines[0]["original"] == "root"
    assert lines[0]["sender"] == "relay@example.com"
    assert re.fullmatch(r"localhost\[.*\]:\d+", lines[0]["relay"])
    assert lines[0]["reply"].startswith("250 2.0.0 Ok")
    assert lines[0]["id"] == queue_id(daemon)
    assert "no such \"user\"" in lines[2]["reply"]


def test_log_works_without_the_daemon(daemon, outcomes):
    before = history(daemon)
    assert daemon.stop() == 0
    assert history(daemon) == before
    text = daemon.relayctl("log").stdout.splitlines()
    assert len(text) == 4
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \w{12} sent "
                        r"<you@example\.com> \(root\) by localhost\S+ after "
                        r"\d+ s: 250 2\.0\.0 Ok.*", text[0])


def test_log_by_choice(daemon, outcomes):
    for choice, count in [
            (["--to", "SLOW@example.org"], 2), (["--since", "1h"], 4),
            (["--to", "nobody@example.org"], 0), (["--to", "root"], 1),
            (["--since", "1h", "--to", "bad@example.org"], 1)]:
        assert len(history(daemon, *choice)) == count, choice
    # As if an hour had passed.
    file = daemon.spool / "history"
    lines = file.read_text().splitlines(keepends=True)
    time, _, rest = lines[0].partition("\t")
    lines[0] = f"{int(time) - 3_601_000}\t{rest}"
    file.write_text("".join(lines))
    assert len(history(daemon, "--since", "1h")) == 3


@pytest.mark.parametrize("arguments", [
    ["--since", "5"], ["--since"], ["--to", "no address"], ["x"], ["--what"]],
    ids="-".join)
def test_log_wrong_arguments(daemon, arguments):
    assert daemon.relayctl("log", *arguments).returncode == 64


def test_a_relays_fault_fills_no_history(daemon, host):
    host.fault("GREETING", "421 4.3.2 later", then="close")
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    daemon.wait_log("status=deferred")
    assert history(daemon) == []


def test_history_size_0_keeps_none(make_daemon, host):
    daemon = make_daemon(top={"history_size": "0"}).start()
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    daemon.wait_log("status=sent")
    assert history(daemon) == []
    assert not (daemon.spool / "history").exists()


def test_a_history_that_cannot_be_written_stops_no_mail(make_daemon, host):
    daemon = make_daemon().start()
    (daemon.spool / "history").mkdir()
    for _ in range(3):
        assert daemon.sendmail("root", data=TEXT).returncode == 0
    host.wait_messages(3)
    daemon.wait_log("status=sent", 3)
    warnings = [line for line in daemon.log if "history" in line]
    assert len(warnings) == 1
    assert "warning: history: 1 lines could not be written: " in warnings[0]


@pytest.mark.root
def test_only_root_and_the_owner_read_it(daemon):
    for verb in (["log"], ["show", "00000000000a"]):
        result = subprocess.run(
            ["setpriv", "--reuid=65533", "--clear-groups",
             BIN / "relayctl", "-f", daemon.file, *verb],
            capture_output=True, text=True, timeout=TIMEOUT)
        assert result.returncode == 1
        assert "Permission denied" in result.stderr and not result.stdout


# One message.

@pytest.fixture
def waiting(daemon, host):
    host.fault("RCPT", "450 4.2.1 la\x1bter", match="you@")
    assert daemon.sendmail("-N", "never", "-f", "root", "root",
                           "a@example.org", data=TEXT).returncode == 0
    daemon.wait_log("status=deferred")
    # It is logged before it is written down.
    while not json.loads(daemon.relayctl("queue", "--json").stdout)[0][
            "attempts"]:
        pass
    return queue_id(daemon)


def test_show(daemon, host, waiting):
    shown = subprocess.run([BIN / "relayctl", "-f", daemon.file, "show",
                            waiting], capture_output=True, timeout=TIMEOUT)
    assert shown.returncode == 0, shown.stderr
    envelope, _, content = shown.stdout.partition(b"\n\n")
    lines = envelope.decode("ascii").split("\n")
    assert lines[:3] == [f"id: {waiting}", "state: waiting",
                         f"size: {len(content)}"]
    assert re.fullmatch(r"arrived: \S+ \S+, \d s ago, from .*uid \d+",
                        lines[3])
    assert lines[4] == "sender: <relay@example.com> (given as <root>)"
    assert lines[5] == "attempts: 1"
    assert re.fullmatch(r"next try: in \d+ s", lines[6])
    assert lines[7] == r"reason: 450 4.2.1 la\x1bter"
    assert sorted(lines[8:]) == [
        "recipient: sent, <a@example.org>",
        "recipient: waiting, <you@example.com> (given as <root>)"]
    message, = host.wait_messages(1)
    assert content == message.data


@pytest.mark.parametrize("place", ["hold", "failed"])
def test_show_finds_it_wherever_it_is(daemon, host, waiting, place):
    if place == "hold":
        assert daemon.relayctl("hold", waiting).returncode == 0
    else:
        host.mend()
        host.fault("RCPT", "550 5.1.1 no")
        assert daemon.relayctl("flush").returncode == 0
        daemon.wait_log("kept in failed/")
    assert daemon.stop() == 0
    assert f"state: {place}\n" in daemon.relayctl("show", waiting).stdout


@pytest.mark.defective_input("InvalidHeaderDefect")
def test_show_cannot_move_the_cursor_of_a_terminal(daemon, host):
    host.fault("RCPT", "450 4.2.1 later")
    body = "a\x1b]0;x\x07b é \u009b1m\u202e\tend\x7f".encode() + b"\xff\n"
    assert daemon.sendmail("root", data=TEXT + body).returncode == 0
    daemon.wait_log("status=deferred")
    shown = on_terminal(daemon, "show", queue_id(daemon))
    line = shown.splitlines()[-1]
    assert line == rb"a\x1b]0;x\x07b " + "é ".encode() + \
        rb"\xc2\x9b1m" + "\u202e\tend".encode() + rb"\x7f\xff"


@pytest.mark.parametrize("name, status, text", [
    ("00000000000a", 1, "no such message"), ("../lock", 64, "not a queue id"),
    ("", 64, "not a queue id")])
def test_show_of_what_is_not_there(daemon, name, status, text):
    result = daemon.relayctl("show", name)
    assert result.returncode == status and text in result.stdout


def test_show_of_a_damaged_message_says_so(daemon, waiting):
    assert daemon.stop() == 0
    file = daemon.spool / "cur" / waiting
    data = bytearray(file.read_bytes())
    data[data.index(b"full\r\n")] ^= 1
    file.write_bytes(data)
    result = daemon.relayctl("show", waiting)
    assert result.returncode == 1 and "it is damaged" in result.stdout
    daemon.forget_traces()


# The configuration.

@pytest.fixture
def conf(directory):
    """A file that other programs' tests need not know."""
    file = directory / "relayd.conf"
    file.write_text("# mine\nfrom = \"a@example.com\"  # why\n"
                    "relay \"r\" {\n\thost = \"h.example\"\n}\n")
    file.chmod(0o640)
    return file


def relayctl(file, *arguments):
    return subprocess.run([BIN / "relayctl", "-f", file, *arguments],
                          capture_output=True, text=True, timeout=TIMEOUT)


@pytest.mark.root
def test_set_keeps_owner_mode_and_all_else(conf):
    os.chown(conf, 65533, 65532)
    result = relayctl(conf, "set", "relay.r.port", "2525")
    assert (result.returncode, result.stderr) == (0, "")
    assert "relayctl reload" in result.stdout
    assert conf.read_text() == (
        "# mine\nfrom = \"a@example.com\"  # why\n"
        "relay \"r\" {\n\thost = \"h.example\"\n\tport = 2525\n}\n")
    st = conf.stat()
    assert (st.st_uid, st.st_gid, st.st_mode & 0o7777) == (
        65533, 65532, 0o640)
    assert os.listdir(conf.parent) == ["relayd.conf"]
    assert relayctl(conf, "config", "relay.r.port").stdout == "port = 2525\n"
    assert relayctl(conf, "config", "-n", "log").stdout == ""


@pytest.mark.parametrize("key, value, text", [
    ("from", "nobody", "relayd.conf:2: from: \"nobody\" must be a full"),
    ("relay.r.port", "0", "relayd.conf:5: relay.r.port: "),
    ("relay.r.tls", "none", None),
    ("relay.r.user", "me", "relay.r.user: has no password"),
    ("frm", "a@b.example", "nearest known one is \"from\""),
    ("relay.s.port", "1", "no such section"),
    ("dkim", "1", "not in this version"),
    ("relay.r.password", "x", "list of processes")])
def test_set_changes_nothing_to_the_worse(conf, key, value, text):
    before = conf.read_text(), conf.stat().st_ino
    result = relayctl(conf, "set", key, value)
    if text is None:
        assert result.returncode == 0, result.stderr
        return
    assert result.returncode == 1 and text in result.stderr
    assert (conf.read_text(), conf.stat().st_ino) == before
    assert os.listdir(conf.parent) == ["relayd.conf"]


def test_set_mends_a_file_that_is_wrong(conf):
    conf.write_text(conf.read_text() + "log = \"loud\"\n")
    assert relayctl(conf, "config").returncode == 1
    assert relayctl(conf, "set", "log", "stderr").returncode == 0
    assert "log = \"stderr\"\n" in relayctl(conf, "config", "-n").stdout


def test_set_follows_a_link(conf, directory):
    link = directory / "link.conf"
    link.symlink_to("relayd.conf")
    assert relayctl(link, "set", "log", "stderr").returncode == 0
    assert link.is_symlink() and conf.read_text().endswith(
        "log = \"stderr\"\n")


def test_set_names_the_file_that_has_the_key(conf, directory):
    other = directory / "other.conf"
    other.write_text("log = \"stderr\"\n")
    conf.write_text(conf.read_text() + "include(\"other.conf\")\n")
    result = relayctl(conf, "set", "log", "syslog")
    assert result.returncode == 1 and f"{other}, line 1" in result.stderr
    # Relative includes go on to be found.
    assert relayctl(conf, "set", "log_level", "debug").returncode == 0
    assert "log = \"stderr\"\n" in relayctl(conf, "config").stdout


def test_set_tells_of_a_directory_that_is_read_only(conf):
    result = relayctl("/proc/sys/kernel/ostype", "set", "log", "auto")
    assert result.returncode == 1 and result.stderr
    assert relayctl(conf.parent / "none", "set", "log", "x").returncode == 1


@pytest.mark.parametrize("arguments", [
    ["set"], ["set", "log"], ["config", "a", "b"], ["config", "-x"]],
    ids="-".join)
def test_config_wrong_arguments(conf, arguments):
    assert relayctl(conf, *arguments).returncode == 64


def test_what_is_set_takes_effect_on_reload(daemon):
    assert daemon.relayctl("set", "log_level", "debug").returncode == 0
    assert daemon.relayctl("reload").returncode == 0
    daemon.wait_log("reloaded")
    text = daemon.relayctl("config").stdout
    assert "log_level = \"debug\"\n" in text
    assert str(daemon.password_file) in text and "pass-word-7" not in text


# Health.

def health(daemon, *arguments):
    result = daemon.relayctl("healthcheck", *arguments)
    assert result.stdout == ""  # with standard error
    return result.returncode


def test_healthcheck_of_old_mail(daemon, host):
    assert health(daemon) == 0
    host.fault("RCPT", "450 4.2.1 later")
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    daemon.wait_log("status=deferred")
    assert health(daemon) == 0
    assert health(daemon, "-a", "0") == 1
    assert daemon.relayctl("hold", "--all").returncode == 0
    assert health(daemon, "-a", "0") == 0   # the operator's wish


def test_healthcheck_of_a_paused_relay(daemon, host):
    host.fault("GREETING", "421 4.3.2 later", then="close")
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    daemon.wait_log("status=deferred")
    assert health(daemon, "-a", "365d") == 1
    host.mend()
    assert daemon.relayctl("flush").returncode == 0
    daemon.wait_log("status=sent")
    assert health(daemon) == 0


def test_healthcheck_without_the_daemon(daemon):
    daemon.stop()
    assert health(daemon) == 1


@pytest.mark.parametrize("arguments", [["-a"], ["-a", "5"], ["-a", "-1s"],
                                       ["x"], ["-b"]], ids="-".join)
def test_healthcheck_wrong_arguments(daemon, arguments):
    assert daemon.relayctl("healthcheck", *arguments).returncode == 64


def test_status_fits_on_a_terminal(daemon, host, outcomes):
    """But for a word that is longer than a line."""
    def told():
        text = daemon.relayctl("status").stdout
        assert max(map(len, text.splitlines())) <= 80, text
        return text
    assert "    encrypted: TLSv1" in told() and "see relayctl queue" in told()
    daemon.stop()
    host.fault("GREETING", "421 4.3.2 " + "later, later " * 20, then="close")
    daemon.start()
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    daemon.wait_log("is paused")
    assert re.search(r"paused, .*\n.*\n    last error: .*\n(        .*\n){4,}"
                     r"    what to do:\n        ", told())
