"""What relayctl does to messages: hold, release, delete, by id and by choice;
what is on hold is never sent, what is deleted is gone."""

import json
import re

import pytest

MESSAGES = [("a@example.net", "one@example.org", "first"),
            ("a@example.net", "two@example.org", "second"),
            ("", "one@example.org", "third")]


@pytest.fixture
def queued(daemon, host):
    """Three messages that wait, oldest first: their ids."""
    host.fault("GREETING", "421 4.3.2 later", then="close")
    ids = []
    for sender, recipient, text in MESSAGES:
        assert daemon.sendmail("-f", sender, recipient,
                               data=text.encode()).returncode == 0
        ids.append(daemon.wait_log(r"qmgr\[\d+\]: (\w+): from=",
                                   len(ids) + 1)[1])
    daemon.wait_log("status=deferred", len(ids))
    return ids


def bodies(messages):
    return sorted(message.body.decode().strip() for message in messages)


CHOICES = [
    (["--all"], {0, 1, 2}),
    (["--sender", "A@example.net"], {0, 1}),
    (["--sender", "<>"], {2}),
    (["--recipient", "one@example.org"], {0, 2}),
    (["--recipient", "one@example.org", "--sender", "a@example.net"], {0}),
    (["--older", "1h"], set()),
]


@pytest.mark.parametrize("choice, chosen", CHOICES, ids=lambda value: "-".join(
    value) if isinstance(value, list) else None)
def test_hold_and_release(daemon, host, queued, choice, chosen):
    held = daemon.relayctl("hold", *choice)
    assert (held.returncode, held.stdout.split()[0]) == (0, str(len(chosen)))
    assert daemon.queued("hold") == sorted(queued[i] for i in chosen)
    host.mend()
    assert daemon.relayctl("flush").returncode == 0
    sent = host.wait_messages(3 - len(chosen))
    assert bodies(sent) == sorted(MESSAGES[i][2] for i in {0, 1, 2} - chosen)
    # A message that came later shows that nothing else is on its way.
    assert daemon.sendmail("late@example.org", data=b"late").returncode == 0
    assert len(host.wait_messages(4 - len(chosen))) == 4 - len(chosen)
    listing = json.loads(daemon.relayctl("queue", "--json").stdout)
    assert {message["id"] for message in listing} == {
        queued[i] for i in chosen}
    assert all(message["state"] == "hold" for message in listing)
    if not chosen:
        return
    assert daemon.relayctl("release", "--all").returncode == 0
    assert bodies(host.wait_messages(4)) == \
        sorted(["first", "second", "third", "late"])


def test_what_is_held_stays_so_over_a_restart(daemon, host, queued):
    assert daemon.relayctl("hold", queued[1]).stdout == "1 message held\n"
    assert daemon.stop() == 0
    host.mend()
    daemon.start()
    assert bodies(host.wait_messages(2)) == ["first", "third"]
    assert daemon.relayctl("release", queued[1]).returncode == 0
    assert bodies(host.wait_messages(3)) == ["first", "second", "third"]


def test_delete(daemon, host, queued):
    deleted = daemon.relayctl("delete", queued[0], queued[2])
    assert (deleted.returncode, deleted.stdout) == (0, "2 messages deleted\n")
    assert daemon.queued() == [queued[1]]
    daemon.wait_log(rf"qmgr\[\d+\]: {queued[2]}: deleted by uid=\d+")
    host.mend()
    assert daemon.relayctl("flush").returncode == 0
    assert bodies(host.wait_messages(1)) == ["second"]
    again = daemon.relayctl("delete", queued[0])
    assert again.returncode == 1
    assert f"{queued[0]}: no such message" in again.stdout


def test_H24_a_message_in_flight_is_left_alone(daemon, host):
    stall = host.fault("END", then="stall", times=1)
    assert daemon.sendmail("root", data=b"one").returncode == 0
    name = daemon.wait_log(r"qmgr\[\d+\]: (\w+): from=")[1]
    host.wait_hits(stall)
    for verb in ("hold", "delete"):
        result = daemon.relayctl(verb, "--all")
        assert result.returncode == 1
        assert re.search(rf"{name}: it is being sent", result.stdout)
    assert daemon.queued() == [name]


@pytest.mark.parametrize("name", ["../../etc/passwd", "", ".", "D21HD4C49PQ2"])
def test_H24_what_is_no_id_is_refused(daemon, name):
    result = daemon.relayctl("delete", name)
    assert result.returncode == 64
    assert "not a queue id" in result.stdout


@pytest.mark.parametrize("arguments", [
    [], ["--all", "00000000000a"], ["--sender", "no address at all"],
    ["--older", "5"], ["--older"], ["--what"]], ids="-".join)
def test_wrong_arguments(daemon, arguments):
    assert daemon.relayctl("hold", *arguments).returncode == 64


def test_H23_partly_failed_hold_and_release(daemon, host):
    """One recipient has failed, one waits: both are tried again."""
    host.fault("RCPT", "550 5.1.1 nobody", match="bad", times=1)
    host.fault("RCPT", "450 4.2.1 later", match="good", times=1)
    assert daemon.sendmail("bad@example.org", "good@example.org",
                           data=b"one").returncode == 0
    name = daemon.wait_log(r"smtp\[\d+\]: (\w+): .*status=deferred")[1]
    assert daemon.queued() == [name, name]      # in cur/ and in failed/
    assert daemon.relayctl("hold", name).returncode == 0
    assert daemon.queued() == daemon.queued("hold") == [name]
    assert daemon.relayctl("release", name).returncode == 0
    message, = host.wait_messages(1)
    assert sorted(message.recipients) == ["bad@example.org",
                                          "good@example.org"]
    daemon.wait_log(f"{name}: removed")
    assert daemon.queued() == []
