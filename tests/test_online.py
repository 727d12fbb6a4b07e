"""The doctor, relayctl check --online: each broken set-up is told by its
first cause, with what mends it, and no mail is sent."""

import contextlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading

import pytest

from conftest import make_directory
from dns_server import DnsServer
from harness import DAEMON_USER, HERE, PASSWORD, USER, Daemon
from network import BlackHole, inside
from proxy import Proxy
from relayhost import Authority, Relayhost

pytestmark = pytest.mark.root

NAME, ADDRESS, FROM = "mail.relay.test", "127.0.0.2", "me@sender.test"
SES = "email-smtp.eu-west-1.amazonaws.com"
SPF, DMARC = "v=spf1 include:relay.test ~all", "v=DMARC1; p=none"
ZONE = {(NAME, "A"): [ADDRESS], (SES, "A"): [ADDRESS],
        ("sender.test", "MX"): ["10 mx.sender.test"],
        ("sender.test", "TXT"): ["google-site-verification=1", SPF],
        ("s1._domainkey.sender.test", "TXT"): ["v=DKIM1; p=MCow"],
        ("_dmarc.sender.test", "TXT"): [DMARC]}
STEPS = ["configuration", "dns", "tcp", "greeting", "ehlo", "starttls", "tls",
         "certificate", "ehlo-tls", "auth", "mail", "mx", "spf", "dkim",
         "dmarc"]
BRIEF = {"connect_timeout": "2s"}


@pytest.fixture(scope="module")
def authority():
    path = make_directory()
    yield Authority(path, NAME, SES)
    shutil.rmtree(path)


def zone(*without, **records):
    """ZONE with other records: name__TYPE=[...], an underscore for a dot."""
    changed = {key: value for key, value in ZONE.items() if key not in without}
    for key, value in records.items():
        name, kind = key.split("__")
        changed[name.replace("_", "."), kind] = value
    return changed


def sender_zone(kind, name, *values):
    return {**ZONE, (name, kind): list(values)}


@contextlib.contextmanager
def talker(words):
    """Says that before it is asked, and it is no SMTP."""
    listener = socket.create_server((ADDRESS, 587))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                with sock:
                    sock.sendall(words)

    threading.Thread(target=serve, daemon=True).start()
    yield
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def examine(directory, authority, *, records=None, dns="", serve=True,
            others=(), fault=None, relay=None, top=None, prepare=None,
            context=None, **host):
    """Look at a relayhost there; returns exit status, the object of --json,
    the text for people, and the sessions at the relayhost.

    records  the zone; dns: the name server's mode, None: there is none
    serve    the relayhost runs; others: what else does, made by calls
    fault    arguments of Relayhost.fault(); prepare: called with the Daemon
    context  of the relayhost's TLS, instead of that of its certificate
    """
    # Made by one thread, and used by several.
    authority.context(host.get("certificate", "good"))

    def look():
        with contextlib.ExitStack() as stack:
            if dns is not None:
                stack.enter_context(DnsServer(records or ZONE, dns))
            for one in others:
                stack.enter_context(one())
            server = Relayhost(authority, address=(
                ADDRESS, 587) if serve else ("127.0.0.1", 0),
                **{"users": {USER: PASSWORD}, **host})
            server.own_context = context
            stack.enter_context(server)
            if fault:
                server.fault(*fault[:-1], **fault[-1])
            daemon = Daemon(
                directory, server, top={"from": FROM, **(top or {})},
                relay={"host": NAME, "port": 587, "connect_timeout": "20s",
                       **(relay or {})})
            if prepare:
                prepare(daemon)
            machine = daemon.relayctl("check", "--online", "--json", "test",
                                      stderr=subprocess.DEVNULL)
            people = daemon.relayctl("check", "--online")
            assert machine.returncode == people.returncode, people.stdout
            assert not server.messages
            found, = json.loads(machine.stdout)
            return machine.returncode, found, people.stdout, server.sessions

    return inside(directory, look)


def warnings(found):
    return [step["cause"] for step in found["steps"]
            if step["state"] == "warning"]


def hide_authority(daemon):
    hidden = daemon.directory / "ca.pem"
    shutil.copy(daemon.relay["tls_ca_file"], hidden)
    hidden.chmod(0o600)
    daemon.relay["tls_ca_file"] = str(hidden)
    daemon.write_config()


