"""Logins and what stands before them: mechanisms, client certificates, pinned
keys, source addresses, proxies, a sender in place of the null sender."""

import base64
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from harness import BIN, DAEMON_USER, PASSWORD, ROOT, USER
from misbehaviour import assert_flows, assert_nothing_leaked, assert_told, hold
from proxy import Proxy
from relayhost import Authority

CLIENT = "web1.example.com"     # of the certificate
ALL = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256")


def login_commands(host):
    return [command for session in host.sessions
            for command in session.commands if command.startswith("AUTH")]


@pytest.mark.parametrize("offered, auth, taken", [
    (ALL, "auto", "SCRAM-SHA-256"),
    (("LOGIN", "CRAM-MD5", "PLAIN"), "auto", "PLAIN"),
    (("CRAM-MD5", "LOGIN"), "auto", "LOGIN"),
    (("CRAM-MD5", "DIGEST-MD5"), "auto", "CRAM-MD5"),
    (ALL, "scram-sha-256", "SCRAM-SHA-256"),
    (ALL, "plain", "PLAIN"),
    (ALL, "login", "LOGIN"),
    (ALL, "cram-md5", "CRAM-MD5"),
])
def test_mechanism(make_daemon, host, offered, auth, taken):
    host.auth = offered
    daemon = make_daemon(relay={"auth": auth}).start()
    hold(daemon)
    message, = host.wait_messages(1)
    assert message.user == USER
    assert login_commands(host)[0].split()[1] == taken
    assert_nothing_leaked(host)
    if taken in ("SCRAM-SHA-256", "CRAM-MD5"):
        everything = host.sessions[0].plain
        assert PASSWORD.encode() not in everything
        assert base64.b64encode(PASSWORD.encode()).rstrip(b"=") \
            not in everything
    assert not any(PASSWORD in line for line in daemon.log)


@pytest.mark.parametrize("how", ["wrong signature", "no signature",
                                 "other nonce", "iterations"])
def test_a_server_that_does_not_know_the_password(make_daemon, host, how):
    host.auth, host.scram = ALL, how
    daemon = make_daemon().start()
    hold(daemon)
    assert_told(daemon, r"SCRAM-SHA-256.*nothing was sent")
    assert {one.split()[1] for one in login_commands(host)} == \
        {"SCRAM-SHA-256"}
    assert not any(command.startswith("MAIL") for session in host.sessions
                   for command in session.commands)
    host.scram = ""
    assert_flows(daemon, host)
    assert_nothing_leaked(host)


def test_I28_a_refused_password_is_not_tried_by_another(make_daemon, host):
    host.auth = ALL
    host.users[USER] = "another"
    daemon = make_daemon().start()
    hold(daemon)
    assert_told(daemon, r"535 5\.7\.8 .*check user and password_file")
    for session in host.sessions:
        assert sum(one.startswith("AUTH") for one in session.commands) <= 1
    host.users[USER] = PASSWORD
    assert_flows(daemon, host)


def test_a_mechanism_that_is_not_there_makes_room(make_daemon, host):
    host.auth, host.auth_broken = ALL, ("SCRAM-SHA-256",)
    daemon = make_daemon().start()
    hold(daemon)
    message, = host.wait_messages(1)
    assert message.user == USER
    assert [one.split()[1] for one in login_commands(host)] == \
        ["SCRAM-SHA-256", "PLAIN"]


def test_a_long_password_comes_when_it_is_asked_for(make_daemon, host):
    host.auth = ("PLAIN",)
    host.users[USER] = "x" * 5000
    daemon = make_daemon()
    daemon.set_password("x" * 5000)
    daemon.start()
    hold(daemon)
    host.wait_messages(1)
    assert login_commands(host) == ["AUTH PLAIN"]


# Client certificates.

@pytest.fixture
def client(authority, directory):
    """tls_cert and tls_key, for the daemon's user only."""
    paths = {}
    for key, source in zip(("tls_cert", "tls_key"),
                           authority.certificate(CLIENT)):
        paths[key] = str(shutil.copy(source, directory / key))
        os.chmod(paths[key], 0o600)
        if ROOT:
            shutil.chown(paths[key], DAEMON_USER)
    return paths


def test_external(make_daemon, host, client):
    host.auth = (*ALL, "EXTERNAL")
    host.users = {CLIENT: ""}
    daemon = make_daemon(relay={**client, "auth": "external", "user": None,
                                "password_file": None}).start()
    hold(daemon)
    message, = host.wait_messages(1)
    assert message.user == CLIENT
    assert login_commands(host) == ["AUTH EXTERNAL ="]


