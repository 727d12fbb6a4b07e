"""Fixtures of the end-to-end tests: see harness.py and relayhost.py."""

import pathlib
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

# pylint: disable=wrong-import-position
from harness import PASSWORD, PEERS, ROOT, USER, Daemon
from relayhost import Authority, Relayhost


def pytest_collection_modifyitems(items):
    """What waits longest begins first."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than ten seconds")
    config.addinivalue_line("markers", "peers: needs tests/peers.sh and root")
    config.addinivalue_line("markers", "root: needs root")


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