def show_certificate(authority=None, kind="client.example", owner=DAEMON_USER):
    """It, and no password; without an authority that of the relayhost."""
    def prepare(daemon):
        known = authority or Authority(daemon.directory / "of-clients")
        for key, source in zip(("tls_cert", "tls_key"),
                               known.certificate(kind)):
            copy = daemon.directory / key
            shutil.copy(source, copy)
            copy.chmod(0o600)
            shutil.chown(copy, owner if key == "tls_key" else DAEMON_USER)
            daemon.relay[key] = str(copy)
        daemon.relay.update(auth="external", user=None, password_file=None)
        daemon.write_config()
    return prepare


def trust_another(daemon):
    """The relayhost's authority is not the one that we know."""
    daemon.relay["tls_ca_file"] = str(
        Authority(daemon.directory / "another").ca_file)
    daemon.write_config()


def listening(*ports):
    return [lambda port=port: socket.create_server((ADDRESS, port))
            for port in ports]


def refusing(point, reply, **more):
    return {"fault": (point, reply, more)}


# What is broken: the step, the cause, words of the advice, the line for
# relayd.conf or None.
BROKEN = {
    "a password that the daemon can't read": (
        {"prepare": lambda daemon: os.chown(daemon.password_file, 0, 0)},
        "configuration", "password", "relayctl reload", None),
    "a password_command that fails": (
        {"relay": {"password_file": None, "password_command":
                   "echo locked >&2; exit 3"}}, "configuration", "password",
        "relayctl reload", None),
    "a key that the daemon can't read": (
        {"prepare": show_certificate(owner="root")}, "configuration",
        "configuration", "relayctl reload", None),
    "an authority that the daemon can't read": (
        {"prepare": hide_authority}, "configuration", "ca-file",
        "user can read", None),
    "no DNS": (
        {"dns": None}, "dns", "dns-silent", "nameserver lines", None),
    "a silent name server": (
        {"dns": "silent"}, "dns", "dns-silent", "resolv.conf", None),
    "a name server that fails": (
        {"dns": "servfail"}, "dns", "dns-refused", "resolv.conf", None),
    "NXDOMAIN": (
        {"records": zone((NAME, "A"))}, "dns", "dns-no-name",
        "correct host", None),
    "a name without address": (
        {"records": sender_zone("A", NAME)}, "dns",
        "dns-no-address", "correct host, or family", None),
    "refused": (
        {"serve": False}, "tcp", "connect-refused", "firewalls let", None),
    "black hole": (
        {"serve": False, "relay": BRIEF,
         "others": [lambda: BlackHole((ADDRESS, 587))]},
        "tcp", "connect-timeout", "firewalls let", None),
    "port 25 blocked": (
        {"relay": {"port": 25, **BRIEF},
         "others": [lambda: BlackHole((ADDRESS, 25)), *listening(465)]},
        "tcp", "port-blocked", "use that port",
        'port = 587  tls = "starttls"'),
    "only port 465 open": (
        {"relay": {"port": 25}, "serve": False,
         "others": listening(465, 2587)},
        "tcp", "port-blocked", "use that port",
        'port = 465  tls = "implicit"'),
    "only port 2587 open": (
        {"serve": False, "others": listening(2587)},
        "tcp", "port-blocked", "use that port",
        'port = 2587  tls = "starttls"'),
    "greeting 421": (
        refusing("GREETING", "421 4.3.2 too busy"), "greeting",
        "greeting-busy", "ask its operator", None),
    "greeting 554": (
        refusing("GREETING", "554 5.7.1 you are listed"), "greeting",
        "greeting-refused", "block list", None),
    "HTTP": (
        {"serve": False, "others": [
            lambda: talker(b"HTTP/1.1 400 Bad Request\r\n\r\n")]},
        "greeting", "not-smtp", "an SMTP service", None),
    "garbage": (
        {"serve": False, "others": [
            lambda: talker(bytes(range(256)) * 64)]},
        "greeting", "not-smtp", "an SMTP service", None),
    "our name refused": (
        refusing("EHLO", "550 5.7.1 who are you"), "ehlo", "ehlo-refused",
        "set hostname", 'hostname = "host.example.com"'),
    "no STARTTLS": (
        {"tls": "none"}, "starttls", "starttls-missing",
        "465 with implicit", 'port = 465  tls = "implicit"'),
    "STARTTLS taken out": (
        {"tls": "none", "extensions": ["SIZE", "XXXXXXXA"]}, "starttls",
        "starttls-stripped", "SMTP inspection",
        'port = 465  tls = "implicit"'),
    "STARTTLS refused": (
        refusing("STARTTLS", "454 4.7.0 no"), "starttls", "starttls-refused",
        "587 goes with starttls", None),
    "TLS from the start": (
        {"tls": "implicit", "relay": BRIEF}, "greeting", "tls-implicit-port",
        "set tls", 'tls = "implicit"'),
    "plain SMTP first": (
        {"relay": {"tls": "implicit"}}, "tls", "tls-starttls-port", "set tls",
        'tls = "starttls"'),
    "TLS 1.0 only": (
        {"certificate": "old"}, "tls", "tls-too-old", "TLS 1.2", None),
    "self-signed": (
        {"certificate": "self-signed"}, "certificate",
        "certificate-self-signed", "tls_ca_file",
        'tls_ca_file = "/etc/relayd/ca.pem"'),
    "an authority that is not known": (
        {"prepare": trust_another}, "certificate", "certificate-authority",
        "of your own", 'tls_ca_file = "/etc/relayd/ca.pem"'),
    "an authority that is not known, and is sent along": (
        {"certificate": "rooted", "prepare": trust_another}, "certificate",
        "certificate-authority", "of your own",
        'tls_ca_file = "/etc/relayd/ca.pem"'),
    "a clock that is slow": (
        {"certificate": "early"}, "certificate", "clock-wrong",
        "set the clock", None),
    "expired": (
        {"certificate": "expired"}, "certificate", "certificate-expired",
        "renew it", None),
    "wrong name": (
        {"certificate": "wrong-name"}, "certificate", "certificate-name",
        "a name that is in the certificate", None),
    "no AUTH": (
        {"auth": ()}, "auth", "auth-missing", "leave user out",
        'auth = "none"'),
    "only an unsupported mechanism": (
        {"auth": ("GSSAPI",)}, "auth", "auth-mechanism",
        "a mechanism that the relayhost offers", None),
    "a wrong password (535)": (
        refusing("AUTH", "535 5.7.8 bad credentials"), "auth",
        "login-refused", "check user and password", None),
    "credentials of another region of SES (535)": (
        {"relay": {"host": None, "preset": "ses", "region": "eu-west-1"},
         **refusing("AUTH", "535 Authentication Credentials Invalid")},
        "auth", "ses-credentials", "for the region",
        'region = "us-east-1"'),
    "an ordinary password at Gmail (534)": (
        refusing("AUTH", "534-5.7.9 Application-specific password required.\r\n"
                 "534 5.7.9  https://support.google.com/mail"), "auth",
        "app-password", "app password", None),
    "basic authentication off": (
        refusing("AUTH", "550 5.7.30 Basic authentication is not supported "
                 "for Client Submission"), "auth", "basic-auth-off",
        "administrator", None),
    "no login (530)": (
        {"relay": {"user": None, "password_file": None}}, "mail",
        "login-required", "password_file", 'user = "me@example.com"'),
    "MAIL 550": (
        refusing("MAIL", "550 5.1.8 not you"), "mail", "sender-refused",
        "may send as", 'from = "me@example.com"'),
    "MAIL 553": (
        refusing("MAIL", "553 5.7.1 not owned by user"), "mail",
        "sender-refused", "may send as", 'from = "me@example.com"'),
    "a sender SES does not know": (
        refusing("MAIL", "554 Message rejected: Email address is not "
                 "verified"), "mail", "sender-unverified", "verify it there",
        'from = "verified@example.com"'),
    "slow": (
        {"relay": BRIEF, **refusing("EHLO", None, then="stall")}, "ehlo",
        "slow", "connect_timeout", 'connect_timeout = "3m"'),
    "silence after MAIL": (
        {"relay": BRIEF, **refusing("MAIL", None, then="stall")}, "mail",
        "slow", "connect_timeout", 'connect_timeout = "3m"'),
    "hung up": (
        refusing("AUTH", None, then="close"), "auth", "lost", "tried again",
        None),
}


