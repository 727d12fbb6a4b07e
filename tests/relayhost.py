"""A relayhost for tests and for README's demonstration.

It speaks ESMTP with STARTTLS or implicit TLS and AUTH (PLAIN and LOGIN, unless
told otherwise), keeps what it received, logs every byte that came in, and
misbehaves on request:

    with Relayhost(authority) as host:
        host.fault("RCPT", "450 4.2.1 later", match="bob", times=1)
        ...
        message, = host.wait_messages(1)

Everything about it may be changed while it runs.  As a program it is a demo:

    relayhost.py --demo DIR      writes DIR/port and DIR/ca.pem, prints mail
"""

import argparse
import base64
import dataclasses
import datetime
import hashlib
import hmac
import os
import pathlib
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
import warnings

TIMEOUT = 60
observers = []  # told of every message that any Relayhost receives
EXTENSIONS = ("PIPELINING", "SIZE 104857600", "8BITMIME", "SMTPUTF8",
              "CHUNKING", "ENHANCEDSTATUSCODES")


class Authority:
    """A certificate authority of our own, made with the openssl command."""

    def __init__(self, directory, *names):
        self.names = names or ("localhost",)
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o755)
        self.ca_file = self.directory / "ca.pem"
        self._request("ca", "relayd test authority", "-x509", "-days", "3650")
        self._contexts = {}
        self._making = threading.Lock()    # for sessions that begin at once

    def _openssl(self, *arguments):
        subprocess.run(("openssl", *arguments), check=True,
                       cwd=self.directory, stdout=subprocess.DEVNULL,
                       stderr=subprocess.PIPE)

    def _request(self, name, subject, *more):
        self._openssl("req", "-new", "-newkey", "ec", "-pkeyopt",
                      "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
                      f"/CN={subject}", "-keyout", f"{name}.key", "-out",
                      f"{name}.pem", *more)

    def certificate(self, kind="good"):
        """Paths of certificate and key: good, expired, early (it is not valid
        yet), self-signed, wrong-name, rooted (with the authority's), or
        another host's or client's of that name."""
        cert, key = (self.directory / f"{kind}{end}" for end in
                     (".pem", ".key"))
        if cert.exists():
            return cert, key
        names = {"wrong-name": ("other.example",), **dict.fromkeys(
            ("good", "expired", "early", "self-signed", "rooted"),
            self.names)}.get(kind, (kind,))
        name = names[0]
        ours = names == self.names
        names = "subjectAltName=" + ",".join(f"DNS:{one}" for one in names)
        if ours:
            names += ",IP:127.0.0.1"
        if kind == "self-signed":
            self._request(kind, name, "-x509", "-days", "30", "-addext", names,
                          "-addext", "keyUsage=digitalSignature")
            return cert, key
        self._request(kind, name)
        cert.rename(cert.with_suffix(".csr"))
        cert.with_suffix(".ext").write_text(names + "\n")
        begin = {"early": 10, "expired": -31}.get(kind, -1)
        self._sign(kind, begin, begin + 30)
        if kind == "rooted":
            cert.write_text(cert.read_text() + self.ca_file.read_text())
        return cert, key

    def _sign(self, kind, begin, end):
        """Valid from so many days from now on, to so many."""
        now = datetime.datetime.now(datetime.timezone.utc)
        begin, end = ((now + datetime.timedelta(days=days)).strftime(
            "%Y%m%d%H%M%SZ") for days in (begin, end))
        (self.directory / "ca.cnf").write_text(
            "[ca]\ndefault_ca = all\n[all]\ndatabase = index\n"
            "rand_serial = yes\ndefault_md = sha256\nunique_subject = no\n"
            "policy = any\n[any]\ncommonName = supplied\n")
        (self.directory / "index").touch()
        self._openssl("ca", "-batch", "-config", "ca.cnf", "-notext",
                      "-cert", "ca.pem", "-keyfile", "ca.key",
                      "-in", f"{kind}.csr", "-extfile", f"{kind}.ext",
                      "-startdate", begin, "-enddate", end,
                      "-outdir", ".", "-out", f"{kind}.pem")

    def context(self, kind="good", clients=False):
        """Of such a certificate; "old": a good one, and no TLS but 1.0.

        clients: those that show a certificate of ours are known by it.
        """
        with self._making:
            if (kind, clients) not in self._contexts:
                self._contexts[kind, clients] = self._context(kind, clients)
            return self._contexts[kind, clients]

    def _context(self, kind, clients):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(
            *self.certificate("good" if kind == "old" else kind))
        if kind == "old":
            context.set_ciphers("DEFAULT@SECLEVEL=0")
            with warnings.catch_warnings():     # it is old indeed
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = ssl.TLSVersion.TLSv1
                context.maximum_version = ssl.TLSVersion.TLSv1
        if clients:
            context.load_verify_locations(self.ca_file)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context


