"""What is measured, and what must hold."""

import re
import statistics
import time

from agents import (Nullmailer, OpenSMTPD, Postfix, PostfixReuse, Relayd,
                    Relayhost, limit, load, memory, openssl_client,
                    slow_clients, smtp_source, spawn, times, wakeups)
from report import Bar, Samples

# pylint: disable=wrong-import-order
from relayhost import Authority  # of the tests


class Run:
    def __init__(self, directory, scale):
        self.directory, self.scale = directory, scale
        self.message = directory / "message"
        self.samples = Samples()
        authority = Authority(directory / "ca")
        self.relayhost = Relayhost(authority)
        authority.certificate()
        for file in (directory / "ca").iterdir():
            file.chmod(0o644)   # for every agent's own user

    def count(self, messages):
        return max(int(messages * self.scale), 20)

    def start(self, kind, **settings):
        self.relayhost.reset()
        return kind(self.directory, self.relayhost, **settings)


def accept(run, kind, add):
    """The relayhost is down."""
    run.relayhost.down()
    with run.start(kind) as agent:
        for sessions, messages in (1, 300), (10, 1000), (100, 4000):
            messages = run.count(messages)
            cpu = agent.cgroup.cpu()
            rate, longest = load(agent.port, sessions, messages)
            add(f"{sessions} sessions", "msg/s", rate)
            if sessions == 100:
                add("CPU a message", "ms",
                    (agent.cgroup.cpu() - cpu) / messages * 1e3)
                add("longest wait for a 250", "ms", longest * 1e3)
        messages = run.count(1000)
        add("100 sessions of smtp-source", "msg/s",
            smtp_source(agent.port, 100, messages))


def accept_limit(run, add):
    add("1 sessions", "msg/s", limit(run.directory, run.count(300), group=1))
    add("100 sessions", "msg/s", limit(run.directory, run.count(3000)))


def relay(run, kind, add):
    """Accepted and delivered at once, then a full queue drained."""
    messages = run.count(4000 if kind is Relayd else 1000)
    run.relayhost.up()
    with run.start(kind) as agent:
        cpu, began = agent.cgroup.cpu(), time.monotonic()
        load(agent.port, 100, messages)
        last = run.relayhost.wait(messages)[1]
        add("end to end", "msg/s", messages / (last - began))
        add("CPU a message", "ms", (agent.cgroup.cpu() - cpu) / messages * 1e3)
    run.relayhost.down()
    with run.start(kind) as agent:
        load(agent.port, 100, messages)
        time.sleep(1)   # until it has put them all aside
        run.relayhost.up()
        cpu = agent.cgroup.cpu()
        agent.flush()
        first, last, _ = run.relayhost.wait(messages)
        add("drain", "msg/s", messages / (last - first))
        add("CPU of draining", "ms",
            (agent.cgroup.cpu() - cpu) / messages * 1e3)


# At a round-trip time of 50 ms: what the relayhost offers, and how many
# messages go out before and while it is measured.
FAR_MS = 50
LINKS = {"CHUNKING": ("PIPELINING", "CHUNKING"), "PIPELINING": ("PIPELINING",),
         "lock-step": ()}
FAR = {Relayd: {"CHUNKING": (300, 600), "PIPELINING": (20, 100),
                "lock-step": (5, 40)},
       PostfixReuse: dict.fromkeys(LINKS, (5, 40))}


def drain(run, kind, warm, messages, octets=2048, **settings):
    """Yields the agent, for the relayhost to be set up, then the messages a
    second of its full queue, once some have gone, and on how many
    connections."""
    run.relayhost.down()
    with run.start(kind, **settings) as agent:
        load(agent.port, 100 if octets < 10000 else 4, warm + messages, octets)
        time.sleep(1)
        yield agent
        run.relayhost.reset()
        agent.flush()
        _, last, links = run.relayhost.wait(warm + messages, 120)
        yield messages / (last - run.relayhost.nth(warm)), links


def far(run, kind, add):
    def measure(metric, extensions, warm, messages, **settings):
        steps = drain(run, kind, warm, messages, **settings)
        next(steps)
        run.relayhost.up(FAR_MS, extensions)
        rate, links = next(steps)
        steps.close()
        add(metric, "msg/s", rate)
        return links

    if kind is not Postfix:
        for link, extensions in LINKS.items():
            measure(f"1 connection, {link}", extensions, *FAR[kind][link],
                    relay={"connections": 1},
                    main={"smtp_destination_concurrency_limit": 1})
    if kind is not PostfixReuse:
        measure("4 connections to Postfix's 20", LINKS["CHUNKING"],
                *((500, 2000) if kind is Relayd else (50, 200)),
                relay={"connections": 4})


