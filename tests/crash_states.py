"""Does relayd recover from a power cut at any moment?

A story of all that can happen to a message is told to the real daemon under
strace.  The trace is cut after each call that matters; for each cut the states
that the disk may be in (crash_model.py) are made, relayd's own recovery runs
over each (recover.c), and what has become of each message is judged:

- acknowledged, and not sent to all: it is sent now, with its whole content, or
  it is where it belongs: in hold/, in failed/, in the report about it;
- a recipient whose delivery is recorded on stable storage, or is old enough to
  have to be, is not sent to again;
- nothing is sent that is not what came in, and nothing twice.

What a relayhost has said and what an operator has asked for is taken from the
trace, not from the spool.

usage: crash_states.py [--limit STATES_A_CUT] [--least STATES] [--seed N]
"""

import argparse
import dataclasses
import math
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

import crash_model

HERE = pathlib.Path(__file__).resolve().parent
RECOVER = pathlib.Path(os.environ.get("RELAYD_BUILD", HERE.parent / "build")) \
    / "tests/recover"
ID = r"[0-9a-z]{12}"
PLACES = ("new", "cur", "hold", "failed")
# No power is cut here: what recovery syncs need not wait for a disk.
MEMORY = "/dev/shm"
# A mark is to be durable within a second; this is for a machine under load.
MARKED_S = 4

LOG = re.compile(rf"({ID}): (?:to=<([^>]*)>.*status=(bounced)|"
                 r"(held|released|requeued) by|"
                 r"(removed) from failed/)")


@dataclasses.dataclass(eq=False)
class Told:
    """What the world knows of a message."""
    name: str
    recipients: list
    contents: set = dataclasses.field(default_factory=set)
    about: str = ""         # a report's
    failed_there: set = dataclasses.field(default_factory=set)
    acknowledged: bool = False
    sent: dict = dataclasses.field(default_factory=dict)    # to whom, when
    failed: set = dataclasses.field(default_factory=set)
    marked: set = dataclasses.field(default_factory=set)    # durably
    held: bool = False
    deleted: bool = False


@dataclasses.dataclass
class Spooled:
    """A file of the spool."""
    name: str
    recipients: list    # (state, address)
    content: bytes

    @classmethod
    def parse(cls, data):
        head = re.match(rb"relayd 1 (\w{12}) (\d{10}) (\d{16}) ", data)
        if head is None:
            return None
        at, end = 512, 512 + int(head[2])
        return cls(head[1].decode(), [
            (state.decode(), address.decode()) for state, address in
            re.findall(rb"^rcpt\t(.)\t([^\t]*)\t", bytes(data[at:end]), re.M)],
            bytes(data[end:end + int(head[3])]))


def digest(data):
    return crash_model.hashlib.sha256(data).hexdigest()


def reported(content):
    """Of a report: about which message it is, who it says has failed."""
    about = re.search(rb"\nX-Relayd-Queue-ID: (\w+)\r", content)
    return about and about[1].decode(), {
        one.decode() for one in re.findall(
            rb"\nFinal-Recipient: rfc822; (.*)\r\nAction: failed", content)}


class World:
    """Everything that was said, by whom, up to a moment."""

    def __init__(self, arrived, bodies, disk, every):
        self.arrived = arrived  # number in the reply: Message
        self.bodies, self.disk = bodies, disk
        self.told, self.now, self.problems = {}, 0, []
        self.swept = {match[1] for event in every if event.kind == "said"
                      for line in event.data.decode("latin-1").splitlines()
                      if (match := LOG.search(line)) and match[5]}

    def play(self, event):
        self.now = event.time or self.now
        play = getattr(self, "play_" + event.kind.replace("-", "_"), None)
        return play is not None and play(event) is not False

    def of(self, name):
        return self.told.setdefault(name, Told(name, []))

    def play_rename(self, event):
        """A file that comes into the queue, or is replaced."""
        if f"/spool/tmp/" not in event.path:
            return False
        one = Spooled.parse(self.disk.find(event.to).now)
        if one is None:
            return False
        told = self.of(one.name)
        told.recipients = [address for _, address in one.recipients]
        told.contents.add(digest(one.content))
        told.about, told.failed_there = reported(one.content)
        token = re.search(rb"token-(\d+)-", one.content)
        if token and not told.about and not one.content.endswith(
                b"\r\n\r\n" + self.bodies[int(token[1])]):
            self.problems.append(f"{one.name} is not what was handed in")
        return True

    def play_ended(self, event):
        """A daemon that has stopped in good order leaves nothing unsynced;
        what one that was killed leaves, nobody syncs."""
        killed = b": stopped" not in event.data
        for told in self.told.values():
            for one in told.sent:
                told.sent[one] = math.inf if killed else -math.inf

    def synced(self, node):
        one = Spooled.parse(node.kept)
        if one and one.name in self.told:
            self.told[one.name].marked |= {
                address for state, address in one.recipients if state == "+"}

    def play_said(self, event):
        text = event.data.decode("latin-1")
        changed = False
        for name in crash_model.durable.ACKNOWLEDGED.findall(text):
            self.of(name).acknowledged = changed = True
        for line in text.splitlines():
            match = LOG.search(line)
            if match:
                self.logged(self.of(match[1]), match)
                changed = True
            elif ": reloaded " in line:
                for name in self.swept:
                    self.of(name).deleted = changed = True
        return changed

    @staticmethod
    def logged(told, match):
        if match[3]:
            told.failed.add(match[2])
        if match[4] in ("released", "requeued"):
            told.failed.clear()
            told.held = False

    def play_heard(self, event):
        text = event.data.decode("latin-1")
        changed = False
        for number in re.findall(r"250 2\.0\.0 Ok: taken as (\d+)\r", text):
            self.taken(self.arrived[int(number)])
            changed = True
        verb = re.match(r"(hold|delete|bounce)\0(.*)\n", text)
        for name in re.findall(ID, verb[2]) if verb else ():
            told = self.of(name)
            told.held |= verb[1] == "hold"
            told.deleted |= verb[1] == "delete"
            if verb[1] == "bounce":
                told.failed |= set(told.recipients) - told.sent.keys()
            changed = True
        return changed

    def taken(self, message):
        name = re.search(rb"\(relayd\) with \S+ id (\w+)", message.data)[1]
        told = self.of(name.decode())
        for one in message.recipients:
            told.sent.setdefault(one, self.now)


