"""Fixtures of the end-to-end tests: see harness.py and relayhost.py."""

import contextlib
import email
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

# pylint: disable=wrong-import-position
import power_cuts
import relayhost as relayhosts
from callers import BODY, TO
from dialogue import Server
from fake_daemon import alone, place  # pylint: disable=unused-import
from harness import (BIN, PASSWORD, PEERS, ROOT, SANITIZED, TIMEOUT, USER,
                     Daemon, assert_valid, crlf, defects, private)
from relayhost import Authority, Relayhost


def pytest_addoption(parser):
    parser.addoption("--least", type=int, metavar="POINTS", help="fail when "
                     "the tests have recorded fewer points than that")


def pytest_sessionfinish(session):
    """The sum of what tests have given to record_property("points", ...)."""
    least = session.config.option.least
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if least is None or hasattr(session.config, "workerinput"):
        return
    total = sum(value for report in reporter.stats.get("passed", ())
                for name, value in report.user_properties
                if name == "points")
    reporter.write_line(f"\n{total} points in all, of at least {least}")
    if total < least:
        session.exitstatus = 1


def pytest_collection_modifyitems(config, items):
    """What waits longest begins first; what is for "make soak" and the sweeps
    only waits until it is asked for, and what a build or a machine has not is
    not asked of it."""
    absent = {"unsanitized"} if SANITIZED else set()
    if not config.option.markexpr:
        absent |= {"soak", "sweep"}
    if any(item.get_closest_marker("loop") for item in items) and \
            not power_cuts.is_possible():
        absent.add("loop")
    out = [item for item in items
           if absent & {marker.name for marker in item.iter_markers()}]
    items[:] = [item for item in items if item not in out]
    config.hook.pytest_deselected(items=out)
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than ten seconds")
    config.addinivalue_line("markers", "soak: only with -m soak")
    config.addinivalue_line("markers", "sweep: only with -m sweep")
    config.addinivalue_line("markers", "unsanitized: about what a build with "
                            "sanitizers is without")
    config.addinivalue_line("markers", "loop: needs root and loop devices")
    config.addinivalue_line("markers", "peers: needs tests/peers.sh and root")
    config.addinivalue_line("markers", "root: needs root")
    config.addinivalue_line("markers", "defective_input(defect, ...): what "
                            "harness.defects() may find in what arrives")


def pytest_runtest_setup(item):
    peers = item.get_closest_marker("peers")
    if (peers or item.get_closest_marker("root")) and not ROOT:
        pytest.skip(f"{item.name} needs root")
    for name in peers.args if peers else ():
        if not (PEERS / "done" / name).exists():
            pytest.skip(f"{item.name} needs {name}: run tests/peers.sh")


def make_directory():
    """One that the daemon's user may enter, unlike pytest's own."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="relayd-test-"))
    path.chmod(0o755)
    return path


@pytest.fixture(scope="session")
def authority():
    path = make_directory()
    yield Authority(path)
    shutil.rmtree(path)


@pytest.fixture
def directory():
    path = make_directory()
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def strict_mail(request):
    """What relayhosts get in a test must be mail to a strict parser, but for
    defects of the test's input.  It names them by a marker, or calls this with
    the text that it hands over."""
    arrived = []
    relayhosts.observers.append(arrived.append)
    marker = request.node.get_closest_marker("defective_input")
    excused = set(marker.args if marker else ())
    yield lambda text: excused.update(defects(crlf(text)))
    relayhosts.observers.remove(arrived.append)
    for message in arrived:
        found = defects(message.data, "SMTPUTF8" in message.mail_parameters)
        assert found <= excused, (found - excused, message.data[:2000])


@pytest.fixture
def host(authority):
    with Relayhost(authority, users={USER: PASSWORD}) as relayhost:
        yield relayhost


@pytest.fixture
def make_daemon(directory, host):
    """Makes a Daemon.  When the test is over it must end in good order, and
    the trace of its system calls must stand the check of durable.py."""
    daemons = []

    def make(**options):
        options.setdefault("host", host)
        place = directory / f"daemon{len(daemons)}"
        place.mkdir()
        daemons.append(Daemon(place, **options))
        return daemons[-1]

    yield make
    for daemon in daemons:
        assert daemon.stop() in (None, 0), daemon.log[-20:]
        daemon.check_durability()


@pytest.fixture
def daemon(make_daemon):
    return make_daemon().start()


@pytest.fixture
def start(daemon, directory):
    """Start a command where relayd's sendmail is the system's and its socket
    in the usual place.  end_all: see private(); others: its environment."""
    scratch = directory / "private"
    scratch.mkdir()
    binds = [(BIN / "sendmail", "/usr/sbin/sendmail"),
             (BIN / "sendmail", "/usr/lib/sendmail"),
             (daemon.run, "/run/relayd"),
             # Debian's alternatives have this one.
             (PEERS / "root/usr/bin/bsd-mailx", "/usr/bin/mail")]
    processes = []

    def starter(*command, end_all=False, **environment):
        processes.append(subprocess.Popen(
            private(scratch, command, binds, end_all), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
                 "HOME": str(directory), "USER": "root",
                 # Under faketime another library is loaded first.
                 "ASAN_OPTIONS": "verify_asan_link_order=0", **environment}))
        return processes[-1]

    yield starter
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def run(start):
    """Run such a command to its end; fails: it must tell of an error.
    Returns its output."""
    def runner(*command, data=BODY, fails=False, **options):
        process = start(*command, **options)
        output, _ = process.communicate(data.encode(), TIMEOUT)
        assert (process.returncode != 0) == fails, output.decode()
        return output.decode()

    return runner


@pytest.fixture
def arrived(host, daemon):
    """Compare the message that arrives; returns its header.  At the end of
    the test it must be the only one."""
    def compare(to=(TO,), sender=USER, body=BODY, decoded=False):
        """body: text, or a pattern; decoded: the caller has encoded it."""
        message, = host.wait_messages(1)
        assert sorted(message.recipients) == sorted(to)
        assert message.sender == sender
        assert message.user == USER and message.tls.startswith("TLSv1.")
        daemon.wait_log(
            r"relayd/smtp\[\d+\]: .*status=sent \(250 2.0.0 Ok: taken")
        header = assert_valid(message)
        if decoded:
            content = email.message_from_bytes(message.data)
            charset = content.get_content_charset("utf-8")
            got = crlf(content.get_payload(decode=True)
                       .decode(charset).encode())
        else:
            got = message.body
        if isinstance(body, re.Pattern):
            assert body.fullmatch(got.decode().replace("\r\n", "\n")), got
            return header
        wanted = crlf(body.encode())
        if not wanted.endswith(b"\r\n"):
            wanted += b"\r\n"
        assert got == wanted
        return header

    yield compare
    daemon.stop()
    assert len(host.messages) <= 1 and not daemon.queued()


@pytest.fixture(scope="module")
def server(authority):
    """One daemon for all rows of a module: see dialogue.py."""
    path = make_directory()
    one = Server(
        path, authority, aliases="postmaster: pm@example.com\n",
        listen='listen "127.0.0.2:0" { bare_newline = "reject" }\n'
               'listen "127.0.0.3:0" { allow = {"127.0.0.9"} }\n')
    yield one
    one.close()
    shutil.rmtree(path)


@pytest.fixture
def frozen():
    """with frozen(daemon): what is sent to it meanwhile is there at once when
    it goes on."""
    @contextlib.contextmanager
    def freeze(daemon):
        os.kill(daemon.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(daemon.process.pid, signal.SIGCONT)
    return freeze
