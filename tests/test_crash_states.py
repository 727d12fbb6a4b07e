"""Recovery after a power cut at any moment, in short ("make crash-states" is
the long run), and that the check finds what it is there for."""

import re
import shutil

import pytest

import crash_states
import crash_story
from conftest import make_directory

pytestmark = [pytest.mark.root, pytest.mark.slow]

SHORT = {"limit": 3, "every": 3}


@pytest.fixture(scope="module")
def recorded(authority):
    path = make_directory()
    (path / "daemon").mkdir()
    yield crash_story.record(path / "daemon", authority)
    shutil.rmtree(path)


def check(recorded, directory, events=None, **options):
    events = recorded.events if events is None else events
    return crash_states.Checker(directory, recorded.arrived, recorded.bodies,
                                recorded.spool, **options).check(events)


def test_every_state_is_recovered(recorded, directory):
    figures = check(recorded, directory, **SHORT)
    assert not figures.violations, "\n".join(figures.violations[:10])
    assert figures.distinct > 300, str(figures)


# The same story by daemons that make a mistake: their events.

def without_syncs(events, wanted):
    return [event for event in events if event.kind != "end-sync" or
            not re.search(wanted, event.path)]


def no_sync_of_files(events):
    return without_syncs(events, r"/spool/\w+/\w+$")


def no_sync_of_directories(events):
    return without_syncs(events, r"/spool/(new|cur|failed|hold)$")


def earlier(events, moved, before):
    """Each event for which moved() tells a name goes to where the first one
    is for which before() tells it, if that is earlier."""
    result = list(events)
    for event in events:
        name = moved(event)
        at = next((i for i, one in enumerate(result)
                   if before(one) == name), None) if name else None
        if at is not None and at < result.index(event):
            result.remove(event)
            result.insert(at, event)
    return result


def named(kind, pattern, text=None):
    """Of an event of this kind, what the pattern's group has of its path, or
    of its text."""
    def name(event):
        match = event.kind == kind and re.search(
            pattern, text(event) if text else event.path)
        return match[1] if match else None
    return name


def said(event):
    return event.data.decode("latin-1")


def acknowledged_before_commit(events):
    return earlier(events, named("said", r"queued as (\w+)", said),
                   named("end-sync", r"/(?:tmp|new)/(\w+)$"))


opened = named("open", r"/(?:new|cur)/(\w+)$")
written = named("write", r"/(?:new|cur)/(\w+)$")
unlinked = named("unlink", r"/(?:new|cur)/(\w+)$")


def marked_before_the_reply(events):
    """The '+' is written when the message is opened to be sent."""
    return earlier(events, lambda event: written(event)
                   if event.data == b"+" else None, opened)


def removed_before_the_reply(events):
    """So is the removal of what has no marks."""
    gone = {unlinked(event): event for event in events}
    for event in events:
        gone.pop(written(event), None)
    gone.pop(None, None)
    left = [event for event in events if event not in gone.values() and not (
        gone.get(opened(event)) and event.time > gone[opened(event)].time)]
    return [gone.get(opened(event), event) for event in left]


def original_removed_before_its_report(events):
    """It goes when the report is begun."""
    result, begun = [], None
    originals = set(re.findall(
        r"bounce\[\d+\]: (\w+): sender non-delivery",
        "\n".join(said(one) for one in events if one.kind == "said")))
    unlinks = {unlinked(one): one for one in events}
    for event in events:
        about = re.search(rb"X-Relayd-Queue-ID: (\w+)\r\n[^\0]*"
                          rb"Action: failed", event.data) \
            if event.kind == "write" and "/tmp/" in event.path else None
        name = about and about[1].decode()
        if name in originals and name in unlinks:
            result.append(unlinks.pop(name))
        result.append(event)
    seen = set()
    return [one for one in result if not (one in seen or seen.add(one))]


def no_sync_of_marks(events):
    return without_syncs(events, r"/(?:new|cur)/\w+$")


MISTAKES = [
    (no_sync_of_files, "is not sent to"),
    (no_sync_of_directories, "is not sent to"),
    (acknowledged_before_commit, "is not sent to"),
    (marked_before_the_reply, "is not sent to"),
    (removed_before_the_reply, "is not sent to"),
    (original_removed_before_its_report, "is forgotten"),
    (no_sync_of_marks, "has had it for long and gets it again"),
]


# One test, since the story takes its time.
def test_every_mistake_is_found(recorded, directory):
    for mistake, words in MISTAKES:
        events = mistake(recorded.events)
        begin = next(i for i, event in enumerate(events)
                     if event is not recorded.events[i])
        if mistake is no_sync_of_marks:     # nothing is wrong before
            begin = next(i for i, event in enumerate(events)
                         if "to=<tardy" in said(event))
        figures = check(recorded, directory, events, limit=6, begin=begin,
                        enough=1)
        assert any(words in one for one in figures.violations), \
            f"{mistake.__name__}: {figures}"
