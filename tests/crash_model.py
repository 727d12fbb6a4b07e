"""What a power cut may leave of a spool: the states that POSIX allows.

events() reads from traces of strace what was done to the spool and what was
said and heard; a Disk plays it.  At any moment a state is chosen out of what
the disk may have of it:

- of a file, what it had at its last fsync, and of each write and truncation
  since then all, a part, zeros in its place, or nothing;
- of a directory, the entries that it had at its own last fsync, and any of the
  changes since then.  A rename is a new entry and the loss of an old one.  That
  both are there for a while is allowed; that none is, only where the directory
  of the old one was synced alone.

What stands in tmp/, and what is no message, may be as it likes but adds no
state of its own.
"""

import dataclasses
import hashlib
import itertools
import os

import durable

# As durable.STRACE, with the time, all of what is written, and what is read.
STRACE = tuple(
    {"8192": "10000000"}.get(one, one + ",read,recvfrom,recvmsg"
                             if one.startswith("trace=") else one)
    for one in durable.STRACE) + ("-ttt",)
HEARS = {"read", "recvfrom", "recvmsg"}
RECORDS = {"lock", "history", "history.1", "quota", "quota.new"}


@dataclasses.dataclass(eq=False)
class Event:
    time: float
    kind: str   # open, write, resize, mkdir, rename, link, unlink,
                # begin-sync, end-sync, said, heard, ended
    path: str = ""
    to: object = None   # the second path; of a sync, its beginning
    at: object = None   # where it is written; None: where the file is
    data: bytes = b""
    flags: str = ""
    size: int = 0


def strings(text):
    return b"".join(durable.ast.literal_eval(f'b"{one}"')
                    for one in durable.STRING.findall(text))


class Recorder(durable.Player):
    """Makes events of the lines of a trace."""

    def __init__(self, spool):
        super().__init__(spool)
        self.events = []

    def add(self, kind, path="", **more):
        self.events.append(Event(self.time, kind, path, **more))
        return self.events[-1]

    def file(self, text):
        """The path of a descriptor, when it is the spool's."""
        path = (self.paths(text.split(', "')[0]) or [None])[0]
        return path if path and self.model.inside(path) else None

    def snapshot(self, call, rest):
        if call not in ("fsync", "fdatasync") or not self.file(rest):
            return None
        return self.add("begin-sync", self.file(rest))

    def send(self, number, text):
        if not self.file(text):
            self.add("said", data=strings(text))

    def step(self, number, call, arguments, result, snapshot):
        if call in ("fsync", "fdatasync"):
            if snapshot:
                self.add("end-sync", snapshot.path, to=snapshot)
        elif call in HEARS:
            if not self.file(arguments):
                self.add("heard", data=strings(arguments))
        elif call in durable.WRITES or call == "copy_file_range":
            path = self.file(arguments)
            if path:
                self.write(number, call, path, arguments, result)
        elif call in ("sync", "syncfs", "io_uring_setup"):
            raise ValueError(f"line {number}: {call} is not in the model")
        else:
            paths = self.paths(arguments)
            if paths and all(path and self.model.inside(path)
                             for path in paths):
                self.name(call, arguments, paths)

    def write(self, number, call, path, arguments, result):
        if call == "ftruncate":
            self.add("resize", path, size=int(arguments.rpartition(", ")[2]))
            return
        if call not in ("write", "pwrite64", "writev"):
            raise ValueError(f"line {number}: {call} is not in the model")
        data = strings(arguments)
        assert len(data) >= result, f"line {number}: strace cut it"
        self.add("write", path, data=data[:result],
                 at=int(arguments.rpartition(", ")[2])
                 if call == "pwrite64" else None)

    def name(self, call, arguments, paths):
        kind = call.removesuffix("2").removesuffix("at")
        if kind in ("open", "creat"):
            # No name in it has a '|'.
            flags = arguments.rpartition('"')[2] if kind == "open" else \
                "O_CREAT|O_TRUNC"
            self.add("open", paths[0], flags=flags)
        else:
            self.add({"rmdir": "unlink"}.get(kind, kind), paths[0],
                     to=paths[1] if len(paths) > 1 else None)


def events(traces, spool):
    """Of all traces, one after the other; each began with a new process."""
    recorder = Recorder(spool)
    for trace in traces:
        with open(trace, encoding="utf-8", errors="surrogateescape") as lines:
            recorder.play(lines)
        recorder.begun.clear()
        recorder.add("ended", data=trace.read_bytes()[-20000:])
    return recorder.events


# The disk.

@dataclasses.dataclass(eq=False)
class Change:
    """Of a file: a write (data) or a new size.  Of a directory: an entry for
    node, or none any more."""
    number: int
    at: int = 0
    data: object = None
    name: str = ""
    node: object = None
    new: object = None  # the new entry of the rename that takes this one away
    settled: bool = False