@dataclasses.dataclass
class Message:
    sender: str = ""
    recipients: list = dataclasses.field(default_factory=list)
    refused: list = dataclasses.field(default_factory=list)
    mail_parameters: str = ""
    data: bytes = b""   # as the wire meant it: unstuffed, with CRLF
    verb: str = ""      # DATA or BDAT
    user: str = ""      # authenticated as
    tls: str = ""       # "TLSv1.3"; "" in clear
    session: int = 0    # number of the connection, from 0
    number: int = 0     # as its reply has it

    @property
    def header(self):
        return self.data.partition(b"\r\n\r\n")[0] + b"\r\n"

    @property
    def body(self):
        return self.data.partition(b"\r\n\r\n")[2]


@dataclasses.dataclass(eq=False)
class Fault:
    point: str
    reply: object       # text without its CRLF, bytes as they are, or None
    then: object        # go-on, close, reset, stall; or called, with session
    match: str          # regular expression for the command's argument
    times: int          # so often, then it is over; 0: for ever
    skip: int           # let so many pass first
    slow: float         # seconds between two octets of the reply
    keep: bool          # at END: the message counts as received all the same
    hits: int = 0


class Closed(Exception):
    pass


class Channel:
    """Octets to and from the client, in clear or in TLS; logs all that came
    in: clear (before any TLS), raw (the TCP stream), plain (within TLS).

    answered()  called when what was said waits for what comes in
    """

    def __init__(self, sock, answered):
        self.sock, self.answered = sock, answered
        self.said = True    # TCP's part of it
        self.clear, self.raw, self.plain = bytearray(), bytearray(), bytearray()
        self.pending = bytearray()
        self.tls = None

    def start_tls(self, context):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.incoming.write(bytes(self.pending))
        self.pending.clear()
        tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self.incoming.write(self._receive())
            except ssl.SSLError as error:
                self._flush()
                raise Closed from error
        self._flush()
        self.tls = tls

    def _receive(self):
        if self.said:
            self.said = False
            self.answered()
        data = self.sock.recv(1 << 16)
        if not data:
            raise Closed
        self.raw += data
        return data

    def _flush(self):
        if self.outgoing.pending:
            self.said = True
            self.sock.sendall(self.outgoing.read())

    def _fill(self):
        if self.tls is None:
            data = self._receive()
            self.clear += data
        else:
            while True:
                try:
                    data = self.tls.read(1 << 16)
                    break
                except ssl.SSLWantReadError:
                    self._flush()
                    self.incoming.write(self._receive())
                except ssl.SSLError as error:
                    raise Closed from error
            if not data:
                raise Closed
            self.plain += data
        self.pending += data

    def read_line(self):
        start = 0
        while (end := self.pending.find(b"\n", start)) < 0:
            start = len(self.pending)
            self._fill()
        line = bytes(self.pending[:end + 1])
        del self.pending[:end + 1]
        return line

    def read(self, count):
        while len(self.pending) < count:
            self._fill()
        data = bytes(self.pending[:count])
        del self.pending[:count]
        return data

    def read_data(self):
        """What DATA sends, up to CRLF.CRLF and without it."""
        start = 0
        if not self.pending.startswith(b".\r\n"):
            while len(self.pending) < 3:
                self._fill()
        if self.pending.startswith(b".\r\n"):
            del self.pending[:3]
            return b""
        while (end := self.pending.find(b"\r\n.\r\n", start)) < 0:
            start = max(0, len(self.pending) - 4)
            self._fill()
        data = bytes(self.pending[:end + 2])
        del self.pending[:end + 5]
        return data

    def write(self, data):
        if self.tls is None:
            self.said = True
            self.sock.sendall(data)
        else:
            self.tls.write(data)
            self._flush()


