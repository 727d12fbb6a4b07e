"""The story for crash_states.py: all that can happen to a message, told to the
real daemon under strace."""

import concurrent.futures
import dataclasses
import os
import pathlib
import smtplib
import subprocess
import threading
import time

import crash_model
from harness import BIN, Daemon
from relayhost import Relayhost

STALL_S = 5     # longer than a mark may wait for its sync


@dataclasses.dataclass
class Recorded:
    events: list
    arrived: dict   # number in the relayhost's reply: Message
    bodies: list
    spool: pathlib.Path


class Story:
    """A daemon and its relayhost; nobody gets two messages, nor sends two."""

    def __init__(self, directory, authority):
        self.host = Relayhost(authority, tls="none")
        self.bodies, self.lock = [], threading.Lock()
        self.extra, self.arrived = [], []
        self.patience = threading.Event()   # never comes
        self.host.on_message = self.arrive
        clear = dict.fromkeys(("tls_ca_file", "user", "password_file"))
        self.daemon = Daemon(
            directory, self.host, strace=crash_model.STRACE,
            relay={**clear, "tls": "none", "recipients_per_message": 2},
            top={"retry": ["1h"], "aliases": ""})

    def compose(self, *kinds, size=200):
        """Sender, recipients and text of a new message."""
        with self.lock:
            n = len(self.bodies)
            body = f"token-{n}-\r\n".encode() + (
                b"%060d\r\n" % n * (size // 62))
            self.bodies.append(body)
        return (f"s{n}@example.net",
                [f"{kind}{n}@example.org" for kind in kinds or ("r",)],
                b"Subject: %d\r\n\r\n%s" % (n, body))

    def submit(self, *kinds, options=(), **more):
        """By SMTP, or by sendmail when it has options.  Returns its id."""
        sender, recipients, text = self.compose(*kinds, **more)
        done = self.daemon.sendmail("-f", sender, *options, *recipients,
                                    data=text.replace(b"\r\n", b"\n"))
        assert done.returncode == 0, done
        return self.daemon.wait_log(
            rf"qmgr\[\d+\]: (\w+): from=<{sender}>")[1]

    def submit_together(self, count):
        """By SMTP, over as many connections."""
        ready = threading.Barrier(count)

        def send(message):
            with smtplib.SMTP("127.0.0.1", self.daemon.port) as client:
                ready.wait()
                client.sendmail(*message)

        messages = [self.compose() for _ in range(count)]
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            list(pool.map(send, messages))

    def wait(self, name, what="removed"):
        self.daemon.wait_log(f"{name}: {what}")

    def control(self, *words):
        done = self.daemon.relayctl(*words)
        assert done.returncode == 0, done

    def reload(self, **keys):
        self.daemon.top.update(keys)
        self.daemon.write_config()
        before = sum(" reloaded " in line for line in self.daemon.log)
        self.daemon.reload()
        self.daemon.wait_log(" reloaded ", before + 1)

    # The chapters.

    def deliver(self):
        self.submit_together(4)
        names = [self.submit(), self.submit(size=300_000),
                 self.submit("a", "b", "c"),
                 self.submit("d", options=("-N", "success"))]
        for name in names:
            self.wait(name)

    def defer(self):
        """Some have it, some wait, some have failed."""
        later = self.host.fault("RCPT", "450 4.2.1 later", match="later")
        self.host.fault("RCPT", "550 5.1.1 nobody", match="bad")
        names = [self.submit("r", "later"), self.submit("bad", "r", "later"),
                 self.submit("later", "x", "y", "z")]
        for name in names:
            self.wait(name, "to=<later.*status=deferred")
        # A flush is for those that wait: the last one is sent in parts.
        self.wait(names[2], "to=<z.*status=sent")
        self.control("flush")
        for name in names:
            self.daemon.wait_log(f"{name}: to=<later.*status=deferred", 2)
        self.host.mend(later)
        self.control("flush")
        for name in names:
            self.wait(name)

    def bounce(self):
        for name in [self.submit("bad"), self.submit("bad", "r"),
                     self.submit("bad", options=("-R", "full"), size=9000)]:
            self.wait(name)
        # Its report fails, and postmaster gets a copy.
        self.host.fault("RCPT", "550 5.1.1 no sender", match="s1[0-9]@",
                        times=1)
        report = None
        while report is None:
            name = self.submit("bad")
            self.wait(name)
            if self.host.faults[-1].hits:
                report = name
        self.daemon.wait_log("postmaster non-delivery notification")

    def operate(self):
        """What the operator does."""
        greeting = self.host.fault("MAIL", "450 4.2.1 not now")
        names = [self.submit("r", "q") for _ in range(6)]
        for name in names:
            self.wait(name, "to=.*status=deferred")
        for verb, name in zip(("hold", "hold", "hold", "requeue", "delete",
                               "bounce"), names):
            self.control(verb, name)
        self.control("release", names[0])
        self.control("delete", names[1])
        self.control("requeue", names[3])
        self.host.mend(greeting)
        self.control("flush")
        self.control("release", names[2])
        for i in (0, 2, 3, 5):
            self.wait(names[i])

    def fail(self):
        """Into failed/, and out of it."""
        never = ("-N", "never")
        names = [self.submit("bad", "r", options=never) for _ in range(4)]
        for name in names:
            self.wait(name, "kept in failed/")
        bad = next(one for one in self.host.faults if one.match == "bad")
        self.host.mend(bad)
        self.control("release", names[0])
        self.control("requeue", names[1])
        self.control("delete", names[2])
        self.wait(names[0])
        self.wait(names[1])
        old = time.time() - 7200
        os.utime(self.daemon.spool / "failed" / names[3], (old, old))
        self.reload(failed_lifetime="1h")
        self.wait(names[3], "removed from failed/")
        self.host.faults.append(bad)

    def expire(self):
        """A warning that it is late; then its time is over."""
        self.host.fault("RCPT", "450 4.2.1 later", match="slow")
        name = self.submit("slow", "r")
        self.wait(name, "to=<slow.*status=deferred")
        self.reload(delay_warning="1s", queue_lifetime="3s")
        for pattern in ("delay notification", "non-delivery notification"):
            count = 1
            while not any(f"{name}: sender {pattern}" in line
                          for line in self.daemon.log):
                count += 1
                self.control("flush")
                self.daemon.wait(lambda: sum(
                    f"{name}: to=<slow" in line
                    for line in self.daemon.log) >= count or any(
                        f"{name}: sender {pattern}" in line
                        for line in self.daemon.log))
        self.wait(name)
        # The relayhost is at fault all the time.
        self.host.fault("GREETING", "421 4.3.2 later", then="close", times=1)
        self.host.stop()
        name = self.submit()
        self.wait(name, "kept in failed/")
        self.reload(delay_warning="0", queue_lifetime="5d")
        self.host.start()
        self.host.mend(*(one for one in self.host.faults
                         if one.point == "GREETING"))
        self.control("flush")
        self.control("release", name)
        self.wait(name)

    def stall(self):
        """The first two have it; the others' reply lets wait for itself."""
        name = self.submit("p", "q", "tardy", "w")
        self.wait(self.submit())
        self.wait(name)

    def arrive(self, message):
        self.arrived.append(message)
        if any(one.startswith("tardy") for one in message.recipients):
            self.patience.wait(STALL_S)

    def kill(self):
        """The daemon, while a reply is awaited."""
        stalled = self.host.fault("END", then="stall", times=1)
        self.submit("r", "q")
        self.host.wait_hits(stalled)
        self.submit()
        self.daemon.kill()
        self.host.mend(stalled)
        self.daemon.start()
        self.daemon.wait(lambda: not self.daemon.queued())

    def alone(self):
        """The daemon is down, and sendmail runs "relayd --stdio"."""
        assert self.daemon.stop() == 0
        for _ in range(2):
            sender, recipients, text = self.compose()
            trace = self.daemon.directory / f"stdio.{len(self.extra)}"
            self.extra.append(trace)
            dialogue = (f"EHLO x\r\nMAIL FROM:<{sender}>\r\n" + "".join(
                f"RCPT TO:<{one}>\r\n" for one in recipients) +
                f"BDAT {len(text)} LAST\r\n").encode() + text + b"QUIT\r\n"
            done = subprocess.run(
                ["strace", *crash_model.STRACE, "-o", trace, BIN / "relayd",
                 "-f", self.daemon.file, "--stdio"], input=dialogue,
                env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
                capture_output=True, check=True)
            assert b"queued as" in done.stdout, done
        self.daemon.start()
        self.daemon.wait_log(f"to=<r{len(self.bodies) - 1}@.*status=sent")
        self.submit()
        self.daemon.wait(lambda: not self.daemon.queued())
        assert self.daemon.stop() == 0

    CHAPTERS = (deliver, defer, bounce, operate, fail, expire, stall, kill,
                alone)


def record(directory, authority, chapters=Story.CHAPTERS):
    story = Story(directory, authority)
    daemon = story.daemon
    with story.host:
        try:
            daemon.start()
            for chapter in chapters:
                chapter(story)
        finally:
            daemon.stop()
    traces = daemon.traces()
    traces[-1:-1] = story.extra
    return Recorded(crash_model.events(traces, daemon.spool),
                    {one.number: one for one in story.arrived}, story.bodies,
                    daemon.spool)
