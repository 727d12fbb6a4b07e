"""The real programs in a temporary directory, for the end-to-end tests."""

import atexit
import email
import email.policy
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

import durable
from relayhost import TIMEOUT

HERE = pathlib.Path(__file__).resolve().parent
PEERS = HERE.parent / "build/peers"
ROOT = os.geteuid() == 0


def find_programs():
    """Where they are, or a copy that other users can reach: the tree may lie
    in a directory that is root's alone, and some tests become somebody."""
    found = pathlib.Path(os.environ.get("RELAYD_BIN", HERE.parent)).resolve()
    if not ROOT or all(path.stat().st_mode & 1
                       for path in (found, *found.parents)):
        return found
    copy = pathlib.Path(tempfile.mkdtemp(prefix="relayd-test-bin-"))
    atexit.register(shutil.rmtree, copy)
    copy.chmod(0o755)
    for name in ("relayd", "sendmail", "relayctl", "mailq", "newaliases"):
        shutil.copy(found / name, copy / name, follow_symlinks=False)
    return copy


BIN = find_programs()
BUILD = pathlib.Path(os.environ.get("RELAYD_BUILD", HERE.parent / "build"))
PRELOADABLE = BUILD / "tests/sendmail"  # the other may be linked statically
SANITIZED = b"__asan_init" in (BIN / "relayd").read_bytes()
DAEMON_USER = "nobody"
USER, PASSWORD = "relay@example.com", "pass-word-7"


