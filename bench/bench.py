"""relayd, its peers and the machine's own limits, measured in one run.

Each round measures all of a row's agents one after the other, every other
round in reverse, so that what else the machine does meets them alike; what
must hold is the median of the rounds' ratios.  BENCHMARKS.md says how to read
the result.
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import sys
import tempfile
import time

from agents import (TOP, Postfix, PostfixReuse, Relayd, Relayhost, limit, load,
                    smtp_source)
from report import Bar, Samples, as_json, plot, table

# pylint: disable=wrong-import-order
from relayhost import Authority  # of the tests


class Run:
    def __init__(self, directory, scale):
        self.directory, self.scale = directory, scale
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


# Name of a row: its agents with what measures one, and what the machine does.
ROWS = {
    "accept": (accept, (Relayd, Postfix), accept_limit),
    "relay": (relay, (Relayd, Postfix, PostfixReuse), None),
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
)


def run_row(run, row, number):
    measure, kinds, machine = ROWS[row]

    def add_for(name):
        def add(metric, unit, value):
            run.samples.add(row, metric, unit, name, value)
            print(f"  {row} {number + 1}: {name}: {metric}: {value:.3f} "
                  f"{unit}", file=sys.stderr)
        return add

    kinds = kinds[::-1] if number % 2 else kinds
    if machine is not None:
        machine(run, add_for("machine"))
    for kind in kinds:
        measure(run, kind, add_for(kind.name))


def about():
    model = next((line.partition(":")[2].strip()
                  for line in open("/proc/cpuinfo", encoding="ascii")
                  if line.startswith("model name")), "unknown")
    return {"date": time.strftime("%Y-%m-%d"), "cpus": os.cpu_count(),
            "cpu": model, "kernel": platform.release()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", help=" ".join(ROWS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1,
                        help="of the numbers of messages")
    parser.add_argument("--directory", default=TOP / "build/bench",
                        help="on the disk to measure")
    arguments = parser.parse_args()
    results = TOP / "build/bench"
    directory = pathlib.Path(tempfile.mkdtemp(prefix="relayd-bench-",
                                              dir=arguments.directory))
    directory.chmod(0o755)
    run = Run(directory, arguments.scale)
    try:
        for row in arguments.rows or ROWS:
            for number in range(arguments.rounds):
                run_row(run, row, number)
    finally:
        run.relayhost.close()
        shutil.rmtree(directory, ignore_errors=True)
        samples = run.samples
        text = table(samples, BARS)
        (results / "results.md").write_text(text)
        (results / "results.svg").write_text(plot(samples))
        (results / "results.json").write_text(
            json.dumps(as_json(samples, BARS, about()), indent=1))
        print(text)


if __name__ == "__main__":
    main()
