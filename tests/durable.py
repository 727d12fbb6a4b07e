"""Was every acknowledged message on stable storage when it was acknowledged?

Reads what strace logged of the daemon and plays it against a strict model of
POSIX: of a file only what was there at its last fsync survives a power cut, of
a directory only the entries it had at its own last fsync.  A rename is the
loss of one entry and the gain of another, each durable with its directory.
One to tmp/ removes a message: its file may be overwritten by another one once
no power cut brings its old name back.

An acknowledgement is "250 2.0.0 Ok: queued as ID" written to anything; at
that moment, and until the message is removed, some directory of the spool
must have a durable entry ID for a file whose content then was durable.

usage: durable.py TRACE SPOOL
"""

import ast
import dataclasses
import os
import re
import sys

# strace's options for a trace that check() understands.
STRACE = ("-D", "-f", "-q", "--seccomp-bpf", "-y", "-s", "8192",
          "-e", "signal=none", "-e", "trace=open,openat,openat2,creat,write,"
          "pwrite64,writev,pwritev,pwritev2,sendfile,copy_file_range,"
          "ftruncate,fallocate,fsync,fdatasync,syncfs,sync,mkdir,mkdirat,"
          "rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,"
          "sendto,sendmsg,sendmmsg,io_uring_setup")

ACKNOWLEDGED = re.compile(r"250 2\.0\.0 Ok: queued as ([0-9A-Za-z]+)\r\n")
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
# A descriptor with its path (-y), or a path as it was given.
PATH = re.compile(r'(?:-?\d+|AT_FDCWD)<((?:[^>\\]|\\.)*)>(\(deleted\))?'
                  r'(?:, (?="))?|"((?:[^"\\]|\\.)*)"')
WRITES = {"write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile",
          "ftruncate", "fallocate"}
SENDS = {"write", "writev", "sendto", "sendmsg", "sendmmsg"}


def unescape(text):
    return ast.literal_eval(f'b"{text}"').decode("utf-8", "surrogateescape")


@dataclasses.dataclass(eq=False)
class Node:
    """A file or directory.  version counts its changes of content."""
    version: int = 0
    durable: int = 0
    links: int = 1
    removed: object = None  # the message whose file this was
    entries: dict = dataclasses.field(default_factory=dict)
    durable_entries: dict = dataclasses.field(default_factory=dict)


class Model:
    def __init__(self, spool):
        self.spool = os.path.realpath(spool)
        self.top = os.path.dirname(self.spool)
        # What was there before the trace began counts as durable.
        self.root = Node()
        self.acknowledged = {}  # id: (node, version)
        self.violations = []

    def inside(self, path):
        return path == self.top or path == self.spool or \
            path.startswith(self.spool + "/")

    def find(self, path, create=True):
        """The node of a path.  One never heard of was there all along."""
        node = self.root
        for name in path[len(self.top):].strip("/").split("/"):
            if not name:
                continue
            if name not in node.entries:
                if not create:
                    return None
                node.entries[name] = node.durable_entries[name] = Node()
            node = node.entries[name]
        return node

    def enter(self, path, node):
        parent, name = os.path.split(path)
        entries = self.find(parent).entries
        if name in entries:
            entries[name].links -= 1
        entries[name] = node

    def leave(self, path):
        parent, name = os.path.split(path)
        entries = self.find(parent).entries
        self.find(path)
        return entries.pop(name)

    def is_durable(self, name, node, version):
        """Does a power cut leave node, as it was at version, as name?"""
        if node.durable < version:
            return "its content is not on stable storage"

        if name not in self.durable_names(node, self.root):
            return "its directory entry is not on stable storage"
        return None

    def durable_names(self, node, directory):
        names = []
        for name, child in directory.durable_entries.items():
            names += [name] * (child is node)
            names += self.durable_names(node, child)
        return names

    def write(self, where, node):
        node.version += 1
        if node.removed and (names := self.durable_names(node.removed,
                                                         self.root)):
            self.complain(where, f"{names[0]} is overwritten, and a power cut "
                          "brings its name back")

    def keep(self, old, new):
        """Of a removed message its file is kept."""
        node = self.leave(old)
        node.links -= 1
        self.enter(new, Node(removed=node))

    def complain(self, where, text):
        self.violations.append(f"line {where}: {text}")

    def acknowledge(self, where, name):
        node = next((directory.entries[name] for directory in
                     self.find(self.spool).entries.values()
                     if name in directory.entries), None)
        if node is None:
            self.complain(where, f"{name} acknowledged, but it is nowhere "
                                 "in the spool")
            return
        problem = self.is_durable(name, node, node.version)
        if problem:
            self.complain(where, f"{name} acknowledged, but {problem}")
        self.acknowledged[name] = (node, node.version)

    def synced(self, where, node, version, entries):
        """node's content at version and these entries became durable."""
        node.durable = max(node.durable, version)
        lost = node.durable_entries.keys() - entries.keys()
        node.durable_entries = entries
        for name in lost & self.acknowledged.keys():
            message, acked = self.acknowledged[name]
            if message.links > 0 and self.is_durable(name, message, acked):
                self.complain(where, f"{name} was acknowledged and would now "
                              "be lost: the entry it was renamed from is gone "
                              "for good, the one it was renamed to is not "
                              "there for good")


