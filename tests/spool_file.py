"""Files of the spool as relayd writes them, changed: see spool.h."""

import re

ENVELOPE_AT = 512
END = 18


def crc32c(data):
    crc = 0xffffffff
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ 0x82f63b78 * (crc & 1)
    return crc ^ 0xffffffff


def under(data, name):
    """The same message with another id; that in its content stays."""
    head, tail = data[:ENVELOPE_AT], data[-END:]
    ids = data[9:21], name.encode()
    return head.replace(*ids) + data[ENVELOPE_AT:-END] + tail.replace(*ids)


def with_envelope(data, change, crc=True):
    """The head fits the envelope as changed; crc: its checksum, too."""
    name, length, content = data[9:21], int(data[22:32]), data[33:49]
    end = ENVELOPE_AT + length
    lines = change(data[ENVELOPE_AT:end])
    return b"relayd 1 %s %010d %s %08x %s" % (
        name, len(lines), content, crc32c(lines) if crc else 0,
        data[59:ENVELOPE_AT]) + lines + data[end:]


def aged(data, seconds):
    """It has arrived so much earlier."""
    return with_envelope(data, lambda lines: re.sub(
        rb"(?m)^arrived\t(\d+)$", lambda match: b"arrived\t%d" %
        (int(match[1]) - 1000 * seconds), lines, count=1))