def quote(value):
    """A value in relayd.conf's syntax."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return '"' + re.sub(r'([\\"$])', r"\\\1", value) + '"'
    return "{" + ", ".join(quote(one) for one in value) + "}"


def keys(table, indent=""):
    """None as a value leaves a key out."""
    return "".join(f"{indent}{key} = {quote(value)}\n"
                   for key, value in table.items() if value is not None)


class Daemon:
    """relayd with a configuration of its own below directory.

    host      the Relayhost it sends to
    relay     keys of the relay section, over those that host asks for
    relays    more of them: a list of (name, host, keys)
    top       keys outside of any section
    trace     check what strace saw of it (durable.py) when it has stopped
    strace    its options then
    wrapper   command that runs it, such as private.sh
    """

    def __init__(self, directory, host, *, relay=None, relays=(), top=None,
                 aliases="root: you@example.com\n", trace=True, wrapper=(),
                 strace=durable.STRACE):
        self.directory = pathlib.Path(directory)
        self.file = self.directory / "relayd.conf"
        self.run = self.directory / "run"
        self.socket = self.run / "submit.sock"
        self.spool = self.directory / "spool"
        self.password_file = self.directory / "password"
        self.wrapper, self.trace = tuple(wrapper), trace and ROOT
        self.strace = tuple(strace)
        self.log, self.process, self._killed = [], None, False
        self._traces, self._starts, self._ended = [], 0, True
        self._changed = threading.Condition()
        self.set_password(PASSWORD)
        (self.directory / "aliases").write_text(aliases)
        self.top = {
            "hostname": "web1.example.com", "origin": "example.com",
            # mailutils asks the kernel.
            "local_names": ["localhost", "web1.example.com", "web1",
                            os.uname().nodename],
            "aliases": str(self.directory / "aliases"),
            "spool": str(self.spool), "user": DAEMON_USER if ROOT else None,
            "control": f"unix:{self.run}/control.sock", "log": "stderr",
            "min_free_space": "0", **(top or {})}
        self.relay = self._relay(host, relay or {})
        self.relays = [(name, self._relay(other, more))
                       for name, other, more in relays]
        self.write_config()

    def _relay(self, host, more):
        return {"host": "localhost", "port": host.port,
                "tls_ca_file": str(host.authority.ca_file),
                "user": USER, "password_file": str(self.password_file),
                **more}

    def set_password(self, password):
        self.password_file.write_text(password + "\n")
        self.password_file.chmod(0o600)
        if ROOT:
            import pwd
            os.chown(self.password_file, pwd.getpwnam(DAEMON_USER).pw_uid, -1)

    def write_config(self):
        self.file.write_text(
            keys(self.top) +
            f"listen {quote(f'unix:{self.socket}')} {{\nmode = \"0666\"\n}}\n"
            "listen \"127.0.0.1:0\" {\n}\n" +
            "".join(f"relay {quote(name)} {{\n{keys(relay, '    ')}}}\n"
                    for name, relay in [("test", self.relay), *self.relays]),
            errors="surrogateescape")

    # Running.

    def start(self, inject=()):
        """Returns when it is ready.  inject: strace's -e inject=..."""
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = self.directory / "notify.sock"
        path.unlink(missing_ok=True)
        notify.bind(str(path))
        path.chmod(0o666)
        command = [str(BIN / "relayd"), "-f", str(self.file)]
        environment = dict(os.environ, NOTIFY_SOCKET=str(path))
        if self.trace:
            trace = self.directory / f"trace.{len(self._traces)}"
            self._traces.append(trace)
            options = [one for one in self.strace
                       # With this, strace injects no signals.
                       if one != "--seccomp-bpf" or
                       not any("signal=" in fault for fault in inject)]
            command = ["strace", *options,
                       *(f"--inject={one}" for one in inject),
                       "-o", str(trace), *command]
            # The leak check does not work under ptrace; and what has been
            # freed is to be reused, or memory can't be measured.
            environment["ASAN_OPTIONS"] = \
                "detect_leaks=0:quarantine_size_mb=1:" + \
                environment.get("ASAN_OPTIONS", "")
        self._ended = False
        self._starts += 1
        self.process = subprocess.Popen(
            [*self.wrapper, *command], env=environment, cwd=self.directory,
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        threading.Thread(target=self._read_log, args=(self.process.stderr,),
                         daemon=True).start()
        self._wait_ready(notify)
        notify.close()
        return self

    def _wait_ready(self, notify):
        pidfd = os.pidfd_open(self.process.pid)
        try:
            while True:
                ready = select.select([notify, pidfd], [], [], TIMEOUT)[0]
                if notify in ready and b"READY=1" in notify.recv(4096):
                    return
                if pidfd in ready or not ready:
                    self.process.kill()
                    self.wait_end()
                    raise AssertionError("relayd did not become ready:\n" +
                                         "\n".join(self.log))
        finally:
            os.close(pidfd)

    def _read_log(self, stream):
        for line in stream:
            with self._changed:
                self.log.append(line.decode("utf-8", "replace").rstrip("\n"))
                self._changed.notify_all()
        # End of file: the daemon is gone, and strace with it.
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_end(self, timeout=TIMEOUT):
        with self._changed:
            assert self._changed.wait_for(lambda: self._ended, timeout), \
                "relayd does not end:\n" + "\n".join(self.log[-20:])
        self.process.stderr.close()
        return self.process.wait()

    def kill(self):
        self._killed = True
        self.process.send_signal(signal.SIGKILL)
        return self.wait_end()

    def stop(self):
        if self.process is None or self._ended:
            return None
        self.process.send_signal(signal.SIGTERM)
        return self.wait_end()

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def wait_log(self, pattern, count=1, timeout=TIMEOUT):
        """Until so many lines match; returns the last one's match."""
        def found():
            return [match for line in self.log
                    if (match := re.search(pattern, line))]
        with self._changed:
            assert self._changed.wait_for(
                lambda: len(found()) >= count, timeout), \
                f"no log line {pattern!r}:\n" + "\n".join(self.log[-40:])
            return found()[count - 1]

    def wait_log_or_end(self, pattern, timeout=TIMEOUT):
        """Until a line matches, or the daemon has ended."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: self._ended or any(re.search(pattern, line)
                                           for line in self.log), timeout), \
                f"no log line {pattern!r}:\n" + "\n".join(self.log[-40:])

    @property
    def ended(self):
        return self._ended

    def expect_killed(self, by=signal.SIGKILL):
        """A signal, that strace injects or a test sends, has killed it."""
        self._killed = True
        assert self.wait_end() == -by

    def wait(self, condition, timeout=TIMEOUT):
        """Until condition() is true; it is looked at after each log line."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout), \
                "\n".join(self.log[-40:])

    @property
    def port(self):
        """Of the present process, which has told before it was ready."""
        return int(self.wait_log(r"listening on 127\.0\.0\.1:(\d+)",
                                 self._starts)[1])

    # The other programs.

    def sendmail(self, *arguments, data=b"", program=BIN / "sendmail",
                 **environment):
        return subprocess.run(
            [program, *arguments], input=data, capture_output=True,
            timeout=TIMEOUT, env={**os.environ, **environment,
                                  "RELAYD_SOCKET": str(self.socket)})

    def relayctl(self, *arguments, stderr=subprocess.STDOUT):
        return subprocess.run(
            [BIN / "relayctl", "-f", self.file, *arguments], text=True,
            stdout=subprocess.PIPE, stderr=stderr, timeout=TIMEOUT)

    def queued(self, place=None):
        """Names of the files in the spool."""
        places = [place] if place else ["new", "cur", "hold", "failed"]
        return sorted(file.name for one in places
                      for file in (self.spool / one).iterdir())

    # The check.

    def check_durability(self):
        """Over all its traces; the daemon has ended."""
        every = set()
        for trace in self._traces:
            with open(trace, encoding="utf-8",
                      errors="surrogateescape") as lines:
                acknowledged, violations = durable.check(lines, self.spool)
            assert not violations, f"{trace.name}: " + "\n".join(violations)
            every |= acknowledged
        # The check is worth nothing if it overlooks messages: what a client
        # handed over and was sent must have been acknowledged, but for those
        # in the making when it was killed.
        told = {match[1] for line in self.log if (match := re.search(
            r"relayd/(?:smtpd|pickup)\[\d+\]: (\w+): (?:client|uid)=", line))}
        sent = {match[1] for line in self.log if (match := re.search(
            r"relayd/smtp\[\d+\]: (\w+): to=.*status=sent", line))}
        if self._traces and not self._killed:
            assert sent & told <= every, sent & told - every
        return every

    def traces(self):
        return list(self._traces)

    def forget_traces(self):
        """The test itself has seen to it that they fail the check."""
        self._traces.clear()


def private(scratch, command, binds=(), end_all=False):
    """The command line to run a command with build/peers over the system.
    With end_all killing it ends all that it started."""
    return [str(HERE / "private.sh"), *(["--end-all"] if end_all else []),
            str(scratch),
            *(f"{source}:{target}" for source, target in binds),
            "--", *map(str, command)]


def crlf(text):
    return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def defects(data, utf8=False):
    """What Python's parser, which forgives, has to forgive in a message: the
    names of its defects, those of a header field behind the field's.  Not of
    long fields, nor of a long body: it is slow."""
    header = data.partition(b"\r\n\r\n")[0]
    whole, data = data, data if len(data) < 1 << 20 else header + b"\r\n\r\n"
    if utf8:
        parsed = email.message_from_string(data.decode(),
                                           policy=email.policy.SMTPUTF8)
    else:
        parsed = email.message_from_bytes(data, policy=email.policy.SMTP)
    found = set()
    for part in parsed.walk():
        found |= {type(defect).__name__ for defect in part.defects}
        for name, raw in part.raw_items():
            if len(raw) > 10_000:
                continue
            try:
                value = part.policy.header_fetch_parse(name, raw)
                names = {type(defect).__name__ for defect in value.defects}
            except Exception as error:  # pylint: disable=broad-except
                names = {type(error).__name__}  # Python's own
            if utf8:    # its policies don't know when that is allowed
                names.discard("NonASCIILocalPartDefect")
            found |= {f"{name.lower()}: {one}" for one in names}
    if whole.count(b"\r\n") != whole.count(b"\r") or \
            whole.count(b"\r\n") != whole.count(b"\n"):
        found.add("bare newline")
    if re.search(rb"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]", header):
        found.add("control character in the header")
    return found


def assert_valid(message):
    """The header is one that any relayhost accepts (RFC 5322)."""
    data = message.data
    assert data.count(b"\r") == data.count(b"\n") == data.count(b"\r\n")
    parsed = email.message_from_bytes(message.header + b"\r\n",
                                      policy=email.policy.SMTP)
    assert not parsed.defects, parsed.defects
    names = [name.lower() for name in parsed.keys()]
    for name in ("from", "date", "message-id"):
        assert names.count(name) == 1, (name, message.header)
    assert "bcc" not in names and names[0] == "received"
    for name, value in parsed.items():
        assert not value.defects, (name, value, value.defects)
        if name.lower() in ("from", "to", "cc", "sender", "reply-to"):
            assert value.addresses, (name, value)
            for address in value.addresses:
                assert address.username and "." in address.domain, value
    assert parsed["date"].datetime is not None
    assert re.fullmatch(r"<[^<>@\s]+@[^<>@\s]+>", parsed["message-id"].strip())
    return parsed


def decoded_body(message):
    """The body of one that is no multipart, as it was before it was encoded
    for the relayhost."""
    parsed = email.message_from_bytes(message.header + b"\r\n")
    if parsed["Content-Transfer-Encoding"] in ("base64", "quoted-printable"):
        parsed.set_payload(message.body.decode("ascii"))
        return parsed.get_payload(decode=True)
    return message.body


def peak(daemon):
    """Resident set at its highest, in MiB."""
    with open(f"/proc/{daemon.process.pid}/status") as status:
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1]) / 1024