class Player:
    """Feeds the model with the lines of a trace."""

    LINE = re.compile(r"(?:(\d+) +)?(?:(\d+\.\d+) )?"
                      r"(?:(\w+)\((.*)|<\.\.\. (\w+) resumed>(.*))", re.S)
    RESULT = re.compile(r"^(.*)\) += (-?\d+|\?)(.*)$", re.S)
    UNFINISHED = " <unfinished ...>"

    def __init__(self, spool):
        self.model = Model(spool)
        self.begun = {}     # pid: what its unfinished call had by then
        self.time = 0       # of the line, where strace tells it

    def play(self, lines):
        for number, line in enumerate(lines, 1):
            match = self.LINE.match(line.rstrip("\n"))
            if match is None:
                continue
            pid, time, call, rest, resumed, tail = match.groups()
            self.time = float(time or 0)
            if resumed:
                rest, snapshot = self.begun.pop(pid)
                rest, call = rest + tail, resumed
            else:
                # A sync covers what was there when it began, and a reply may
                # have been seen before its call returned.
                snapshot = self.snapshot(call, rest)
                if call in SENDS:
                    self.send(number, rest)
                if rest.endswith(self.UNFINISHED):
                    self.begun[pid] = rest[:-len(self.UNFINISHED)], snapshot
                    continue
            result = self.RESULT.match(rest)
            # What strace injected did not happen.
            if result and not result[2].startswith(("-", "?")) and \
                    "(INJECTED)" not in result[3]:
                self.step(number, call, result[1], int(result[2]), snapshot)

    def paths(self, text):
        """The absolute paths among a call's arguments; None: deleted."""
        directory, found = None, []
        for match in PATH.finditer(text):
            if match[1] is not None:
                path = unescape(match[1])
                if match[0].endswith(", "):
                    directory = path
                else:
                    found.append(None if match[2] else path)
            elif directory is not None or match[3].startswith("/"):
                found.append(os.path.normpath(os.path.join(
                    directory or "/", unescape(match[3]))))
                directory = None
        return found

    def node(self, text):
        path = (self.paths(text.split(', "')[0]) or [None])[0]
        if path is None or not self.model.inside(path):
            return None
        return self.model.find(path)

    def snapshot(self, call, rest):
        node = self.node(rest) if call in ("fsync", "fdatasync") else None
        return node and (node, node.version, dict(node.entries))

    def send(self, number, text):
        if "queued as" not in text:
            return
        said = "".join(unescape(part) for part in STRING.findall(text))
        for name in ACKNOWLEDGED.findall(said):
            self.model.acknowledge(number, name)

    def step(self, number, call, arguments, result, snapshot):
        model = self.model
        if call in ("fsync", "fdatasync"):
            if snapshot:
                model.synced(number, *snapshot)
        elif call in WRITES or call == "copy_file_range":
            if call == "copy_file_range":
                arguments = arguments.split(", ", 2)[2]
            node = self.node(arguments)
            if node:
                model.write(number, node)
        elif call in ("sync", "syncfs", "io_uring_setup"):
            raise ValueError(f"line {number}: {call} is not in the model")
        else:
            paths = self.paths(arguments)
            if paths and all(path and model.inside(path) for path in paths):
                self.name(call, arguments, paths)

    def name(self, call, arguments, paths):
        """A call that changes names."""
        model = self.model
        if call in ("open", "openat", "openat2", "creat"):
            if model.find(paths[0], create=False) is None and \
                    "O_CREAT" in arguments:
                model.enter(paths[0], Node())
            elif "O_TRUNC" in arguments or call == "creat":
                model.find(paths[0]).version += 1
        elif call in ("mkdir", "mkdirat"):
            model.enter(paths[0], Node())
        elif call in ("rename", "renameat", "renameat2") and \
                paths[1].startswith(f"{model.spool}/tmp/"):
            model.keep(*paths)
        elif call in ("rename", "renameat", "renameat2"):
            model.enter(paths[1], model.leave(paths[0]))
        elif call in ("link", "linkat"):
            node = model.find(paths[0])
            node.links += 1
            model.enter(paths[1], node)
        elif call in ("unlink", "unlinkat", "rmdir"):
            model.leave(paths[0]).links -= 1


def check(lines, spool):
    """Returns the ids that were acknowledged, and the violations."""
    player = Player(spool)
    player.play(lines)
    return set(player.model.acknowledged), player.model.violations


def main():
    trace, spool = sys.argv[1:]
    with open(trace, encoding="utf-8", errors="surrogateescape") as lines:
        acknowledged, violations = check(lines, spool)
    print(*violations, sep="\n", end="\n" if violations else "")
    print(f"{len(acknowledged)} messages acknowledged, "
          f"{len(violations)} violations")
    sys.exit(1 if violations else 0)


if __name__ == "__main__":
    main()