def test_external_as_somebody_else_is_refused(make_daemon, host, client):
    host.auth = ("EXTERNAL",)
    daemon = make_daemon(relay={**client, "auth": "external",
                                "password_file": None}).start()
    hold(daemon)
    assert_told(daemon, r"535 5\.7\.8 .*check user and tls_cert")


def test_password_and_client_certificate(make_daemon, host, client):
    host.auth = (*ALL, "EXTERNAL")
    daemon = make_daemon(relay=client).start()
    hold(daemon)
    message, = host.wait_messages(1)
    assert message.user == USER


def check(daemon):
    return subprocess.run([BIN / "relayd", "-n", "-f", daemon.file],
                          stderr=subprocess.PIPE, text=True, check=False,
                          stdin=subprocess.DEVNULL)


def test_external_needs_no_password(make_daemon, client):
    daemon = make_daemon(relay={**client, "auth": "external"})
    done = check(daemon)
    assert done.returncode == 78
    assert re.search(r":\d+: relay\.test\.auth: \"external\" is a login "
                     "without a password", done.stderr)


def encrypt(client, _):
    key = client["tls_key"]
    subprocess.run(["openssl", "pkey", "-in", key, "-aes256", "-passout",
                    "pass:x", "-out", key + ".new"], check=True)
    shutil.copyfile(key + ".new", key)


def other_key(client, authority):
    shutil.copy(authority.certificate("self-signed")[1], client["tls_key"])


def no_key(client, _):
    shutil.copy(client["tls_cert"], client["tls_key"])


@pytest.mark.parametrize("spoil, key, words", [
    (lambda client, _: os.chmod(client["tls_key"], 0o644), "tls_key",
     "can be read by others; mend it: chmod 600"),
    (encrypt, "tls_key", "is encrypted"),
    (other_key, "tls_key", "is not the key of"),
    (no_key, "tls_key", "holds no private key in PEM form"),
    (lambda client, _: os.unlink(client["tls_key"]), "tls_key",
     "No such file"),
    (lambda client, _: os.unlink(client["tls_cert"]), "tls_cert",
     "No such file"),
    (lambda client, _: shutil.copy("/dev/null", client["tls_cert"]),
     "tls_cert", "holds no certificate in PEM form"),
], ids=["readable by others", "encrypted", "another's", "no key", "key missing",
        "certificate missing", "no certificate"])
def test_G5_client_certificate(make_daemon, host, client, spoil, key, words):
    """Told by -n with file and line; and at run time, when it is spoilt
    after the start, by a pause."""
    daemon = make_daemon(relay=client).start()
    spoil(client, host.authority)
    hold(daemon)
    daemon.wait_log(rf"paused \(config\): {key}: .*{words}")
    assert len(daemon.queued()) == 1 and host.sessions == []
    done = check(daemon)
    assert done.returncode == 78
    assert re.search(rf"(?m)^{re.escape(str(daemon.file))}:\d+: "
                     rf"relay\.test\.{key}: .*{words}", done.stderr), done
    told = daemon.relayctl("check")
    assert (told.returncode, told.stdout) == (1, done.stderr)


@pytest.mark.root
def test_a_key_that_the_daemon_can_not_read(make_daemon, client):
    """root can, and relayd -n is run by root."""
    daemon = make_daemon(relay=client)
    assert daemon.relayctl("check").returncode == 0
    os.chown(client["tls_key"], 0, 0)
    assert check(daemon).returncode == 0
    told = daemon.relayctl("check")
    words = f"relay test: tls_key: {client['tls_key']}: Permission denied"
    assert told.returncode == 1 and f"error: {words}\n" in told.stdout
    with pytest.raises(AssertionError, match=f"(?m)^{words}$"):
        daemon.start()
    assert daemon.process.wait() == 78


def assert_warned(daemon, told):
    """At start, by -n, relayctl check and at a reload."""
    daemon.start()
    daemon.wait_log("warning: .*" + re.escape(told))
    for done in daemon.relayctl("check"), check(daemon):
        assert done.returncode == 0
        assert f"{told}\n" in (done.stdout or done.stderr)
    seen = len(daemon.log)
    assert daemon.relayctl("reload").returncode == 0
    daemon.wait_log("reloaded")
    assert any("warning: " in line and told in line
               for line in daemon.log[seen:])