def sendmail(run, kind, add):
    """Called again and again, then with pauses while nothing else goes on."""
    run.relayhost.up()
    run.message.write_text("Subject: x\n\nx\n")
    with run.start(kind) as agent:
        calls = spawn(agent.sendmail("u1%@example.net"), run.message, 40, 0)
        add("returns after", "ms", statistics.median(
            took for _, took, _ in calls) * 1e3)
        add("CPU of the command", "ms", statistics.median(
            cpu for _, _, cpu in calls) * 1e3)
        run.relayhost.wait(1)
        calls = spawn(agent.sendmail("u2%@example.net"), run.message, 10, 300)
        run.relayhost.wait(50, 120)
        add("arrives after", "ms", statistics.median(
            run.relayhost.when(f"2{number}") - began
            for number, (began, _, _) in enumerate(calls)) * 1e3)


def sendmail_limit(run, add):
    run.message.write_text("")
    calls = spawn(["/bin/true"], run.message, 40, 0)
    add("returns after", "ms",
        statistics.median(took for _, took, _ in calls) * 1e3)
    add("CPU of the command", "ms",
        statistics.median(cpu for _, _, cpu in calls) * 1e3)


LARGE = 5_000_000


def large(run, kind, add):
    count = 20
    steps = drain(run, kind, 1, count, relay={"connections": 1},
                  octets=LARGE, main={
                      "smtp_destination_concurrency_limit": 1})
    agent = next(steps)
    run.relayhost.up()
    rate, _ = next(steps)
    add("1 connection", "MB/s", rate * LARGE / 1e6)
    add("most memory of a process", "MB", memory(agent, "VmHWM"))
    steps.close()


def large_limit(run, add):
    run.relayhost.up()
    run.relayhost.reset()
    openssl_client(run.relayhost, run.message, 21, LARGE)
    _, last, _ = run.relayhost.wait(21)
    add("1 connection", "MB/s",
        20 * LARGE / 1e6 / (last - run.relayhost.nth(1)))


SLOW_USER, USER = 10001, 10002


def slow(run, kind, add):
    """One user after another's slow clients, in turns."""
    run.relayhost.down()
    alone, beside = [], []
    messages = run.count(200)
    with run.start(kind) as agent:
        for _ in range(5):
            alone += times(agent, USER, messages)
            with slow_clients(agent, SLOW_USER, 120):
                beside += times(agent, USER, messages)
    for name, took in ("alone", alone), ("beside 120 slow clients", beside):
        add(f"99 % within, {name}", "ms",
            statistics.quantiles(took, n=100)[98] * 1e3)


def idle(run, kind, add):
    run.relayhost.up()
    with run.start(kind) as agent:
        time.sleep(2)
        before = wakeups(agent)
        time.sleep(60)
        add("wake-ups in 60 s", "", wakeups(agent) - before)
        add("private memory", "MB", memory(agent, "Private"))
        add("PSS", "MB", memory(agent, "Pss:"))


def scale(run, kind, add):
    """A queue of 100,000, of which as many are delivered as of one of 1,000."""
    queued, few = 100_000, 1000
    run.relayhost.down()
    with run.start(kind) as agent:
        agent.fill(few)
        empty = memory(agent, "RssAnon")
        began = time.monotonic()
        agent.list_queue()
        add("list 1,000", "s", time.monotonic() - began)
        if kind is Relayd:
            run.relayhost.up()
            run.relayhost.reset()
            agent.flush()
            first, last, _ = run.relayhost.wait(few)
            add("drain 1,000", "msg/s", few / (last - first))
            run.relayhost.down()
        agent.fill(queued)
        began = time.monotonic()
        if kind is Relayd:
            agent.restart()
            load(agent.port, 1, 1, 2048, queued + 1)
            add("accepts after", "s", time.monotonic() - began)
            wait_read(agent)
            add("heap a message", "octets",
                (memory(agent, "RssAnon") - empty) * 1e6 / queued)
        began = time.monotonic()
        agent.list_queue()
        add("list 100,000", "s", time.monotonic() - began)
        if kind is Relayd:
            run.relayhost.up()
            run.relayhost.reset()
            agent.flush()
            run.relayhost.wait(10 * few, 120)
            add("drain 100,000", "msg/s",
                9 * few / (run.relayhost.nth(10 * few) -
                           run.relayhost.nth(few)))
            add("longest turn of the loop", "ms", 1e3 * float(re.search(
                r"(?m)^relayd_loop_stall_seconds (\S+)",
                agent.ctl("metrics"))[1]))


def wait_read(agent):
    """Until the daemon knows its whole queue."""
    while '"reading": true' in agent.ctl("status", "--json", fails=True):
        time.sleep(.1)


