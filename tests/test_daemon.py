"""relayd as a process: what it is handed at its start, whom it becomes, how
it is told to read its configuration again and to stop."""

import os
import pwd
import re
import shutil
import smtplib
import socket
import subprocess

import pytest

import durable
from harness import (BIN, DAEMON_USER, PASSWORD, ROOT, TIMEOUT, USER, keys,
                     private)

TEXT = b"Subject: disk full\n\n/var is full.\n"
DIALOGUE = (b"EHLO client\r\nMAIL FROM:<app@example.net>\r\n"
            b"RCPT TO:<root>\r\nDATA\r\n" + TEXT.replace(b"\n", b"\r\n") +
            b".\r\nQUIT\r\n")


def relayd(daemon, *arguments, data=b"", wrapper=(), **environment):
    """Run it until it ends by itself."""
    return subprocess.run(
        [*wrapper, BIN / "relayd", "-f", daemon.file, *arguments], input=data,
        capture_output=True, timeout=TIMEOUT,
        env={**os.environ, **environment})


def refusal(daemon, *arguments, status=78):
    """The lines on standard error of a relayd that does not start."""
    done = relayd(daemon, *arguments)
    assert done.returncode == status, done.stderr.decode()
    return done.stderr.decode().splitlines()


def hello(address):
    """The name it greets with."""
    family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
    with socket.socket(family) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(address if family == socket.AF_INET else str(address))
        return sock.makefile("rb").readline().split()[1].decode()


def proc(daemon, name):
    with open(f"/proc/{daemon.process.pid}/{name}", encoding="utf-8") as file:
        return dict(line.rstrip("\n").split(":", 1) for line in file
                    if ":" in line)


# Options.

def test_wrong_usage(daemon):
    for arguments in ("-x",), ("operand",), ("-f",), ("--stdio=x",):
        done = subprocess.run([BIN / "relayd", *arguments],
                              capture_output=True, timeout=TIMEOUT)
        assert done.returncode == 64 and b"usage: relayd" in done.stderr
    done = subprocess.run([BIN / "relayd", "-V"], capture_output=True,
                          check=True, timeout=TIMEOUT)
    assert re.fullmatch(rb"relayd \d+\.\d+\.\d+\n", done.stdout)


# Configuration.