def show(client, certificate, key):
    shutil.copyfile(certificate, client["tls_cert"])
    shutil.copyfile(key, client["tls_key"])


@pytest.mark.parametrize("kind, words", [
    ("expired", "has expired"),
    ("early", "is not valid yet: is this machine's clock right?")])
def test_G5_an_untimely_certificate_is_a_warning(make_daemon, host, client,
                                                 authority, kind, words):
    show(client, *authority.certificate(kind))
    daemon = make_daemon(relay=client)
    assert_warned(daemon, f"relay.test.tls_cert: {client['tls_cert']}: {words}")
    hold(daemon)
    host.wait_messages(1)


ALONE = "the certificate of its issuer is neither behind it nor in tls_ca_file"


def test_G5_a_certificate_without_its_chain_is_a_warning(
        make_daemon, host, client, directory):
    show(client, *Authority(directory / "another").certificate(CLIENT))
    daemon = make_daemon(relay=client)
    assert_warned(daemon, f"relay.test.tls_cert: {client['tls_cert']}: "
                  f"{ALONE}, and the relayhost may ask for it")
    hold(daemon)
    host.wait_messages(1)


@pytest.mark.parametrize("kind, authority_of", [
    (CLIENT, "host"), ("rooted", "another"), ("self-signed", "another")],
    ids=["in tls_ca_file", "behind it", "its own"])
def test_G5_a_chain_that_is_there_is_no_warning(make_daemon, client, authority,
                                                directory, kind, authority_of):
    issuer = (authority if authority_of == "host"
              else Authority(directory / "another"))
    show(client, *issuer.certificate(kind))
    done = check(make_daemon(relay=client))
    assert (done.returncode, done.stderr) == (0, "")


# Pinned keys.

def pin(authority, kind="good"):
    cert, _ = authority.certificate(kind)
    public = subprocess.run(["openssl", "x509", "-in", cert, "-noout",
                             "-pubkey"], check=True, capture_output=True)
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"],
                         input=public.stdout, check=True,
                         capture_output=True).stdout
    return "sha256//" + base64.b64encode(hashlib.sha256(der).digest()).decode()


def test_pinned_key(make_daemon, authority, host):
    daemon = make_daemon(relay={"tls_pin": f"{pin(authority, 'expired')};"
                                           f"{pin(authority)}"}).start()
    hold(daemon)
    host.wait_messages(1)


def test_pinned_key_of_a_self_signed_certificate(make_daemon, authority, host):
    host.certificate = "self-signed"
    daemon = make_daemon(relay={"tls_pin": pin(authority, "self-signed"),
                                "tls_verify": False}).start()
    hold(daemon)
    host.wait_messages(1)
    assert not any("not verified" in line for line in daemon.log)


def test_pin_is_no_licence(make_daemon, authority, host):
    """The certificate is verified beside it."""
    host.certificate = "self-signed"
    daemon = make_daemon(
        relay={"tls_pin": pin(authority, "self-signed")}).start()
    hold(daemon)
    assert_told(daemon, "certificate.*not trusted: self-signed")


@pytest.mark.parametrize("verify", [True, False])
def test_I22_pin_mismatch(make_daemon, authority, host, verify):
    daemon = make_daemon(relay={"tls_pin": pin(authority, "expired"),
                                "tls_verify": verify}).start()
    hold(daemon)
    assert_told(daemon, r"public key of localhost.* is not the one in tls_pin")
    assert login_commands(host) == []
    assert_nothing_leaked(host)


# The way there.

def test_source(make_daemon, host):
    daemon = make_daemon(relay={"source": "127.0.0.2"}).start()
    hold(daemon)
    host.wait_messages(1)
    assert host.sessions[0].address[0] == "127.0.0.2"


def test_source_that_is_not_here(make_daemon, host):
    daemon = make_daemon(relay={"source": "192.0.2.77"}).start()
    hold(daemon)
    assert_told(daemon, r"source = \"192\.0\.2\.77\": is it an address of "
                        r"this machine\?")
    assert host.sessions == []