@pytest.mark.parametrize("broken", BROKEN,
                         ids=[name.replace(" ", "-") for name in BROKEN])
def test_the_first_cause_is_named(directory, authority, broken):
    scene, step, cause, advice, line = BROKEN[broken]
    status, found, text, _ = examine(directory, authority, **scene)
    assert (status, found["step"], found["cause"]) == (1, step, cause), text
    assert advice in found["advice"] and found["line"] == line
    wrong = [one for one in found["steps"] if one["state"] == "wrong"]
    assert [one["step"] for one in wrong] == [step], "the first, and no more"
    # The same for people: the mark, the cause, what to do, the line.
    assert f"\n  !! {step} " in text
    assert f"\nwrong: {step}: {found['meaning']} ({cause})\n" \
           f"  what to do: {found['advice']}\n" in text
    if line:
        assert re.search(r"\n  in \S+relayd\.conf.*: " + re.escape(line), text)
    # What the relayhost said is there, word for word.
    reply = scene.get("fault", (None, None))[1]
    if reply:
        assert reply.split("\r\n")[0].partition(" ")[2] in wrong[0]["text"]


def test_all_is_well(directory, authority):
    status, found, text, sessions = examine(
        directory, authority,
        relay={"senders": ["other@sender.test", "*@wild.test", FROM, "*"]})
    assert status == 0 and found["cause"] is None, text
    assert "relay test: all is well" in text and "!!" not in text
    names = [step["step"] for step in found["steps"]]
    assert list(dict.fromkeys(names)) == STEPS
    assert {step["state"] for step in found["steps"]
            if step["step"] != "dkim"} == {"ok"}
    said = {step["step"]: step["text"] for step in found["steps"]}
    assert "SIZE 104857600" in said["ehlo-tls"]
    assert "AUTH PLAIN LOGIN" in said["ehlo-tls"]
    assert said["auth"] == "235 2.7.0 welcome"
    assert said["tls"].startswith("TLSv1.3")
    assert re.fullmatch(rf"{NAME}, for {NAME}, {SES}, by relayd test authority, "
                        r"valid \d+-\d+-\d+ to \d+-\d+-\d+",
                        said["certificate"])
    assert SPF in said["spf"] and DMARC in said["dmarc"]
    # Each sender is tried, and nothing sent.
    commands = [one.commands for one in sessions]
    asked = [verb for verb in sum(commands, []) if verb.startswith("MAIL")]
    assert asked == [f"MAIL FROM:<{FROM}>",
                     "MAIL FROM:<other@sender.test>"] * 2
    assert [one[-1] for one in commands if any("MAIL" in verb
                                              for verb in one)] == ["QUIT"] * 2
    assert PASSWORD not in text and PASSWORD not in json.dumps(found)


