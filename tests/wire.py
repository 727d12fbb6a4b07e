"""Readers of what a relayhost was sent."""

import re

# What ends a line, before a single dot and behind it: to a strict reader, to
# one that takes LF for CRLF, or CR, and to one that takes LF . CRLF.
READERS = [(rb"\r\n", rb"\r\n"), (rb"\r?\n", rb"\r?\n"), (rb"\r\n?", rb"\r\n?"),
           (rb"\r?\n", rb"\r\n")]


def read_wire(wire, before, behind):
    """The messages that such a reader finds: envelopes and contents."""
    found, at = [], 0
    end_of_data = re.compile(before + rb"\." + behind)
    while at < len(wire):
        end = re.compile(before).search(wire, at)
        command, at = wire[at:end.start()], end.end()
        verb, _, argument = command.partition(b" ")
        if verb == b"MAIL":
            envelope = [argument]
        elif verb == b"RCPT":
            envelope.append(argument)
        elif verb == b"DATA":
            end = end_of_data.search(wire, at - 2)
            lines = re.split(before, wire[at:end.start()])
            found.append((envelope, [line.removeprefix(b".")
                                     for line in lines]))
            at = end.end()
        elif verb == b"BDAT":
            size, last = argument.split()
            assert last == b"LAST"
            lines = re.split(before, wire[at:at + int(size)])
            assert lines.pop() == b""
            found.append((envelope, lines))
            at += int(size)
        else:
            assert verb in (b"EHLO", b"RSET", b"QUIT"), command
    return found