@pytest.mark.parametrize("scheme, kind, asked", [
    ("socks5", "socks5", "127.0.0.1"), ("socks5h", "socks5", "localhost"),
    ("http", "http", "localhost")])
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_proxy(make_daemon, host, scheme, kind, asked, tls):
    host.tls = tls
    with Proxy(kind) as proxy:
        daemon = make_daemon(relay={
            "proxy": f"{scheme}://127.0.0.1:{proxy.port}", "tls": tls,
            "family": "ipv4"}).start()
        hold(daemon)
        message, = host.wait_messages(1)
        assert message.user == USER
        assert proxy.asked == [(asked, host.port)]
        assert_nothing_leaked(host)
        assert f"through the proxy {scheme}://" in \
            daemon.relayctl("check").stdout
        daemon.stop()


@pytest.mark.parametrize("kind", ["socks5", "http"])
def test_proxy_that_refuses(make_daemon, host, kind):
    with Proxy(kind) as proxy:
        proxy.refuse = True
        url = f"{kind}://127.0.0.1:{proxy.port}"
        daemon = make_daemon(relay={"proxy": url, "family": "ipv4"}).start()
        hold(daemon)
        assert_told(daemon, "the proxy does not connect to localhost.*"
                            + re.escape(f"(proxy: {url})"))
        assert host.sessions == []
        proxy.refuse = False
        assert_flows(daemon, host)
        daemon.stop()


@pytest.mark.parametrize("kind", ["socks5", "http"])
def test_proxy_that_is_not_there(make_daemon, host, kind):
    with Proxy(kind) as proxy:
        url = f"{kind}://127.0.0.1:{proxy.port}"
    daemon = make_daemon(relay={"proxy": url}).start()
    hold(daemon)
    assert_told(daemon, "cannot connect to the proxy: Connection refused.*"
                        + re.escape(url))
    assert host.sessions == []