def test_implicit_tls(directory, authority):
    status, found, text, _ = examine(directory, authority, tls="implicit",
                                     relay={"tls": "implicit"})
    assert status == 0 and found["cause"] is None, text
    names = [step["step"] for step in found["steps"]]
    assert names.index("certificate") < names.index("greeting")


def test_a_password_command_is_run_as_the_daemon_runs_it(directory, authority):
    script = (f'[ "$(id -un):$(pwd)" = {DAEMON_USER}:/ ] && '
              f"echo hint >&2 && echo {PASSWORD}")
    status, found, text, sessions = examine(
        directory, authority,
        relay={"password_file": None, "password_command": script})
    assert status == 0 and found["cause"] is None, text
    assert found["steps"][0]["text"] == \
        f"password_command gives a password, user {USER}"
    assert "warning: relay test: password_command says: hint" in text
    assert [one.user for one in sessions if one.user] == [USER] * 2
    assert PASSWORD not in text and PASSWORD not in json.dumps(found)


def test_what_a_password_command_says_is_told(directory, authority):
    scene, *_ = BROKEN["a password_command that fails"]
    _, found, _, sessions = examine(directory, authority, **scene)
    assert found["steps"][0]["text"] == (
        r"password_command failed with exit status 3; it says: locked")
    assert not sessions


def clients_only(authority, newest):
    """TLS that ends where no certificate of the authority is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.certificate())
    context.load_verify_locations(authority.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = newest
    return context


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2,
                                    ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate_is_shown(directory, authority, newest):
    """By the login, and where the relayhost's certificate is looked at."""
    status, found, text, sessions = examine(
        directory, authority, prepare=show_certificate(authority),
        context=clients_only(authority, newest), auth=("EXTERNAL",),
        users={"client.example": ""})
    assert status == 0 and found["cause"] is None, text
    steps = {step["step"]: step for step in found["steps"]}
    assert steps["configuration"]["text"] == "login by the client certificate"
    assert steps["auth"]["text"] == "235 2.7.0 welcome"
    assert f"for {NAME}" in steps["certificate"]["text"]
    assert steps["mail"]["state"] == "ok"
    assert [one.user for one in sessions if one.user] == ["client.example"] * 2