# Name of a row: its agents with what measures one, and what the machine does.
ROWS = {
    "accept": (accept, (Relayd, Postfix, OpenSMTPD), accept_limit),
    "relay": (relay, (Relayd, Postfix, PostfixReuse), None),
    "far": (far, (Relayd, Postfix, PostfixReuse), None),
    "sendmail": (sendmail, (Relayd, Postfix, OpenSMTPD, Nullmailer),
                 sendmail_limit),
    "large": (large, (Relayd, PostfixReuse), large_limit),
    "slow": (slow, (Relayd,), None),
    "idle": (idle, (Relayd, Postfix), None),
    "scale": (scale, (Relayd, Postfix), None),
}


def best_accept(value, agent):
    return max(value(f"{n} sessions", agent) for n in (1, 10, 100))


BARS = (
    Bar("accept", "at 100 sessions to Postfix's best",
        lambda v: v("100 sessions", "relayd") / best_accept(v, "postfix"), 5),
    Bar("accept", "at 100 sessions to the machine's limit",
        lambda v: v("100 sessions", "relayd") / v("100 sessions", "machine"),
        .8),
    Bar("accept", "at 1 session to Postfix",
        lambda v: v("1 sessions", "relayd") / v("1 sessions", "postfix"), 2),
    Bar("accept", "CPU to Postfix's",
        lambda v: v("CPU a message", "relayd") / v("CPU a message", "postfix"),
        most=.1),
    Bar("relay", "end to end to Postfix",
        lambda v: v("end to end", "relayd") / v("end to end", "postfix"), 10),
    Bar("relay", "end to end to Postfix with reuse",
        lambda v: v("end to end", "relayd") / v("end to end", "postfix+reuse"),
        6),
    Bar("relay", "CPU to Postfix's",
        lambda v: v("CPU a message", "relayd") / v("CPU a message", "postfix"),
        most=.05),
    Bar("relay", "draining to end to end",
        lambda v: v("drain", "relayd") / v("end to end", "relayd"), 2),
    *(Bar("far", f"on 1 connection to Postfix with reuse, {link}",
          lambda v, m=f"1 connection, {link}":
          v(m, "relayd") / v(m, "postfix+reuse"), least)
      for link, least in (("CHUNKING", 40), ("PIPELINING", 3),
                          ("lock-step", 1))),
    Bar("far", "4 connections to Postfix's default",
        lambda v: v("4 connections to Postfix's 20", "relayd") /
        v("4 connections to Postfix's 20", "postfix"), 10),
    Bar("sendmail", "return to Postfix's", lambda v:
        v("returns after", "relayd") / v("returns after", "postfix"),
        most=.1),
    Bar("sendmail", "return to OpenSMTPD's", lambda v:
        v("returns after", "relayd") / v("returns after", "opensmtpd"),
        most=.333),
    Bar("sendmail", "CPU to /bin/true's", lambda v:
        v("CPU of the command", "relayd") / v("CPU of the command", "machine"),
        most=3),
    Bar("sendmail", "arrival to Postfix's", lambda v:
        v("arrives after", "relayd") / v("arrives after", "postfix"),
        most=.1),
    Bar("large", "to openssl s_client", lambda v:
        v("1 connection", "relayd") / v("1 connection", "machine"), .8),
    Bar("large", "memory", lambda v:
        v("most memory of a process", "relayd"), most=16, unit="MB"),
    Bar("slow", "99 % beside slow clients to alone", lambda v:
        v("99 % within, beside 120 slow clients", "relayd") /
        v("99 % within, alone", "relayd"), most=2),
    Bar("idle", "wake-ups in 60 s", lambda v:
        v("wake-ups in 60 s", "relayd"), most=0, unit=""),
    Bar("idle", "private memory", lambda v:
        v("private memory", "relayd"), most=2, unit="MB"),
    Bar("idle", "PSS to Postfix's", lambda v:
        v("PSS", "relayd") / v("PSS", "postfix"), most=.5),
    Bar("scale", "accepts after its start", lambda v:
        v("accepts after", "relayd"), most=1, unit="s"),
    Bar("scale", "mailq to Postfix's", lambda v:
        v("list 100,000", "relayd") / v("list 100,000", "postfix"), most=.2),
    Bar("scale", "heap a message", lambda v:
        v("heap a message", "relayd"), most=100, unit="octets"),
    Bar("scale", "drain of 100,000 to that of 1,000", lambda v:
        v("drain 100,000", "relayd") / v("drain 1,000", "relayd"), .9),
    Bar("scale", "longest turn of the loop, with commits", lambda v:
        v("longest turn of the loop", "relayd"), most=50, unit="ms"),
)
