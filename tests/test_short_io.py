"""Reads and writes that do a part only, or are interrupted: no octet is lost or
doubled."""

import re
import subprocess
import sys

import pytest

from harness import HERE, PRELOADABLE

# The sanitizers' library would have to be loaded first.
pytestmark = pytest.mark.unsanitized

FEW, LINES = 7, 20_000
KINDS = ("good", "bad", "later")


@pytest.fixture
def short(directory):
    """What makes them so, as an environment."""
    library = directory / "short_io.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", library,
                    HERE / "short_io.c"], check=True)
    return {"LD_PRELOAD": str(library), "SHORT_IO": str(FEW)}


def body(name, lines):
    return f"this is {name}\r\n" + "".join(
        f"line {number} of {name}\r\n" for number in range(lines))


def test_every_octet_arrives_once(make_daemon, host, short):
    """By sendmail and relayd: taken in, sent, deferred, returned, and once more
    after a restart."""
    daemon = make_daemon(trace=False, wrapper=(
        "env", *(f"{name}={value}" for name, value in short.items())))
    host.fault("RCPT", "550 5.1.1 unknown", match="bad")
    later = host.fault("RCPT", "450 4.2.1 later", match="later")
    daemon.start()
    lines = {"short": 1, "long": LINES}
    for name, count in lines.items():
        done = daemon.sendmail(
            "-f", f"{name}@example.com",
            *(f"{kind}@example.org" for kind in KINDS), program=PRELOADABLE,
            **short, data=f"Subject: {name}\n\n{body(name, count)}".encode())
        assert (done.returncode, done.stderr) == (0, b"")
    host.wait_messages(2)
    daemon.wait_log("to=<later@.*status=deferred", len(lines))
    assert daemon.stop() == 0
    host.mend(later)
    daemon.start()
    assert daemon.relayctl("flush").returncode == 0
    daemon.wait(lambda: not daemon.queued())
    for name, count in lines.items():
        sent = [one for one in host.messages
                if one.sender == f"{name}@example.com"]
        assert [one.recipients for one in sent] == [
            ["good@example.org"], ["later@example.org"]]
        for message in sent:
            assert message.body == body(name, count).encode()
        report, = (one for one in host.messages
                   if one.recipients == [f"{name}@example.com"])
        assert b"bad@example.org" in report.body
        assert re.search(b"Subject: %s\r\n" % name.encode(), report.body)
    assert len(host.messages) == 3 * len(lines)
    told = daemon.relayctl("log").stdout
    assert [told.count(f"{kind}@example.org") for kind in KINDS] == \
        [2, 2, 4], told


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