def test_a_client_certificate_that_is_refused(directory, authority):
    """Another authority's: TLS 1.3 tells it late."""
    status, found, text, _ = examine(
        directory, authority, prepare=show_certificate(),
        context=clients_only(authority, ssl.TLSVersion.TLSv1_3))
    assert (status, found["cause"]) == (1, "client-certificate"), text


def test_a_client_certificate_that_has_expired(directory, authority):
    """Some relayhosts know it by its key, and it is no fault of theirs."""
    status, found, text, _ = examine(
        directory, authority, prepare=show_certificate(kind="expired"),
        users={}, relay={"auth": "none"})
    assert warnings(found) == ["client-certificate-expired"], text
    assert re.search(r"relay\.test\.tls_cert: \S+/tls_cert: has expired",
                     text)


def behind(refuse=False):
    """The relayhost is known to, and reached by, a proxy only."""
    made = []

    def start():
        made.append(Proxy("http", (ADDRESS, 587)))
        made[0].refuse = refuse
        return made[0]

    def prepare(daemon):
        daemon.relay["proxy"] = f"http://127.0.0.1:{made[0].port}"
        daemon.write_config()

    return {"records": zone((NAME, "A")), "others": [start],
            "prepare": prepare}


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_dns_and_tcp_are_left_to_a_proxy(directory, authority, tls):
    status, found, text, _ = examine(directory, authority, tls=tls,
                                     relay={"tls": tls}, **behind())
    assert status == 0 and found["cause"] is None, text
    steps = {step["step"]: step for step in found["steps"]}
    for name in ("dns", "tcp"):
        assert steps[name]["state"] == "unknown"
        assert steps[name]["text"] == "left to the proxy"
    assert steps["tls"]["text"].startswith("TLSv1.3")
    assert "certificate" not in steps, "it is not looked at the direct way"
    assert steps["auth"]["state"] == steps["mail"]["state"] == "ok"


@pytest.mark.parametrize("scene, step, cause, words", [
    (behind(refuse=True), "tcp", "connect", "the proxy does not connect"),
    ({**behind(), "certificate": "expired"}, "certificate",
     "certificate-expired", "expired"),
    ({**behind(), "tls": "implicit", "relay": BRIEF}, "greeting", "slow",
     "timed out")])
def test_what_is_wrong_behind_a_proxy(directory, authority, scene, step,
                                      cause, words):
    status, found, text, _ = examine(directory, authority, **scene)
    assert (status, found["step"], found["cause"]) == (1, step, cause), text
    wrong, = (one for one in found["steps"] if one["state"] == "wrong")
    assert words in wrong["text"] and "it has" not in wrong["text"]


def test_the_probes_come_from_source(directory, authority):
    """So the family is that of source, and what it can't reach is known."""
    status, found, text, sessions = examine(
        directory, authority, relay={"source": "127.0.0.9"},
        records=sender_zone("AAAA", NAME, "2001:db8::1"))
    assert status == 0 and not warnings(found), text
    dns, = (step for step in found["steps"] if step["step"] == "dns")
    assert dns["text"] == ADDRESS
    assert {one.address[0] for one in sessions} == {"127.0.0.9"}


@pytest.mark.parametrize("kind, dead, cause, line", [
    ("AAAA", "2001:db8::1", "ipv6-broken", 'family = "ipv4"'),
    ("A", "127.0.0.3", "address-dead", None)])
def test_one_address_is_dead(directory, authority, kind, dead, cause, line):
    records = {**ZONE, (NAME, "A"): [ADDRESS]}
    records[NAME, kind] = [*records.get((NAME, kind), ()), dead]
    status, found, text, _ = examine(directory, authority, records=records)
    assert status == 0 and warnings(found) == [cause], text
    step, = (one for one in found["steps"] if one["cause"] == cause)
    assert step["line"] == line and dead in step["text"]
    assert f"warning: tcp: {step['meaning']} ({cause})" in text