# What recovery makes of a state.

@dataclasses.dataclass
class Outcome:
    sent: list      # (id, digest, recipients)
    left: list      # (place, id, digest, [(state, recipient)])
    reports: dict   # id: who has failed
    made: set       # ids of the reports
    turns: int


class Recovery:
    """recover.c, a process for as long as it works."""

    CONFIG = """hostname = "web1.example.com"
origin = "example.com"
aliases = ""
min_free_space = "0"
history_size = "0"
log = "stderr"
log_level = "error"
listen "unix:/nonexistent/submit.sock" {
}
relay "all" {
    maildir = "/nonexistent"
}
"""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        (self.directory / "relayd.conf").write_text(self.CONFIG)
        self.log = self.directory / "log"
        self.count, self.process = 0, None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [RECOVER, self.directory / "relayd.conf"], stderr=log,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait()
            self.process = None

    def run(self, state):
        """None: it has crashed."""
        if self.process is None:
            self.start()
        self.count += 1
        spool = self.directory / str(self.count)
        state.write(str(spool))
        self.process.stdin.write(f"{spool}\n")
        self.process.stdin.flush()
        outcome = self.read()
        shutil.rmtree(spool, ignore_errors=True)
        if outcome is None:
            self.close()
        return outcome

    def read(self):
        outcome = Outcome([], [], {}, set(), 0)
        for line in self.process.stdout:
            word, *rest = line.split()
            if word == "sent":
                outcome.sent.append((rest[0], rest[1], rest[2:]))
            elif word == "made":
                outcome.made.add(rest[0])
            elif word == "report":
                outcome.reports.setdefault(rest[0], set()).add(rest[1])
            elif word == "left":
                outcome.left.append((rest[0], rest[1], rest[2], list(
                    zip(rest[3::2], rest[4::2]))))
            else:
                outcome.turns = int(rest[0])
                return outcome
        return None


# Judgement.

class Judge:
    """Compares what the world knows with what recovery has made of it."""

    def __init__(self, world, outcome):
        self.world, self.outcome = world, outcome
        self.due, self.kept = {}, {}    # id: {recipient: how often / states}
        for name, _, recipients in outcome.sent:
            for one in recipients:
                due = self.due.setdefault(name, {})
                due[one] = due.get(one, 0) + 1
        for place, name, content, states in outcome.left:
            if content != "damaged":
                kept = self.kept.setdefault(name, {})
                for state, one in states:
                    kept.setdefault(one, []).append((place, state))

    def is_accounted(self, told, one):
        """Has a recipient of a message been sent to, or is there a trace?"""
        if one in told.sent or one in self.due.get(told.name, ()):
            return True
        if any(state != "+" for _, state in
               self.kept.get(told.name, {}).get(one, ())):
            return True
        return one in told.failed and self.is_reported(told, one)

    def is_reported(self, told, one):
        if one in self.outcome.reports.get(told.name, ()):
            return True
        return any(report.about == told.name and one in report.failed_there and
                   all(self.is_accounted(report, reader)
                       for reader in report.recipients)
                   for report in self.world.told.values())

    def missing(self, told, one):
        """What is wrong with a recipient of an acknowledged message?"""
        due = self.due.get(told.name, {}).get(one, 0)
        waits = [place for place, state in
                 self.kept.get(told.name, {}).get(one, ()) if state == "-"]
        if due + len(waits) > 1:
            return f"is sent to and waits {due + len(waits)} times"
        if one in told.marked and (due or waits):
            return "has it durably and gets it again"
        if one in told.sent:
            late = self.world.now - told.sent[one] > MARKED_S
            return "has had it for long and gets it again" \
                if due and late else None
        if told.deleted:
            return None
        if told.held or one in told.failed:
            return None if self.is_accounted(told, one) else "is forgotten"
        return None if due else "is not sent to"

    def problems(self):
        if self.outcome is None:
            yield "recovery crashed"
            return
        if self.outcome.turns == 0:
            yield "recovery does not come to rest"
        for name, content, recipients in self.outcome.sent:
            told = self.world.told.get(name)
            if told and content not in told.contents:
                yield f"{name} is sent, but is not what came in"
            elif not told and name not in self.outcome.made:
                yield f"{name} is sent, but nobody knows it"
            elif told and any(self.due[name][one] > 1 for one in recipients):
                yield f"{name} is sent twice"
        for told in self.world.told.values():
            for one in told.recipients if told.acknowledged else ():
                problem = self.missing(told, one)
                if problem:
                    yield f"{told.name}: <{one}> {problem}"