class Node:
    """A file or directory: what is durable, and what has changed since."""

    def __init__(self, kept):
        self.kept, self.now, self.changes = kept, kept.copy(), []

    def add(self, change):
        self.changes.append(change)
        self.change(self.now, change)

    def settle(self, number):
        """All changes up to this one have become durable."""
        while self.changes and self.changes[0].number <= number:
            change = self.changes.pop(0)
            change.settled = True
            self.change(self.kept, change)


class File(Node):
    def __init__(self):
        super().__init__(bytearray())
        self.place, self.appends = 0, False

    @staticmethod
    def change(content, change):
        if change.data is None:
            del content[change.at:]
        end = change.at + len(change.data or b"")
        content.extend(bytes(max(0, end - len(content))))
        if change.data is not None:
            content[change.at:end] = change.data


class Directory(Node):
    def __init__(self):
        super().__init__({})

    @staticmethod
    def change(entries, change):
        if change.node is None:
            entries.pop(change.name, None)
        else:
            entries[change.name] = change.node


class Disk:
    def __init__(self, spool):
        self.spool = os.path.realpath(spool)
        self.top = os.path.dirname(self.spool)
        self.root, self.number, self.syncs = Directory(), 0, {}

    def find(self, path):
        node = self.root
        for name in path[len(self.top):].strip("/").split("/"):
            if name:
                node = node.now[name]
        return node

    def place(self, path):
        return self.find(os.path.dirname(path)), os.path.basename(path)

    def change(self, where, **what):
        self.number += 1
        change = Change(self.number, **what)
        where.add(change)
        return change

    def play(self, event):
        """True when something may be otherwise after it."""
        play = getattr(self, "play_" + event.kind.replace("-", "_"), None)
        return play is not None and play(event) is not False

    def play_open(self, event):
        if event.path == self.top:
            return False
        directory, name = self.place(event.path)
        if name not in directory.now:
            if "O_CREAT" not in event.flags:
                raise KeyError(event.path)
            self.change(directory, name=name, node=File())
        node = directory.now[name]
        if isinstance(node, File):
            node.place, node.appends = 0, "O_APPEND" in event.flags
        if "O_TRUNC" in event.flags:
            self.change(node, at=0)
        return "O_CREAT" in event.flags or "O_TRUNC" in event.flags

    def play_write(self, event):
        node = self.find(event.path)
        at = event.at
        if at is None:
            at = len(node.now) if node.appends else node.place
            node.place = at + len(event.data)
        self.change(node, at=at, data=event.data)

    def play_resize(self, event):
        self.change(self.find(event.path), at=event.size)

    def play_mkdir(self, event):
        directory, name = self.place(event.path)
        self.change(directory, name=name, node=Directory())

    def play_rename(self, event):
        (source, old), (target, new) = map(self.place, (event.path, event.to))
        entry = self.change(target, name=new, node=source.now[old])
        self.change(source, name=old, new=entry)

    def play_link(self, event):
        directory, name = self.place(event.to)
        self.change(directory, name=name, node=self.find(event.path))

    def play_unlink(self, event):
        directory, name = self.place(event.path)
        self.change(directory, name=name)

    def play_begin_sync(self, event):
        self.syncs[event] = self.find(event.path), self.number
        return False

    def play_end_sync(self, event):
        node, number = self.syncs.pop(event.to)
        node.settle(number)

    # States.

    def directories(self):
        """All that there are or may be, with their names in the spool."""
        found, todo = {}, [("", self.root)]
        while todo:
            path, node = todo.pop()
            found[node] = path
            for name, child in [
                    *node.kept.items(), *((change.name, change.node)
                                          for change in node.changes)]:
                if isinstance(child, Directory) and child not in found:
                    todo.append((f"{path}/{name}".removeprefix("/spool"),
                                 child))
        return found


def is_aside(path, name):
    """Is an entry of a directory of the spool none of a message's?"""
    return path == "/tmp" or (path == "" and name in RECORDS)


