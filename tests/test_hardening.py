"""How the programs are built: what makes a fault of ours harder to use."""

import re
import subprocess

import pytest

from harness import BIN, TIMEOUT

PROGRAMS = ("relayd", "sendmail", "relayctl")


def readelf(option, name):
    return subprocess.run(["readelf", "-W", option, BIN / name], check=True,
                          text=True, capture_output=True,
                          timeout=TIMEOUT).stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_may_be_loaded_anywhere(name):
    assert re.search(r"Type:\s+DYN \(Position-Independent Executable",
                     readelf("-h", name))
    assert re.search(r"\(FLAGS_1\).*\bPIE\b", readelf("-d", name))


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_the_linker_has_written_is_read_only(name):
    """Full RELRO: all symbols are bound at the start."""
    assert "GNU_RELRO" in readelf("-l", name)
    assert re.search(r"\(FLAGS\).*\bBIND_NOW\b|\(FLAGS_1\).*\bNOW\b",
                     readelf("-d", name))


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_is_both_written_and_run(name):
    segments = readelf("-l", name)
    assert re.search(r"GNU_STACK\s.*\sRW\s", segments)
    assert not re.search(r"^\s+\S+\s+0x.*\sRWE\s", segments, re.M)
    assert "TEXTREL" not in readelf("-d", name)


@pytest.mark.unsanitized    # it is built without
@pytest.mark.parametrize("name", PROGRAMS)
def test_buffers_are_guarded(name):
    """Stack protectors, and the C library's checked functions, which musl does
    not have."""
    symbols = readelf("--syms", name)
    assert "__stack_chk_fail" in symbols
    static = "NEEDED" not in readelf("-d", name)
    assert static or \
        re.search(r"__(?:memcpy|snprintf|vsnprintf|read)_chk", symbols)


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_finds_libraries_where_the_system_has_them(name):
    assert not re.search("RPATH|RUNPATH", readelf("-d", name))