def test_a_good_configuration(make_daemon):
    done = relayd(make_daemon(), "-n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("option", [["-n"], [], ["--stdio"]])
def test_all_configuration_errors_at_once(make_daemon, option):
    daemon = make_daemon()
    daemon.file.write_text('recipient_limit = 0\n'
                           'relay "a" {\n'
                           '\thost = "localhost"\n'
                           '\tport = 99999\n'
                           '\ttls = "maybe"\n'
                           '\toauth2 = "x"\n'
                           '}\n'
                           'no_such_key = 1\n')
    lines = refusal(daemon, *option)
    starts = ["1: recipient_limit: ", "4: relay.a.port: ", "5: relay.a.tls: ",
              "6: relay.a.oauth2: not in this version", "8: no_such_key: "]
    assert len(lines) == len(starts), lines
    for start in starts:
        assert [line for line in lines
                if line.startswith(f"{daemon.file}:{start}")], (start, lines)
    assert not daemon.spool.exists()


def test_a_missing_configuration(make_daemon):
    daemon = make_daemon()
    daemon.file.unlink()
    line, = refusal(daemon)
    assert str(daemon.file) in line and "No such file" in line


@pytest.mark.root
def test_no_such_user(make_daemon):
    line, = refusal(make_daemon(top={"user": "nosuchuser"}))
    assert "useradd --system" in line and line.endswith(" nosuchuser")


@pytest.mark.root
def test_a_user_who_is_root(make_daemon):
    line, = refusal(make_daemon(top={"user": "root"}))
    assert "user root is root" in line


@pytest.mark.root
def test_a_password_that_the_user_cannot_read(make_daemon):
    daemon = make_daemon()
    os.chown(daemon.password_file, 0, 0)
    daemon.password_file.chmod(0o600)
    assert f"{daemon.password_file}: Permission denied" in \
        refusal(daemon)[-1]


@pytest.mark.parametrize("mode, words", [
    (0o755, "can be read by others; mend it with: chmod 700")])
def test_a_spool_that_others_can_read(make_daemon, mode, words):
    daemon = make_daemon()
    daemon.spool.mkdir()
    if ROOT:
        os.chown(daemon.spool, pwd.getpwnam(DAEMON_USER).pw_uid, -1)
    daemon.spool.chmod(mode)
    assert words in refusal(daemon)[-1]


@pytest.mark.root
def test_a_spool_of_somebody_else(make_daemon):
    daemon = make_daemon()
    daemon.spool.mkdir(0o700)
    assert "mend it with: chown -R " in refusal(daemon)[-1]


@pytest.mark.root
def test_a_message_is_written_to_a_relayhost_that_waits_at_once(
        make_daemon, host, directory):
    """Its commands and its content are one record on the way."""
    daemon = make_daemon(trace=False).start()
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    daemon.wait_log("status=sent")
    with subprocess.Popen(
            ["strace", "-p", str(daemon.process.pid), "-e", "trace=sendto",
             "-o", str(directory / "sent")],
            stderr=subprocess.PIPE, text=True) as strace:
        assert "attached" in strace.stderr.readline()
        assert daemon.sendmail("root", data=TEXT).returncode == 0
        daemon.wait_log("status=sent", 2)
        strace.terminate()
    assert len(host.messages) == 2 and len(host.sessions) == 1
    assert (directory / "sent").read_text().count("sendto(") == 1


def test_a_second_daemon_on_the_same_spool(daemon, host):
    line, = refusal(daemon, status=75)
    assert f"locked by pid {daemon.process.pid}: " in line
    # --stdio is no way around the lock.
    assert refusal(daemon, "--stdio", status=75) == [line]
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    host.wait_messages(1)


@pytest.mark.root
def test_default_listeners(make_daemon, directory):
    """In a network of its own, which has no ::1 as its loopback is down."""
    (directory / "private").mkdir()
    daemon = make_daemon(trace=False, wrapper=private(
        directory / "private", ["unshare", "--net"]))
    daemon.file.write_text(keys(daemon.top) +
                           f"relay \"test\" {{\n{keys(daemon.relay)}}}\n")
    daemon.start()
    daemon.wait_log(r"warning: \[::1\]:25: Cannot assign requested address")
    daemon.wait_log(r"listening on 127\.0\.0\.1:25$")
    daemon.wait_log(r"listening on unix:/run/relayd/submit\.sock$")


# Whom it becomes.

@pytest.mark.root
def test_the_state_of_the_process(make_daemon):
    """Without strace, whose tracees can gain no privileges anyway."""
    daemon = make_daemon(trace=False, wrapper=("setpriv", "--groups", "1,2"))
    daemon.start()
    user = pwd.getpwnam(DAEMON_USER)
    status = proc(daemon, "status")
    assert status["Uid"].split() == [str(user.pw_uid)] * 4
    assert status["Gid"].split() == [str(user.pw_gid)] * 4
    assert status["Groups"].split() == []
    assert status["NoNewPrivs"].strip() == "1"
    for kind in "CapEff", "CapPrm", "CapInh", "CapAmb":
        assert int(status[kind], 16) == 0
    assert status["Umask"].strip() == "0077"
    # Not dumpable: its memory is root's.
    assert os.stat(f"/proc/{daemon.process.pid}/mem").st_uid == 0
    with open(f"/proc/{daemon.process.pid}/limits", encoding="utf-8") as file:
        assert re.search(r"^Max core file size +0 +0 ", file.read(), re.M)
    # And what it made as root is its user's.
    for path, mode in (daemon.spool, 0o40700), (daemon.run, 0o40755):
        assert (path.stat().st_uid, path.stat().st_mode) == (user.pw_uid, mode)


# What it is handed.

ACTIVATE = """
import os, socket, sys
end = sys.argv.index("--")
sockets = []
for address in sys.argv[1:end]:
    host, _, port = address.rpartition(":")
    if host == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(port)
        os.chmod(port, 0o666)
    else:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, int(port)))
    sock.listen()
    sockets.append(sock.detach())
# Out of the way of the places that they have to take.
sockets = [os.dup2(one, 100 + one) for one in sockets]
for place, one in enumerate(sockets):
    os.dup2(one, 3 + place)
    os.close(one)
os.environ["LISTEN_FDS"] = str(len(sockets))
os.environ["LISTEN_PID"] = str(os.getpid() + int(os.environ["WRONG_PID"]))
os.execv(sys.argv[end + 1], sys.argv[end + 1:])
"""


@pytest.fixture
def reserve():
    """Ports that nobody else gets while we hold them."""
    held = []

    def reserver(address):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((address, 0))
        held.append(sock)
        return sock.getsockname()

    yield reserver
    for sock in held:
        sock.close()


def activated(*addresses, wrong_pid=0):
    """The wrapper for a Daemon that is handed these sockets."""
    return ["env", f"WRONG_PID={wrong_pid}", "/usr/bin/python3", "-c",
            ACTIVATE, *(one if isinstance(one, str) else "%s:%d" % one
                        for one in addresses), "--", shutil.which("env")]


def send_bare_newlines(address):
    """Only to a listener of its own kind such a message is nothing."""
    with smtplib.SMTP(*address, timeout=TIMEOUT) as client:
        client.ehlo("client")
        client.mail("app@example.net")
        client.rcpt("root")
        client.docmd("DATA")
        client.send(b"Subject: x\n\nbare\r\n.\r\n")
        return client.getreply()


def test_socket_activation(make_daemon, reserve, directory, host):
    matched, unmatched = reserve("127.0.0.1"), reserve("127.0.0.2")
    path = directory / "handed.sock"
    daemon = make_daemon(wrapper=activated(matched, unmatched, f"unix:{path}"))
    section = (f'listen "{matched[0]}:{matched[1]}" {{\n'
               'bare_newline = "reject"\n}\n')
    without = daemon.file.read_text()
    daemon.file.write_text(without + section)
    daemon.start()
    # The section with its address is the socket's; without one, defaults.
    code, text = send_bare_newlines(matched)
    assert (code, text[:6]) == (550, b"5.6.11")
    assert send_bare_newlines(unmatched)[0] == 250
    assert hello(path) == "web1.example.com"
    # What is written down but was not handed over is bound all the same.
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    host.wait_messages(2)
    # They came with the service's start and stay with it.
    daemon.file.write_text(without)
    daemon.reload()
    daemon.wait_log("reloaded")
    for address in matched, unmatched, path:
        assert hello(address) == "web1.example.com"
    # The file is its maker's: it is there for the next start.
    assert daemon.stop() == 0
    assert path.exists()


def test_the_control_socket_is_handed_over(make_daemon, directory):
    path = directory / "control.sock"
    daemon = make_daemon(top={"control": f"unix:{path}"},
                         wrapper=activated(f"unix:{path}")).start()
    assert daemon.relayctl("status").returncode == 0
    assert not [line for line in daemon.log
                if f"listening on unix:{path}" in line]


def test_a_socket_that_others_can_reach_needs_its_section(make_daemon,
                                                          reserve):
    address = "0.0.0.0", reserve("0.0.0.0")[1]
    daemon = make_daemon()
    done = relayd(daemon, wrapper=activated(address))
    assert done.returncode == 78
    assert (f"{address[0]}:{address[1]} was handed over by the system, but no "
            "listen section") in done.stderr.decode()


def test_sockets_for_another_process_are_left_alone(make_daemon, reserve):
    address = reserve("127.0.0.1")
    # strace would hold it open.
    daemon = make_daemon(wrapper=activated(address, wrong_pid=1),
                         trace=False).start()
    with pytest.raises(ConnectionRefusedError):
        hello(address)
    assert daemon.stop() == 0


# Readiness.

def test_readiness(make_daemon):
    daemon = make_daemon()
    name = f"\0relayd-test-{os.getpid()}-{id(daemon)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.settimeout(TIMEOUT)
        notify.bind(name)
        process = subprocess.Popen(
            [BIN / "relayd", "-f", daemon.file], stderr=subprocess.DEVNULL,
            env={**os.environ, "NOTIFY_SOCKET": "@" + name[1:]})
        try:
            assert notify.recv(100) == b"READY=1"
            assert hello(daemon.socket) == "web1.example.com"
            process.send_signal(1)
            assert [notify.recv(100) for _ in range(2)] == [b"RELOADING=1",
                                                            b"READY=1"]
            process.terminate()
            assert notify.recv(100) == b"STOPPING=1"
            assert process.wait(TIMEOUT) == 0
        finally:
            process.kill()
            process.wait()


# Reload.

def failed_reload(daemon, *words):
    """The lines that say why; the old configuration is in force."""
    daemon.reload()
    daemon.wait_log("error: reload failed; the old configuration stays in "
                    "force")
    for word in words:
        daemon.wait_log(f"relayd\\[\\d+\\]: error: {word}")
    assert not [line for line in daemon.log if "reloaded" in line]
    assert hello(daemon.socket) == "web1.example.com"


def test_reload(daemon, host):
    assert hello(daemon.socket) == "web1.example.com"
    daemon.top["hostname"] = "web2.example.com"
    daemon.top["from"] = "alerts@example.com"
    daemon.write_config()
    daemon.reload()
    daemon.wait_log(f"relayd\\[\\d+\\]: reloaded {re.escape(str(daemon.file))}")
    assert not any("chmod" in line for line in daemon.log)
    assert hello(daemon.socket) == "web2.example.com"
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    message, = host.wait_messages(1)
    assert message.sender == "alerts@example.com"
    assert host.sessions[0].commands[-1] != "QUIT"
    assert "EHLO web2.example.com" in host.sessions[0].commands


def test_reload_with_a_broken_configuration(daemon, host):
    daemon.top["hostname"] = "web2.example.com"
    daemon.top["recipient_limit"] = 0
    daemon.top["no_such_key"] = "x"
    daemon.write_config()
    place = re.escape(str(daemon.file)) + r":\d+: "
    failed_reload(daemon, place + "recipient_limit: ", place + "no_such_key: ")
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    host.wait_messages(1)


def test_reload_of_what_needs_a_restart(daemon):
    daemon.top["hostname"] = "web2.example.com"
    daemon.top["spool"] = str(daemon.directory / "elsewhere")
    daemon.top["control"] = f"unix:{daemon.run}/other.sock"
    daemon.write_config()
    failed_reload(daemon, "spool has changed: restart needed",
                  "control has changed: restart needed")
    assert not (daemon.directory / "elsewhere").exists()


def test_reload_with_a_listener_that_cannot_be_bound(daemon):
    """On an address that no machine has (RFC 5737)."""
    daemon.top["hostname"] = "web2.example.com"
    daemon.write_config()
    daemon.file.write_text(daemon.file.read_text() +
                           'listen "192.0.2.1:0" {\n}\n')
    failed_reload(daemon, "192.0.2.1:0: Cannot assign requested address")


# The end.

def test_sigterm_finishes_what_runs(daemon, host):
    # A reply that takes its time, octet by octet.
    fault = host.fault("END", slow=0.05, times=1)
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    host.wait_hits(fault)
    assert daemon.stop() == 0
    daemon.wait_log("status=sent")
    daemon.wait_log("relayd.*: stopped$")
    assert not [line for line in daemon.log if "cut off" in line]
    assert daemon.queued() == [] and len(host.messages) == 1
    assert host.sessions[0].commands[-1] == "QUIT"


def test_sigterm_begins_nothing_new(make_daemon, host):
    daemon = make_daemon(relay={"connections": 1, "pipeline": 1}).start()
    fault = host.fault("END", slow=0.05, times=1)
    for _ in range(2):
        assert daemon.sendmail("root", data=TEXT).returncode == 0
    host.wait_hits(fault)
    assert daemon.stop() == 0
    assert len(host.messages) == 1 and len(daemon.queued()) == 1
    daemon.start()
    host.wait_messages(2)


@pytest.mark.slow
def test_sigterm_does_not_wait_for_ever(daemon, host):
    fault = host.fault("END", then="stall", times=1)
    assert daemon.sendmail("root", data=TEXT).returncode == 0
    host.wait_hits(fault)
    assert daemon.stop() == 0
    daemon.wait_log("warning: transactions still running after 10 s are cut "
                    "off")
    assert len(daemon.queued()) == 1
    daemon.start()
    host.wait_messages(1)


def test_sigterm_and_clients(daemon, host):
    """One that is between messages is told so; one in a message may end it,
    and what it was told is true."""
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=TIMEOUT) as idle, \
            smtplib.SMTP("127.0.0.1", daemon.port, timeout=TIMEOUT) as busy:
        idle.ehlo("client")
        busy.ehlo("client")
        busy.mail("app@example.net")
        busy.rcpt("root")
        assert busy.docmd("DATA")[0] == 354
        busy.send(b"Subject: x\r\n")
        daemon.process.terminate()
        assert idle.getreply()[0] == 421
        with pytest.raises(OSError):
            hello(daemon.socket)
        busy.send(b"\r\nbody\r\n.\r\n")
        assert busy.getreply()[0] == 250
        assert busy.getreply()[0] == 421
    assert daemon.wait_end() == 0
    assert len(daemon.queued()) == 1
    daemon.start()
    host.wait_messages(1)


