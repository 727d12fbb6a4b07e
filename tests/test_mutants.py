"""The planted faults of "make mutants" still fit the sources, and name tests
that there are."""

import pathlib
import re

import pytest

import mutants

TESTS = pathlib.Path(__file__).resolve().parent
ALL = [mutant for table in sorted((TESTS / "mutants").glob("*.txt"))
       for mutant in mutants.read_table(table)]


def is_there(test):
    file, _, name = test.partition("::")
    path = TESTS / (file if "." in file else f"test_{file}.c")
    return path.exists() and (not name or re.search(
        rf"^def {re.escape(name.partition('[')[0])}\(", path.read_text(),
        re.M))


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)
def test_it_applies(mutant):
    for file, old, _ in mutant.edits:
        assert (TESTS.parent / file).read_text().count(old) == 1, old
    assert mutant.tests and all(is_there(test) for test in mutant.tests), \
        mutant.tests