class Session:
    """One connection: the dialogue, a thread of its own."""

    def __init__(self, host, sock, number):
        self.host, self.number = host, number
        self.address = sock.getpeername()
        self.channel = Channel(sock, lambda: host.far_away(self))
        self.round_trips = host.round_trips
        self.commands = []
        self.user = ""
        self.closed = threading.Event()
        self.message = None
        self.chunks = None

    # What came in, for the assertions of tests.
    clear = property(lambda self: bytes(self.channel.clear))
    raw = property(lambda self: bytes(self.channel.raw))
    plain = property(lambda self: bytes(self.channel.plain))

    def reply(self, point, text, argument=""):
        """Answer, unless a fault has other plans.  Returns what was said."""
        fault = self.host.take_fault(point, argument)
        if fault is not None and fault.reply is not None:
            text = fault.reply
        elif fault is not None and fault.then != "go-on":
            text = b""
        data = text if isinstance(text, bytes) else text.encode() + b"\r\n"
        if fault is not None and fault.slow:
            for octet in data:
                self.channel.write(bytes([octet]))
                # Paces the reply; nothing is waited for here.
                self.closed.wait(fault.slow)
        elif data:
            self.channel.write(data)
        if fault is not None:
            self.interrupt(fault)
        return data.decode("latin-1")

    def interrupt(self, fault):
        if callable(fault.then):
            fault.then(self)
        if fault.then == "stall":
            self.host.stalled()
            while True:     # read on, so that the log shows what is sent
                self.channel._fill()
        if fault.then == "reset":
            self.channel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                         struct.pack("ii", 1, 0))
        if fault.then in ("close", "reset"):
            raise Closed

    def run(self):
        host = self.host
        try:
            if host.tls == "implicit":
                self.channel.start_tls(host.context)
            if self.reply("GREETING", "220 localhost ESMTP test")[:3] != "220":
                raise Closed
            while True:
                line = self.channel.read_line()
                verb, _, argument = \
                    line.decode("latin-1").rstrip("\r\n").partition(" ")
                self.commands.append((verb + " " + argument).strip())
                step = getattr(self, "on_" + verb.lower(), None)
                if step is None:
                    self.reply(verb.upper(), "500 5.5.2 what?")
                else:
                    step(argument)
        except (Closed, OSError):
            pass
        finally:
            self.close()

    def close(self):
        self.closed.set()
        try:
            self.channel.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.channel.sock.close()
        self.host.ended(self)

    def on_ehlo(self, argument):
        host, lines = self.host, ["localhost"]
        lines += host.extensions
        if host.tls == "starttls" and self.channel.tls is None:
            lines.append("STARTTLS")
        elif host.auth and (self.channel.tls is not None or host.auth_in_clear):
            lines.append("AUTH " + " ".join(host.auth))
        self.message = None
        text = "\r\n".join(f"250-{line}" for line in lines[:-1])
        self.reply("EHLO", f"{text}\r\n250 {lines[-1]}", argument)

    def on_helo(self, argument):
        self.reply("HELO", "250 localhost", argument)

    def on_starttls(self, argument):
        if self.host.tls != "starttls" or self.channel.tls is not None:
            self.reply("STARTTLS", "502 5.5.1 not here")
        elif self.reply("STARTTLS", "220 2.0.0 go ahead").startswith("220"):
            self.channel.start_tls(self.host.context)

    def _answer(self, challenge):
        """The response to a challenge; what goes out first is a fault's."""
        self.reply("CHALLENGE",
                   "334 " + base64.b64encode(challenge).decode())
        return base64.b64decode(self.channel.read_line().strip())

    # The mechanisms: whom a client is, and None unless it has proved it.

    def _plain(self, initial):
        answer = self._answer(b"") if initial is None else initial
        user, password = answer.split(b"\0")[1:]
        return user, self.host.password_of(user) == password

    def _login(self, initial):
        user = self._answer(b"Username:") if initial is None else initial
        return user, self._answer(b"Password:") == self.host.password_of(user)

    def _cram_md5(self, _):
        challenge = b"<%d@localhost>" % self.number
        user, _, digest = self._answer(challenge).rpartition(b" ")
        return user, digest.decode() == hmac.new(
            self.host.password_of(user), challenge, "md5").hexdigest()

    def _external(self, initial):
        identity = self._answer(b"") if initial is None else initial
        certificate = self.channel.tls.getpeercert() or {}
        names = [value for field in certificate.get("subject", ())
                 for key, value in field if key == "commonName"]
        user = identity or "".join(names).encode()
        return user, user.decode() in names

    def _scram_sha_256(self, initial):
        """RFC 5802.  scram: how the server misbehaves."""
        how, iterations = self.host.scram, 4096
        first = (self._answer(b"") if initial is None else initial).decode()
        bare = first.removeprefix("n,,")
        name, nonce = re.fullmatch("n=(.*),r=(.*)", bare).groups()
        user = name.replace("=2C", ",").replace("=3D", "=").encode()
        password = self.host.password_of(user)
        if how == "other nonce":
            nonce = nonce[::-1]
        if how == "iterations":
            iterations = 10 ** 9
        nonce, salt = nonce + "%hvYDpWUa2RaTCAfuxFIlj)", os.urandom(16)
        challenge = (f"r={nonce},s={base64.b64encode(salt).decode()},"
                     f"i={iterations}")
        if how == "extension":
            challenge = "m=x," + challenge
        final, _, proof = self._answer(
            challenge.encode()).decode().rpartition(",p=")
        message = f"{bare},{challenge},{final}".encode()
        salted = hashlib.pbkdf2_hmac("sha256", password, salt, iterations)

        def sign(key, text):
            return hmac.digest(key, text, "sha256")

        key = sign(salted, b"Client Key")
        mask = sign(hashlib.sha256(key).digest(), message)
        good = base64.b64decode(proof) == bytes(
            a ^ b for a, b in zip(key, mask)) and final == f"c=biws,r={nonce}"
        signature = sign(sign(salted, b"Server Key"), message)
        if how == "wrong signature":
            signature = bytes(32)
        if good and how != "no signature":
            self._answer(b"v=" + base64.b64encode(signature))
        return user, good

    def on_auth(self, argument):
        mechanism, _, initial = argument.partition(" ")
        prove = getattr(self, "_" + mechanism.lower().replace("-", "_"), None)
        if prove is None or mechanism in self.host.auth_broken:
            self.reply("AUTH", "504 5.7.4 unknown mechanism", argument)
            return
        if initial:
            initial = base64.b64decode("" if initial == "=" else initial)
        user, good = prove(initial if argument != mechanism else None)
        said = self.reply("AUTH", "235 2.7.0 welcome" if good else
                          "535 5.7.8 wrong user name or password", mechanism)
        if said.startswith("235"):
            self.user = user.decode()

    def on_mail(self, argument):
        match = re.match(r"FROM:<(.*?)>\s*(.*)", argument, re.I)
        if match is None or self.message is not None:
            self.reply("MAIL", "503 5.5.1 MAIL is not due", argument)
        elif self.host.users and not self.user:
            self.reply("MAIL", "530 5.7.0 log in first", argument)
        elif self.reply("MAIL", "250 2.1.0 ok", argument).startswith("2"):
            self.message = Message(
                sender=match[1], mail_parameters=match[2], user=self.user,
                tls=self.channel.tls.version() if self.channel.tls else "",
                session=self.number)
            self.chunks = None

    def on_rcpt(self, argument):
        # A '>' in quotes is part of the address.
        match = re.match(r'TO:<((?:"(?:\\.|[^"\\])*"|[^">])*)>', argument,
                         re.I)
        if match is None or self.message is None:
            self.reply("RCPT", "503 5.5.1 RCPT is not due", argument)
        elif self.reply("RCPT", "250 2.1.5 ok", argument).startswith("2"):
            self.message.recipients.append(match[1])
        else:
            self.message.refused.append(match[1])

    def on_data(self, argument):
        usual = ("354 go ahead" if self.message and self.message.recipients
                 else "554 5.5.1 no valid recipients")
        if (not self.reply("DATA", usual, argument).startswith("3") or
                self.message is None):
            self.message = None
            return
        data = self.channel.read_data()
        self.message.verb = "DATA"
        # Dots come off where lines begin, and only CRLF ends a line.
        self.message.data = (b"\r\n" + data).replace(b"\r\n.", b"\r\n")[2:]
        self._end()

    def on_bdat(self, argument):
        size, _, last = argument.partition(" ")
        chunk = self.channel.read(int(size))
        if self.host.peek_fault("BDAT", argument) is not None:
            self.reply("BDAT", "", argument)
            return
        if self.message is None or not self.message.recipients:
            self.reply("BDAT", "503 5.5.1 BDAT is not due", argument)
            return
        if self.chunks is None:
            self.chunks = []
        self.chunks.append(chunk)
        if last.upper() != "LAST":
            self.reply("BDAT", "250 2.0.0 go on", argument)
            return
        self.message.verb = "BDAT"
        self.message.data = b"".join(self.chunks)
        self._end()

    def _end(self):
        """The message is complete.  It counts as received before its reply
        goes out, so whoever has seen the reply finds it."""
        message, self.message, self.chunks = self.message, None, None
        message.number = self.host.next_number()
        text = f"250 2.0.0 Ok: taken as {message.number}"
        fault = self.host.peek_fault("END", message.sender)
        if not message.recipients:
            pass
        elif fault is None or fault.keep or (
                fault.then == "go-on" and
                (fault.reply is None or str(fault.reply).startswith("2"))):
            self.host.received(message)
        self.reply("END", text, message.sender)
        self.host.answer_sent()

    def on_rset(self, argument):
        self.message = None
        self.reply("RSET", "250 2.0.0 ok", argument)

    def on_noop(self, argument):
        self.reply("NOOP", "250 2.0.0 ok", argument)

    def on_quit(self, argument):
        self.reply("QUIT", "221 2.0.0 bye", argument)
        raise Closed


