"""A few power cuts of those that "make power-cuts" makes by the hundred."""

import subprocess
import sys

import pytest

import power_cuts

pytestmark = pytest.mark.loop


def cut(kind, *options):
    done = subprocess.run(
        [sys.executable, power_cuts.__file__, "--cuts", "5", *options, kind],
        stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("kind", power_cuts.MAKE)
def test_what_was_acknowledged_survives(kind):
    cut(kind)


@pytest.mark.unsanitized    # they come first, too
@pytest.mark.parametrize("kind", power_cuts.MAKE)
@pytest.mark.parametrize("without", ["file", "directory"])
def test_without_a_sync_it_does_not(kind, without):
    cut(kind, "--without", without)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
