"""relayd(8) lists every log line that the daemon can write, and SECURITY.md
names tests that are there."""

import re

from harness import HERE

TOP = HERE.parent
# relayctl and sendmail say what they have to say elsewhere; log.c has its
# own line and the functions themselves.
DAEMON = [path for path in sorted(TOP.glob("*.c"))
          if not path.name.startswith(("relayctl", "sendmail", "log"))]
CALL = re.compile(r'log_(info|warning|error)\(\s*[^;"]*?'
                  r'((?:"(?:smtpd|pickup|cleanup|qmgr|smtp|bounce)"|NULL|'
                  r'log_part\(s\)),\s*)((?:"(?:\\.|[^"\\])*"\s*|'
                  r'RELAYD_VERSION\s*)+)')


def letters(text):
    """What is left when layout and punctuation don't count."""
    return re.sub(r"[^A-Za-z]", "", text)


def entries():
    """The list's tags, less macros and their arguments that vary."""
    page = (TOP / "man/relayd.8").read_text()
    page = page.partition(".Sh LOG LINES")[2].partition(".Sh SEE ALSO")[0]
    for line in re.findall(r"^\.It (.*)$", page, re.M):
        line = re.sub(r"\\\(dq", '"', line)
        yield letters(re.sub(r"\bAr \S+|\b(?:Ns|No)\b", " ", line))


def formats():
    """(file, literal parts of the text) of each call."""
    for path in DAEMON:
        for level, _, text in CALL.findall(path.read_text()):
            text = "".join(re.findall(r'"((?:\\.|[^"\\])*)"', text))
            parts = re.split(r"%[-.0-9*]*(?:ll|z)?[a-zA-Z]", text)
            parts = [letters(one.replace('\\"', '"')) for one in parts]
            yield path.name, [letters("" if level == "info" else level),
                              *filter(None, parts)]


def test_every_log_line_is_in_the_manual():
    tags = list(entries())
    found = list(formats())
    assert len(found) > 40
    for name, parts in found:
        pattern = re.compile(".*".join(map(re.escape, parts)))
        assert any(pattern.search(tag) for tag in tags), (name, parts)


def test_no_call_is_overlooked():
    calls = sum(len(re.findall(r"\blog_(?:info|warning|error)\(",
                               path.read_text())) for path in DAEMON)
    assert len(list(formats())) == calls


def test_every_proof_in_the_threat_model_is_there():
    rows = re.findall(r"^\|.*\| (`.*`) \|$", (TOP / "SECURITY.md").read_text(),
                      re.M)
    assert len(rows) > 15
    tests = "".join(path.read_text() for path in HERE.glob("test_*.[cp]*"))
    for name in re.findall("`([^`]+)`", " ".join(rows)):
        if "." in name:
            place = TOP if "/" in name else HERE
            assert (place / name).is_file(), name
        else:
            assert re.search(rf"^(?:def )?{name}\(", tests, re.M), name
