"""Faults at every system call of a running program, by strace.

A point is a call's name and the how-manieth of that name it is, of the main
thread, counted from the moment that strace is attached.  What a sweep does:
record() the points of an action, then, attached() with a fault at one of them,
have it done again.
"""

import collections
import contextlib
import datetime
import os
import random
import re
import subprocess

ERRNOS = ("EIO", "ENOSPC", "EDQUOT", "EMFILE", "ENFILE", "ENOMEM", "EINTR",
          "EAGAIN", "EACCES", "EROFS", "EPERM")
SYNCS = ("fsync", "fdatasync")
# Calls that are left out, and why.
CANNOT_FAIL = {
    "close": "has closed all the same, but strace would not let it",
    "getpid": "has no errors",
    "getuid": "has no errors",
    "geteuid": "has no errors",
    "brk": "answers with an address, not with an error",
    "exit_group": "does not return",
    "uname": "only for a bad address",
    "epoll_wait": "but for signals, only for bad arguments",
    "restart_syscall": "what the kernel makes of a call that strace broke",
}
CALL = re.compile(r"(\w+)\((?!<)(.*)")


@contextlib.contextmanager
def attached(pid, *options, output=os.devnull):
    """strace watches the main thread of a process meanwhile."""
    with subprocess.Popen(["strace", "-p", str(pid), "-y", "-o", output,
                           *options], stderr=subprocess.PIPE) as process:
        line = process.stderr.readline()
        assert b" attached" in line, line
        try:
            yield process
        finally:
            process.terminate()     # it lets go, then
            process.communicate()


def at(point, fault):
    """strace's option to have a fault there: "signal=KILL", "error=EIO"."""
    call, number = point
    return f"--inject={call}:{fault}:when={number}"


def calls(trace):
    """The calls in a trace, each a pair: name, and the rest of its line."""
    with open(trace, encoding="utf-8", errors="surrogateescape") as lines:
        return [match.groups() for line in lines
                if (match := CALL.match(line))]


def points(trace, since=""):
    """Those of a trace, in their order, from the first call on that has this
    in its line: not those of the loader."""
    count = collections.Counter()
    found, begun = [], False
    for name, rest in calls(trace):
        count[name] += 1
        begun = begun or since in rest
        if begun:
            found.append((name, count[name]))
    assert begun, f"no call with {since}"
    return found


def injection(trace):
    """The line of the fault in a trace; None: the call was not made."""
    return next((f"{name}({rest}" for name, rest in calls(trace)
                 if "(INJECTED)" in rest), None)


def chance():
    """Another choice every day, the same all day: SWEEP_SEED repeats one."""
    seed = int(os.environ.get("SWEEP_SEED", datetime.date.today().toordinal()))
    print(f"SWEEP_SEED={seed}")
    return random.Random(seed)


def choose(every, count):
    """So many of them, by chance, each name about as often as the others."""
    random_ = chance()
    by_name = collections.defaultdict(list)
    for point in every:
        by_name[str(point[0])].append(point)
    names = sorted(by_name)
    chosen = []
    while len(chosen) < min(count, len(every)):
        name = random_.choice([name for name in names if by_name[name]])
        chosen.append(by_name[name].pop(random_.randrange(len(by_name[name]))))
    return chosen


def synced_again(trace):
    """Files that were synced once more after a sync of theirs had failed.  Not
    directories: theirs is about other entries each time."""
    failed, again = set(), []
    for name, rest in calls(trace):
        path = rest.partition("<")[2].partition(">")[0]
        if name not in SYNCS or os.path.isdir(path):
            continue
        if path in failed:
            again.append(path)
        if re.search(r"\) += -1 ", rest):
            failed.add(path)
    return again


def descriptors(pid):
    """What a process has open."""
    found = []
    for one in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):    # closed meanwhile
            found.append(os.readlink(f"/proc/{pid}/fd/{one}"))
    return found
