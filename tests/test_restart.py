"""relayd starts again on a long queue."""

import json
import re
import shutil
import sys

import pytest

import spool_file
from dialogue import (HELLO, MAIL, QUIT, RCPT, TEXT, Exchange, bdat, connect,
                      queued_ids)
from harness import DAEMON_USER

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


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