# Without the daemon.

def test_stdio(make_daemon, host):
    # What it has to log is not for the caller's eyes.
    daemon = make_daemon(top={"log": "auto"})
    done = relayd(daemon, "--stdio", data=DIALOGUE)
    assert done.returncode == 0 and done.stderr == b""
    codes = [line[:4] for line in done.stdout.splitlines()]
    assert [code for code in codes if code[3:] == b" "] == [
        b"220 ", b"250 ", b"250 ", b"250 ", b"354 ", b"250 ", b"221 "]
    assert len(daemon.queued("new")) == 1
    # Nobody was there to see when the reply came.
    daemon.trace = False
    daemon.start()
    message, = host.wait_messages(1)
    assert message.recipients == ["you@example.com"]
    assert message.body == b"/var is full.\r\n"
    assert f"userid {os.getuid()}".encode() in message.header


@pytest.mark.root
def test_stdio_is_durable(make_daemon):
    daemon = make_daemon()
    trace = daemon.directory / "trace"
    done = relayd(daemon, "--stdio", data=DIALOGUE, wrapper=(
        "strace", *durable.STRACE, "-o", str(trace)), ASAN_OPTIONS=
        "detect_leaks=0:" + os.environ.get("ASAN_OPTIONS", ""))
    assert done.returncode == 0
    with open(trace, encoding="utf-8", errors="surrogateescape") as lines:
        acknowledged, violations = durable.check(lines, daemon.spool)
    assert sorted(acknowledged) == daemon.queued("new") and not violations


@pytest.mark.root
def test_sendmail_without_the_daemon(make_daemon, directory, host):
    """root's sendmail runs relayd for its message; it knows only the usual
    configuration file."""
    daemon = make_daemon(trace=False)
    scratch = directory / "private"
    scratch.mkdir()

    def sendmail(user):
        return subprocess.run(
            private(scratch, ["sh", "-euc", """
                mkdir -p /etc/relayd
                cp "$1" /etc/relayd/relayd.conf
                exec setpriv --reuid="$2" --clear-groups "$3" root""",
                "sh", daemon.file, user, BIN / "sendmail"]),
            input=TEXT, capture_output=True, timeout=TIMEOUT,
            env={"PATH": os.environ["PATH"], "RELAYD_WAIT": "0"})

    done = sendmail("root")
    assert done.returncode == 0, done.stderr.decode()
    name, = daemon.queued("new")
    # Others have to try again later.
    done = sendmail("games")
    assert done.returncode == 75
    assert done.stderr.startswith(b"sendmail: relayd is not running")
    assert daemon.queued() == [name]
    daemon.start()
    message, = host.wait_messages(1)
    assert message.recipients == ["you@example.com"]
    assert message.sender == USER and PASSWORD.encode() not in message.data
