"""relayd starts again on a long queue, and that queue is listed."""

import json
import re
import shutil
import subprocess
import sys

import pytest

import spool_file
from dialogue import (HELLO, MAIL, QUIT, RCPT, TEXT, Exchange, bdat, connect,
                      queued_ids)
from harness import BIN, DAEMON_USER

EACH = 5000     # messages in new/, and as many in cur/


def submit(daemon):
    """Returns its id."""
    name, = queued_ids(Exchange(connect(daemon.socket)).send(
        HELLO + MAIL + RCPT + bdat(TEXT) + QUIT).replies())
    return name


def plant(daemon, count):
    """In new/ and in cur/ so many copies of the message in new/, for it."""
    name, = daemon.queued("new")
    data = (daemon.spool / "new" / name).read_bytes()
    (daemon.spool / "new" / name).unlink()
    for number in range(2 * count):
        other = f"{name[:-4]}{number:04d}"
        path = daemon.spool / ("new" if number < count else "cur") / other
        path.write_bytes(spool_file.under(data, other))
        path.chmod(0o600)
        shutil.chown(path, DAEMON_USER)


def counted(daemon):
    """How many wait, when the daemon knows."""
    while True:
        queue = json.loads(
            daemon.relayctl("status", "--json").stdout)["queue"]
        if not queue["reading"]:
            return queue["waiting"] + queue["active"]


@pytest.mark.root
@pytest.mark.slow
def test_mail_is_taken_before_the_queue_has_been_read(make_daemon, host):
    """250 is said before half of cur/ has been opened, and new/ listed."""
    host.fault("GREETING", then="stall")    # nothing leaves
    daemon = make_daemon().start()
    submit(daemon)
    assert daemon.stop() == 0
    plant(daemon, EACH)
    name = submit(daemon.start(inject=("openat:delay_enter=100",)))
    assert counted(daemon) == 2 * EACH + 1
    assert daemon.stop() == 0
    trace = daemon.traces()[-1].read_text("utf-8", "surrogateescape")
    before, after = trace.split(f"queued as {name}", 1)
    opened, listed = (rf'openat\(\d+<[^>]*/spool/{place}>, "{what}"'
                      for place, what in (("cur", r"\w{12}"), ("new", r"\.")))
    early, late = (len(re.findall(opened, part)) for part in (before, after))
    assert early + late == EACH and early < late
    assert not re.search(listed, before) and re.search(listed, after)


def listed(daemon, trace):
    """How many messages, and with how many calls for files."""
    done = subprocess.run(      # leaks can't be looked for under strace
        ["strace", "-f", "-E", "ASAN_OPTIONS=detect_leaks=0", "-o", trace,
         BIN / "relayctl", "-f", daemon.file, "queue"],
        stdout=subprocess.PIPE, check=True)
    return done.stdout.count(b"c@d.example"), len(re.findall(
        r"(?m)^\d+ +(?:open|stat|lstat|fstat|newfstat|statx|read|pread|close)"
        r"\w*\(", trace.read_text("utf-8", "surrogateescape")))


@pytest.mark.unsanitized    # they call for themselves
@pytest.mark.root
def test_listing_takes_four_calls_a_message(make_daemon, host, tmp_path):
    """Each file is opened, proved, read and closed, and no more."""
    host.fault("GREETING", then="stall")    # nothing leaves
    daemon = make_daemon().start()
    submit(daemon)
    assert daemon.stop() == 0
    plant(daemon, 150)
    many, calls_for_many = listed(daemon, tmp_path / "many.trace")
    for place in "new", "cur":
        for path in sorted((daemon.spool / place).iterdir())[25:]:
            path.unlink()
    few, calls_for_few = listed(daemon, tmp_path / "few.trace")
    assert (many, few) == (300, 50)
    # The directory itself takes some.
    assert 0 <= calls_for_many - calls_for_few - 4 * (many - few) < 10


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