def partial(change, chance):
    """What of a write, not whole, may be there: (from, to, is zero)."""
    size = len(change.data or b"")
    if size < 2:
        return []
    cut = chance.randrange(1, size)
    sector = 512 * chance.randrange((size + 511) // 512)
    return [[(0, 1, False)], [(0, size // 2, False)], [(0, size - 1, False)],
            [(0, cut, False)], [(0, size, True)],
            [(0, min(512, size), True), (min(512, size), size, False)],
            [(0, sector, False), (sector, min(sector + 512, size), True),
             (min(sector + 512, size), size, False)]]


WHOLE, NOTHING = "whole", "nothing"


def fates(node, chance):
    """What may become of a file's changes: a fate for each of them."""
    count = len(node.changes)
    whole, nothing = [WHOLE] * count, [NOTHING] * count
    if count > 12:      # the oldest are there
        early = count - 12
        return [whole] + [[WHOLE] * early + rest for rest in
                          fates_of(node.changes[early:], chance)]
    return [nothing, whole] + fates_of(node.changes, chance)


def fates_of(changes, chance):
    count, found = len(changes), []
    for i, change in enumerate(changes):
        before, after = [WHOLE] * i, [WHOLE] * (count - i - 1)
        none = [NOTHING] * (count - i - 1)
        found.append(before + [NOTHING] + none)
        found.append(before + [NOTHING] + after)
        found.append([NOTHING] * i + [WHOLE] + none)
        for part in partial(change, chance):
            found.append(before + [part] + none)
            found.append(before + [part] + after)
    return found


def content(node, fate):
    result = bytearray(node.kept)
    for change, what in zip(node.changes, fate):
        if what == WHOLE:
            File.change(result, change)
        elif what != NOTHING:
            for begin, end, zero in what:
                data = bytes(end - begin) if zero else change.data[begin:end]
                File.change(result, Change(0, change.at + begin, data))
    return bytes(result)


@dataclasses.dataclass(eq=False)
class State:
    """A spool as it may be after a power cut."""
    directories: list   # their paths in the spool
    files: dict         # path: (node, content)

    def keys(self):
        """What tells it from others: of all, and of messages alone."""
        whole, strict = hashlib.sha256(), hashlib.sha256()
        groups = {}
        for path in sorted(self.files):
            node, data = self.files[path]
            aside = is_aside(*path.rsplit("/", 1))
            line = repr((path, groups.setdefault(node, len(groups)),
                         hashlib.sha256(data).digest())).encode()
            whole.update(line)
            if not aside:
                strict.update(line)
        line = repr(sorted(self.directories)).encode()
        whole.update(line)
        strict.update(line)
        return whole.digest(), strict.digest()

    def write(self, path):
        """Make it a directory; False: there is not even that."""
        if "" not in self.directories:
            return
        for one in sorted(self.directories):
            os.mkdir(path + one, 0o700)
        written = {}
        for name, (node, data) in self.files.items():
            if node in written:
                os.link(written[node], path + name)
                continue
            with open(os.open(path + name, os.O_WRONLY | os.O_CREAT |
                              os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
            written[node] = path + name

    def __str__(self):
        return " ".join(f"{path}({len(data)})"
                        for path, (_, data) in sorted(self.files.items())
                        if not is_aside(*path.rsplit("/", 1)))


class Chooser:
    """Chooses among the states that a disk may be in."""

    def __init__(self, disk, chance):
        self.chance, self.disk = chance, disk
        self.directories = disk.directories()
        self.entries, self.aside, self.files = [], [], {}
        for node, path in self.directories.items():
            for change in node.changes:
                aside = is_aside(path, change.name) and node is not disk.root
                (self.aside if aside else self.entries).append(change)
        for node, path in self.directories.items():
            for name, child in [
                    *node.kept.items(), *node.now.items(),
                    *((one.name, one.node) for one in node.changes)]:
                if isinstance(child, File) and child.changes and not (
                        is_aside(path, name) and node is not disk.root):
                    self.files[child] = None
        for node in self.files:
            self.files[node] = fates(node, chance)

    def choices(self, limit):
        """(the changes of directories that are there, the fates of files)."""
        none, all_ = frozenset(), frozenset(self.entries)
        whole = {node: [WHOLE] * len(node.changes) for node in self.files}
        nothing = {node: [NOTHING] * len(node.changes) for node in self.files}
        yield none, nothing
        yield all_, whole
        few = [(chosen, fates) for chosen in (none, all_)
               for fates in (nothing, whole)]
        few += [(chosen, whole) for one in self.entries
                for chosen in ({one}, all_ - {one})]
        few += [(chosen, {**rest, node: fate})
                for node, every in self.files.items() for fate in every
                for chosen in (none, all_) for rest in (whole,)]
        self.chance.shuffle(few)
        yield from few[:limit]
        for _ in range(limit - len(few)):
            yield (frozenset(one for one in self.entries
                             if self.chance.random() < .5),
                   {node: self.chance.choice(every)
                    for node, every in self.files.items()})

    def choose_aside(self):
        """Mostly nothing, or there would be little but that."""
        kind = self.chance.random()
        if kind < .8 or not self.aside:
            return set()
        if kind < .9:
            return {self.chance.choice(self.aside)}
        return {one for one in self.aside if self.chance.random() < .5}

    def state(self, chosen, fates_):
        chosen = set(chosen) | self.choose_aside()
        # No rename loses a file by itself.
        for change in list(chosen):
            if change.new is not None and not change.new.settled:
                chosen.add(change.new)
        directories, files = [], {}
        todo = [("", self.entry(self.disk.root, chosen).get(
            os.path.basename(self.disk.spool)))]
        while todo:
            path, node = todo.pop()
            if node is None:
                continue
            directories.append(path)
            for name, child in self.entry(node, chosen).items():
                if isinstance(child, Directory):
                    todo.append((f"{path}/{name}", child))
                else:
                    fate = fates_.get(child) or [WHOLE] * len(child.changes)
                    files[f"{path}/{name}"] = child, content(child, fate)
        return State(directories, files)

    @staticmethod
    def entry(directory, chosen):
        entries = dict(directory.kept)
        for change in directory.changes:
            if change in chosen:
                Directory.change(entries, change)
        return entries

    def states(self, limit):
        for choice in itertools.islice(self.choices(limit), limit):
            yield self.state(*choice)