@dataclasses.dataclass
class Figures:
    cuts: int = 0
    tried: int = 0      # states, at each cut
    whole: int = 0      # different spools
    distinct: int = 0   # different in what concerns messages
    seconds: float = 0
    violations: list = dataclasses.field(default_factory=list)

    def __str__(self):
        return (f"{self.cuts} cut points, {self.tried} states, of them "
                f"{self.whole} distinct spools, {self.distinct} distinct but "
                f"for tmp/ and records; {len(self.violations)} violations; "
                f"{self.seconds:.0f} s")


class Checker:
    def __init__(self, directory, arrived, bodies, spool, *, limit, seed=1,
                 every=1, begin=0, enough=0):
        """limit: states a cut; every, begin: which events are followed by
        one; enough: violations that end it."""
        self.recovery = Recovery(directory)
        self.arrived, self.bodies, self.spool = arrived, bodies, spool
        self.limit, self.every = limit, every
        self.begin, self.enough = begin, enough
        self.chance = random.Random(seed)
        self.outcomes, self.strict = {}, set()
        self.figures = Figures()

    def check(self, events):
        began = time.monotonic()
        disk = crash_model.Disk(self.spool)
        world = World(self.arrived, self.bodies, disk, events)
        try:
            for number, event in enumerate(events):
                synced = disk.syncs.get(event.to, (None,))[0] \
                    if event.kind == "end-sync" else None
                changed = disk.play(event)
                changed |= world.play(event)
                if isinstance(synced, crash_model.File):
                    world.synced(synced)
                if changed and number >= self.begin and \
                        number % self.every == 0:
                    self.cut(number, event, disk, world)
                if self.enough and \
                        len(self.figures.violations) >= self.enough:
                    break
        finally:
            self.recovery.close()
        self.figures.violations += world.problems
        self.figures.seconds = time.monotonic() - began
        self.figures.whole = len(self.outcomes)
        self.figures.distinct = len(self.strict)
        return self.figures

    def cut(self, number, event, disk, world):
        self.figures.cuts += 1
        chooser = crash_model.Chooser(disk, self.chance)
        seen = set()
        for state in chooser.states(self.limit):
            key, strict = state.keys()
            if key in seen:
                continue
            seen.add(key)
            self.figures.tried += 1
            if key not in self.outcomes:
                self.outcomes[key] = self.recovery.run(state)
                self.strict.add(strict)
            for problem in Judge(world, self.outcomes[key]).problems():
                self.figures.violations.append(
                    f"after event {number} ({event.kind} {event.path} "
                    f"{event.data[:60]!r}): {problem}\n    {state}")


def main():
    # pylint: disable=import-outside-toplevel
    import crash_story
    from relayhost import Authority
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--limit", type=int, default=250,
                        help="states for each cut point")
    parser.add_argument("--least", type=int, default=10_000,
                        help="different states that there must be")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(
            prefix="relayd-test-",
            dir=MEMORY if os.path.isdir(MEMORY) else None) as scratch:
        os.chmod(scratch, 0o755)
        for name in ("daemon", "ca", "states"):
            os.mkdir(f"{scratch}/{name}")
        recorded = crash_story.record(pathlib.Path(scratch, "daemon"),
                                      Authority(f"{scratch}/ca"))
        print(f"{len(recorded.events)} events", flush=True)
        figures = Checker(f"{scratch}/states", recorded.arrived,
                          recorded.bodies, recorded.spool,
                          limit=options.limit, seed=options.seed
                          ).check(recorded.events)
    print(*figures.violations[:20], figures, sep="\n")
    sys.exit(bool(figures.violations) or figures.distinct < options.least)


if __name__ == "__main__":
    main()
