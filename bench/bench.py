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
import signal
import sys
import tempfile
import time

from agents import TOP
from report import as_json, plot, table
from rows import BARS, ROWS, Run


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
    parser.add_argument("--results", type=pathlib.Path,
                        default=TOP / "build/bench", help="a directory")
    arguments = parser.parse_args()
    results = arguments.results
    directory = pathlib.Path(tempfile.mkdtemp(prefix="relayd-bench-",
                                              dir=arguments.directory))
    directory.chmod(0o755)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
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