class Relayhost:
    """Listens on a loopback port that the kernel chose, until closed.

    address      to listen on another
    tls          starttls, implicit, none
    users        name to password; empty: no login is asked for
    certificate  a kind of Authority.certificate(), or old (TLS 1.0)
    """

    def __init__(self, authority=None, *, tls="starttls", users=None,
                 auth=("PLAIN", "LOGIN"), extensions=EXTENSIONS,
                 certificate="good", on_message=None,
                 address=("127.0.0.1", 0)):
        self.authority, self.tls = authority, tls
        self.users = {} if users is None else dict(users)
        self.auth, self.auth_in_clear = tuple(auth), False
        self.auth_broken = ()   # offered, but 504
        self.scram = ""         # how SCRAM misbehaves
        self.extensions = list(extensions)
        self.certificate, self.own_context = certificate, None
        self.on_message = on_message
        self.messages, self.sessions, self.faults = [], [], []
        self.answered = 0   # messages whose reply has been sent
        self.stalls = 0     # sessions that a fault has stalled
        self.latency = 0    # seconds of a round trip
        self.round_trips = 0    # so far; those of several sessions at once
                                # count once
        self._open, self._number = set(), 0
        self._changed = threading.Condition()
        self._listener = None
        # Never listens; its port stays ours while nobody else does.
        self._holder = self._bound(address)
        self._address = self._holder.getsockname()
        self.start()

    port = property(lambda self: self._address[1])
    listening = property(lambda self: self._listener is not None)
    context = property(
        lambda self: self.own_context or
        self.authority.context(self.certificate, "EXTERNAL" in self.auth))

    def password_of(self, user):
        return self.users.get(user.decode(), "\0").encode()

    @staticmethod
    def _bound(address):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        return sock

    def start(self):
        """Listen (again, on the same port)."""
        listener = self._bound(self._address)
        listener.listen(128)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,),
                         daemon=True).start()

    def stop(self):
        """Refuse connections and cut those that are open."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.disconnect()

    def close(self):
        self.stop()
        self._holder.close()

    def open_sessions(self):
        with self._changed:
            return set(self._open)

    def disconnect(self):
        """Returns the sessions that it cuts."""
        sessions = self.open_sessions()
        for session in sessions:
            try:
                session.channel.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        return sessions

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                session = Session(self, sock, len(self.sessions))
                self.sessions.append(session)
                self._open.add(session)
                self._changed.notify_all()
            threading.Thread(target=session.run, daemon=True).start()

    # Faults.

    def fault(self, point, reply=None, *, then="go-on", match="", times=0,
              skip=0, slow=0, keep=False):
        """From now on misbehave at point: GREETING, EHLO, STARTTLS,
        CHALLENGE (of AUTH), AUTH, MAIL, RCPT, DATA, BDAT, END (of the
        message), RSET, QUIT."""
        fault = Fault(point, reply, then, match, times, skip, slow, keep)
        with self._changed:
            self.faults.append(fault)
        return fault

    def mend(self, *faults):
        """End these faults, or all of them."""
        with self._changed:
            self.faults = [fault for fault in self.faults
                           if faults and fault not in faults]

    def peek_fault(self, point, argument):
        with self._changed:
            for fault in self.faults:
                if (fault.point == point and fault.skip == 0 and
                        (not fault.times or fault.hits < fault.times) and
                        re.search(fault.match, argument)):
                    return fault
        return None

    def take_fault(self, point, argument):
        fault = self.peek_fault(point, argument)
        with self._changed:
            for waiting in self.faults:
                if (waiting.point == point and waiting.skip and
                        re.search(waiting.match, argument)):
                    waiting.skip -= 1
            if fault is not None:
                fault.hits += 1
                self._changed.notify_all()
        return fault

    # What sessions tell.

    def next_number(self):
        with self._changed:
            self._number += 1
            return self._number

    def received(self, message):
        if self.on_message is not None:
            self.on_message(message)
        for observer in observers:
            observer(message)
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def far_away(self, session):
        """A reply and what follows it are on their way.  A session that had
        nothing to do for a while has not saved time by that."""
        if self.latency:
            # Nothing is waited for here.
            threading.Event().wait(self.latency)
            with self._changed:
                session.round_trips = max(session.round_trips + 1,
                                          self.round_trips)
                self.round_trips = session.round_trips

    def answer_sent(self):
        with self._changed:
            self.answered += 1
            self._changed.notify_all()

    def stalled(self):
        with self._changed:
            self.stalls += 1
            self._changed.notify_all()

    def ended(self, session):
        with self._changed:
            self._open.discard(session)
            self._changed.notify_all()

    # Waiting.

    def wait(self, condition, what, timeout=TIMEOUT):
        """Until condition() is true; it is looked at after each event."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise AssertionError(
                    f"{what} did not come to pass within {timeout} s; "
                    f"commands: {[s.commands for s in self.sessions[-5:]]}")

    def wait_messages(self, count, timeout=TIMEOUT):
        self.wait(lambda: len(self.messages) >= count,
                  f"the arrival of {count} messages "
                  f"(there are {len(self.messages)})", timeout)
        with self._changed:
            return list(self.messages)

    def wait_hits(self, fault, count=1, timeout=TIMEOUT):
        self.wait(lambda: fault.hits >= count,
                  f"the fault at {fault.point}, {count} times", timeout)

    def wait_ended(self, count=1, timeout=TIMEOUT):
        """Until so many sessions have begun and all that began are over."""
        self.wait(lambda: len(self.sessions) >= count and not self._open,
                  f"the end of {count} sessions", timeout)


def demo(options):
    directory = pathlib.Path(options.demo)
    directory.mkdir(parents=True, exist_ok=True)
    def show(message):
        print(f"-- received over {message.tls}, logged in as {message.user}\n"
              f"-- from <{message.sender}> to "
              + ", ".join(f"<{one}>" for one in message.recipients) + "\n"
              + message.data.decode("utf-8", "replace").replace("\r\n", "\n"),
              flush=True)

    host = Relayhost(Authority(directory),
                     users={options.user: options.password}, on_message=show)
    # Whoever sees the file sees it whole.
    unfinished = directory / "port.new"
    unfinished.write_text(f"{host.port}\n")
    unfinished.rename(directory / "port")
    host.wait(lambda: host.answered >= options.count > 0, "the mail", None)


def main():
    parser = argparse.ArgumentParser(description="A relayhost to try relayd "
                                     "with: prints what it receives.")
    parser.add_argument("--demo", metavar="DIR", required=True,
                        help="where to write port and ca.pem")
    parser.add_argument("--user", default="demo@example.com")
    parser.add_argument("--password", default="demo")
    parser.add_argument("--count", type=int, default=-1,
                        help="end after so many messages")
    try:
        demo(parser.parse_args())
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
