"""Do the tests notice when relayd is wrong?

Each mutant is relayd with one planted fault; the tests that are named as those
to catch it, which "make check" runs too, must fail.  First they must pass with
no fault at all.

usage: mutants.py [NAME ...]    (all; what is compiled must be up to date)

A file of tests/mutants/ has mutants in this form, with lines that begin with a
tab where the text continues:

    mutant NAME: what is wrong with it
    test NAME ...           of tests/test_NAME.c, or test_NAME.py::test_...
    in FILE                 the next lines are to be found there, once
    -text that is there
    +text in its place

A mutant may have several places.  One that no longer applies is an error.
"""

import concurrent.futures
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent
PLACE = TOP / "build/mutants"
TIMEOUT = 600   # for one test; what hangs is not caught
PYTEST = ["tests/own-root.sh", "/usr/bin/python3", "-m", "pytest", "-x", "-q",
          "-p", "no:cacheprovider", "-p", "no:xdist"]
FAILED = re.compile(r"^(?:\[  FAILED  \] (?!\d+ test)|FAILED tests/|"
                    r"ERROR tests/)(\S+)", re.M)


@dataclasses.dataclass
class Mutant:
    name: str
    text: str
    tests: list = dataclasses.field(default_factory=list)
    edits: list = dataclasses.field(default_factory=list)   # [file, old, new]


class Broken(Exception):
    """Nothing is proved: the table or the build is at fault."""


def read_table(path):
    """The mutants of one file."""
    mutants, found = [], None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        word, _, rest = line.partition(" ")
        if line[:1] in ("-", "+"):
            edits = mutants[-1].edits
            if line[0] == "-" and edits[-1][2]:
                edits.append([found, "", ""])   # another place of that file
            edits[-1][1 if line[0] == "-" else 2] += line[1:] + "\n"
        elif word == "mutant":
            name, _, text = rest.partition(": ")
            mutants.append(Mutant(name, text))
        elif word == "test":
            mutants[-1].tests += rest.split()
        elif word == "in":
            found = rest
            mutants[-1].edits.append([found, "", ""])
        elif line and not line.startswith("#"):
            raise Broken(f"{path.name}:{number}: {line}")
    return mutants


def copy_tree(name):
    """All that is built and all that it is built of."""
    tree = PLACE / name
    shutil.rmtree(tree, ignore_errors=True)
    (tree / "build/tests").mkdir(parents=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others",
         "--exclude-standard", "--", ".", ":!tests/fuzz", ":!bench"], cwd=TOP,
        check=True, capture_output=True, text=True).stdout.split("\0")
    for file in filter(None, listed):
        if (TOP / file).exists():
            (tree / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / file, tree / file)
    for file in [*TOP.glob("build/*.[oda]"), *TOP.glob("build/tests/*.[od]")]:
        shutil.copy2(file, tree / file.relative_to(TOP))
    (tree / "build/peers").symlink_to((TOP / "build/peers").resolve())
    return tree


def plant(tree, mutant):
    for file, old, new in mutant.edits:
        text = (tree / file).read_text()
        if not old or text.count(old) != 1:
            raise Broken(f"{mutant.name}: its text is {text.count(old)} times "
                         f"in {file}, not once:\n{old}")
        (tree / file).unlink()
        (tree / file).write_text(text.replace(old, new))


def run(tree, *command):
    """(exit status, output)"""
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    try:
        done = subprocess.run(
            command, cwd=tree, text=True, errors="replace", timeout=TIMEOUT,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={
                **environment, "RELAYD_BIN": str(tree),
                "PYTHONDONTWRITEBYTECODE": "1"})
    except subprocess.TimeoutExpired:
        raise Broken(f"{tree.name}: {command[-1]} does not end") from None
    return done.returncode, done.stdout


def build(tree, *targets):
    status, output = run(tree, "make", "-s", "WERROR=", *targets)
    if status != 0:
        raise Broken(f"{tree.name} can't be built:\n{output[-4000:]}")


def failing(tree, tests):
    """The first that fails, or None: all of C, or all of pytest."""
    if "." in tests[0]:
        build(tree, "all", "build/tests/sendmail")
        status, output = run(tree, *PYTEST, *[f"tests/{one}" for one in tests])
        if status not in (0, 1):
            raise Broken(f"{tree.name}: {tests} can't be run:\n"
                         f"{output[-4000:]}")
        first = FAILED.search(output)
        return None if status == 0 else first[1] if first else tests[0]
    for test in tests:
        build(tree, f"build/tests/test_{test}")
        status, output = run(tree, f"build/tests/test_{test}")
        if status != 0:
            first = FAILED.search(output)
            return f"test_{test}: {first[1] if first else 'it is killed'}"
    return None


def judge(mutant):
    """Returns the test that catches it, or None; Broken as a value."""
    tree = PLACE / mutant.name
    try:
        copy_tree(mutant.name)
        plant(tree, mutant)
        for test in mutant.tests:
            found = failing(tree, [test])
            if found is not None:
                return found
        return None
    except Broken as error:
        return error
    finally:
        shutil.rmtree(tree, ignore_errors=True)


def check_sound(mutants):
    """Without a fault they pass, or it means nothing that they fail."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    tree = copy_tree("none")
    try:
        for kind in (True, False):
            some = [test for test in tests if ("." in test) == kind]
            found = failing(tree, some) if some else None
            if found is not None:
                raise Broken(f"{found} fails without any fault")
    finally:
        shutil.rmtree(tree, ignore_errors=True)
    print(f"{len(tests)} tests pass without a fault", flush=True)


def main():
    mutants = [mutant for path in sorted(HERE.glob("mutants/*.txt"))
               for mutant in read_table(path)]
    wanted = sys.argv[1:] or [mutant.name for mutant in mutants]
    unknown = set(wanted) - {mutant.name for mutant in mutants}
    if unknown:
        sys.exit(f"no such mutant: {', '.join(sorted(unknown))}")
    mutants = [mutant for mutant in mutants if mutant.name in wanted]
    wrong = 0
    try:
        check_sound(mutants)
    except Broken as error:
        sys.exit(str(error))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutant, found in zip(mutants, pool.map(judge, mutants)):
            wrong += not isinstance(found, str)
            verdict = f"caught by {found}" if isinstance(found, str) else \
                "SURVIVES" if found is None else f"ERROR {found}"
            print(f"{mutant.name:36} {mutant.text}\n{'':36} {verdict}",
                  flush=True)
    print(f"{len(mutants)} mutants, {len(mutants) - wrong} caught")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