SENDER = {
    "no SPF": (sender_zone("TXT", "sender.test", "something else"),
               "spf-missing", "v=spf1 include"),
    "two SPF records": (sender_zone("TXT", "sender.test", SPF, SPF),
                        "spf-wrong", "exactly one"),
    "SPF for everybody": (sender_zone("TXT", "sender.test", "v=spf1 +all"),
                          "spf-wrong", "~all or -all"),
    "another version than spf1": (
        sender_zone("TXT", "sender.test", "v=spf10 -all"), "spf-missing", ""),
    "no DKIM key": (zone(("s1._domainkey.sender.test", "TXT")),
                    "dkim-missing", "switch DKIM on"),
    "no DMARC": (zone(("_dmarc.sender.test", "TXT")), "dmarc-missing",
                 "v=DMARC1; p=none"),
    "two DMARC records": (
        sender_zone("TXT", "_dmarc.sender.test", DMARC, DMARC),
        "dmarc-wrong", "exactly one"),
    "DMARC without policy": (
        sender_zone("TXT", "_dmarc.sender.test", "v=DMARC1; rua=mailto:a@b"),
        "dmarc-wrong", "p="),
    "SPF FOR EVERYBODY": (sender_zone("TXT", "sender.test", "V=SPF1 ALL"),
                          "spf-wrong", "~all or -all"),
    "a domain without mail": (
        zone(("sender.test", "MX")), "sender-domain", "takes mail"),
    "a domain that wants no mail": (
        sender_zone("MX", "sender.test", "0 ."), "sender-domain",
        "takes mail"),
}


@pytest.mark.parametrize("case", SENDER)
def test_the_senders_domain_is_looked_at(directory, authority, case):
    records, cause, advice = SENDER[case]
    status, found, text, _ = examine(directory, authority, records=records)
    assert status == 0 and found["cause"] is None, text
    assert warnings(found) == [cause], text
    step, = (one for one in found["steps"] if one["cause"] == cause)
    assert advice in step["advice"] and f"({cause})" in text


def test_long_answers_come_by_TCP_and_DMARC_from_above(directory, authority):
    long = SPF.replace("~all", "".join(
        f"ip4:192.0.2.{number} " for number in range(60)) + "~all")
    records = {**ZONE, ("sub.sender.test", "TXT"): [long],
               ("sub.sender.test", "A"): ["192.0.2.1"],
               ("s1._domainkey.sub.sender.test", "TXT"): ["v=DKIM1; p=MCow"]}
    status, found, text, _ = examine(directory, authority, records=records,
                                     top={"from": "me@sub.sender.test"})
    assert status == 0 and not warnings(found), text
    said = {step["step"]: step["text"] for step in found["steps"]}
    assert "ip4:192.0.2.59 ~all" in said["spf"]     # two strings, one record
    assert said["dmarc"] == f"_dmarc.sender.test: {DMARC}"


def test_foreign_words_are_escaped(directory, authority):
    _, _, text, _ = examine(
        directory, authority, fault=("MAIL", b"550 \x1b[2Jred\x07\r\n", {}),
        records=sender_zone("TXT", "sender.test", "v=spf1 \x1b[2J -all"))
    assert "\x1b" not in text and "\x07" not in text
    assert r"550 \x1b[2Jred\x07" in text and r"v=spf1 \x1b[2J -all" in text


def test_what_the_relayhost_has_instead_is_told(directory, authority):
    for kind, step, has in (("old", "tls", "TLSv1 with cipher"),
                            ("wrong-name", "certificate", "for other.example")):
        place = directory / kind
        place.mkdir()
        _, found, text, _ = examine(place, authority, certificate=kind)
        wrong, = (one for one in found["steps"] if one["state"] == "wrong")
        assert wrong["step"] == step and "; it has: " in wrong["text"]
        assert has in wrong["text"], text


def test_the_manual_lists_every_cause():
    top = HERE.parent
    causes = set(re.findall(r'\{\s*\\?\s*"([a-z0-9]+(?:-[a-z0-9]+)*)",',
                            (top / "advice.c").read_text()))
    manual = (top / "man/relayctl.8").read_text().partition(
        ".Ss check --online --json\n")[2].partition("\n.Ss ")[0]
    listed = set(re.findall(r"^\.It Li ([a-z0-9-]+)$", manual, re.M))
    assert len(causes) > 40 and listed == causes


@pytest.mark.parametrize("words, status", [
    (["--online", "no-such-relay"], 64), (["--json"], 64),
    (["--online", "test", "more"], 64), (["test"], 64)])
def test_usage(make_daemon, words, status):
    assert make_daemon().relayctl("check", *words).returncode == status