def test_the_environments_proxy_is_not_used(make_daemon, host, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("smtp_proxy", "http://127.0.0.1:9")
    daemon = make_daemon().start()
    hold(daemon)
    host.wait_messages(1)


def test_no_proxy_of_the_environment_is_obeyed(make_daemon, host, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with Proxy("socks5") as proxy:
        daemon = make_daemon(relay={
            "proxy": f"socks5h://127.0.0.1:{proxy.port}"}).start()
        hold(daemon)
        host.wait_messages(1)
        assert proxy.asked
        daemon.stop()


# password_command.

def children(pid):
    return [int(child) for path in
            pathlib.Path(f"/proc/{pid}/task").glob("*/children")
            for child in path.read_text().split()]


def assert_children_end(daemon):
    """The helper has none, not even unreaped ones."""
    pid, = (child for child in [daemon.process.pid, *children(
        daemon.process.pid)] if "relayd-helper" in
        pathlib.Path(f"/proc/{child}/comm").read_text())
    assert children(pid) == []


@pytest.fixture
def command(directory):
    """A command of the daemon's user: what it is to do, as a script."""
    script = directory / "command"

    def write(text):
        script.write_text(text + "\n")
        return f". {script}"
    return write


def test_password_command(make_daemon, host, command):
    daemon = make_daemon(relay={
        "password_file": None,
        "password_command": command(f"echo a hint >&2; echo {PASSWORD}")})
    daemon.start()
    hold(daemon)
    message, = host.wait_messages(1)
    assert message.user == USER
    daemon.wait_log("warning: relay test: password_command says: a hint")
    assert not any(PASSWORD in line for line in daemon.log)
    assert "password_command gives a password" in \
        daemon.relayctl("check").stdout


def test_G4_a_command_that_fails_pauses_the_relay(make_daemon, host, command):
    daemon = make_daemon(relay={
        "password_file": None,
        "password_command": command("printf 'no \\033[1m agent' >&2; exit 3")})
    daemon.start()
    hold(daemon)
    assert_told(daemon, r"password_command failed with exit status 3")
    daemon.wait_log(r"password_command says: no \\x1b\[1m agent")
    assert "(config)" in daemon.wait_log(r"is paused \S+").string
    assert host.sessions == []
    check = daemon.relayctl("check")
    assert check.returncode == 1
    assert "password_command failed with exit status 3" in check.stdout
    command(f"echo {PASSWORD}")
    assert_flows(daemon, host)


@pytest.fixture
def fifo(directory):
    """What holds it open for writing is told from its end of file."""
    path = directory / "fifo"
    os.mkfifo(path)
    path.chmod(0o666)
    return path


@pytest.mark.parametrize("text, words", [
    (":", "prints no password"),
    (f"echo {PASSWORD}; echo {PASSWORD}", "prints more than one line"),
    ("yes | head -c 1G", "prints more than 16 KiB"),
    ("setsid sh -c 'echo >{fifo}; exec head -n 1 {fifo}' &\n"
     "read up <{fifo}; exit",
     "prints no password")],
    ids=["nothing", "two lines", "1 GiB", "a child in its own session"])
def test_G4_a_command_of_no_use(make_daemon, host, command, directory, fifo,
                                text, words):
    """It is stopped, nothing of it is left with the helper, and the next time
    it is of use."""
    done = directory / "done"
    daemon = make_daemon(relay={
        "password_file": None, "password_command": command(
            text.format(fifo=fifo) + f"; echo >{done}")}).start()
    directory.chmod(0o777)
    hold(daemon)
    assert_told(daemon, "password_command " + words)
    assert host.sessions == []
    assert done.exists() == ("prints more than 16" not in words and
                             "exit" not in text)
    # The child in its own session is there still, and is no matter.
    assert_children_end(daemon)
    command(f"echo {PASSWORD}")
    assert_flows(daemon, host)
    assert_children_end(daemon)
    with open(fifo, "r+b", buffering=0) as end:
        end.write(b"x\n")   # it may end
        daemon.stop()


@pytest.mark.root
def test_G10_a_command_sees_nothing_of_the_daemon(
        make_daemon, host, command, directory, monkeypatch):
    """It is the daemon's user, and has no descriptor and no secret of it."""
    monkeypatch.setenv("RELAYD_PASSWORD", PASSWORD)
    seen = directory / "seen"
    seen.mkdir()
    shutil.chown(seen, DAEMON_USER)
    daemon = make_daemon(relay={
        "password_file": None, "password_command": command(
            f"cd {seen}; ls -l /proc/$$/fd | cat >fds\n"
            "cat /proc/$$/environ >env; cat /proc/$$/cmdline >cmdline\n"
            "id -un >user; id -Gn >groups\n"
            f"echo {PASSWORD}")}).start()
    hold(daemon)
    host.wait_messages(1)
    links = re.findall(r" (\d+) -> (.*)", (seen / "fds").read_text())
    # The shell has its script open besides.
    links = [(number, target) for number, target in links
             if target != str(directory / "command")]
    assert [number for number, _ in links] == ["0", "1", "2"], links
    assert links[0][1] == "/dev/null"
    assert all(target.startswith("pipe:") for _, target in links[1:])
    assert (seen / "user").read_text() == DAEMON_USER + "\n"
    for name in ("env", "cmdline"):
        assert PASSWORD.encode() not in (seen / name).read_bytes()
    assert b"NOTIFY_SOCKET" not in (seen / "env").read_bytes()
    assert "root" not in (seen / "groups").read_text().split()


def test_a_command_that_hangs_does_not_hold_up_others(
        make_daemon, host, command, directory):
    """The other relay goes on, the daemon answers and stops at once, and
    nothing is left."""
    os.mkfifo(directory / "fifo")
    (directory / "fifo").chmod(0o666)
    daemon = make_daemon(
        relay={"password_file": None, "senders": ["slow@example.com"],
               "password_command": command(
                   f"exec sleep 1000 3>{directory}/fifo")},
        relays=[("other", host, {})]).start()
    assert daemon.sendmail("-f", "slow@example.com", "root",
                           data=b"x\n").returncode == 0
    with open(directory / "fifo", "rb") as held:    # it runs
        hold(daemon)
        message, = host.wait_messages(1)
        assert message.sender != "slow@example.com"
        assert daemon.relayctl("status").stdout
        daemon.stop()
        assert held.read() == b""   # it has ended


def test_another_command_needs_a_restart(make_daemon, host, command):
    daemon = make_daemon(relay={"password_file": None,
                                "password_command": command("echo x")}).start()
    daemon.relay["password_command"] = "echo y"
    daemon.write_config()
    daemon.reload()
    daemon.wait_log(r"relay\.test\.password_command has changed: restart "
                    "needed")
    daemon.wait_log("the old configuration stays in force")


# The null sender.

def test_null_sender(make_daemon, host):
    host.fault("MAIL", "501 5.1.7 not from nobody", match="<>")
    daemon = make_daemon(relay={"null_sender": "bounces@example.com"}).start()
    done = daemon.sendmail("-f", "<>", "root", data=b"Subject: x\n\nx\n")
    assert done.returncode == 0
    message, = host.wait_messages(1)
    assert message.sender == "bounces@example.com"
    daemon.wait_log("from=<>")
    daemon.wait_log("status=sent")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
