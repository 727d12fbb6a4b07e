"""What relayctl does to messages: hold, release, delete, by id and by choice;
what is on hold is never sent, what is deleted is gone."""

import email
import email.policy
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
    daemon.wait_log(r"qmgr\[\d+\]: \w+: removed", 4 - len(chosen))
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
    """Whether the daemon runs or not."""
    for stop in (lambda: None, daemon.stop):
        stop()
        result = daemon.relayctl("delete", name)
        assert result.returncode == 64
        assert "not a queue id" in result.stdout


@pytest.mark.parametrize("arguments", [
    [], ["--all", "00000000000a"], ["--sender", "no address at all"],
    ["--older", "5"], ["--older"], ["--what"]], ids="-".join)
def test_wrong_arguments(daemon, arguments):
    assert daemon.relayctl("hold", *arguments).returncode == 64


def test_H23_partly_failed_hold_and_release(daemon, host):
    """One recipient has failed, one waits: both are tried again; not the one
    who has it."""
    host.fault("RCPT", "550 5.1.1 nobody", match="bad", times=1)
    host.fault("RCPT", "450 4.2.1 later", match="good", times=1)
    assert daemon.sendmail("bad@example.org", "good@example.org",
                           "has@example.org", data=b"one").returncode == 0
    name = daemon.wait_log(r"smtp\[\d+\]: (\w+): .*status=deferred")[1]
    assert daemon.queued() == daemon.queued("cur") == [name]
    assert daemon.relayctl("hold", name).returncode == 0
    assert daemon.queued() == daemon.queued("hold") == [name]
    assert daemon.relayctl("release", name).returncode == 0
    first, second = host.wait_messages(2)
    assert first.recipients == ["has@example.org"]
    assert sorted(second.recipients) == ["bad@example.org",
                                         "good@example.org"]
    daemon.wait_log(f"{name}: removed")
    assert daemon.queued() == []


def change(daemon, **top):
    """Configuration and aliases, and have them read."""
    for key, value in top.items():
        daemon.top[key] = value
    daemon.write_config()
    reloaded = daemon.relayctl("reload")
    assert reloaded.returncode == 0, reloaded.stdout


def addresses(message, name):
    header = email.message_from_bytes(message.header,
                                      policy=email.policy.SMTP)
    return [address.addr_spec for address in header[name].addresses]


@pytest.mark.parametrize("place", ["cur", "hold", "failed"])
def test_requeue_after_from_and_aliases_have_changed(daemon, host, place):
    """The envelope is rewritten from what the client gave, and the header
    follows it; the rest of the message is as it was."""
    fault = host.fault("MAIL", "550 5.1.8 who are you" if place == "failed"
                       else "450 4.1.8 who are you")
    text = (b"From: root (Cron Daemon)\nTo: root, x@example.org\n"
            b"Subject: disk\nMessage-ID: <1@web1>\n\none\n.\nlast\n")
    assert daemon.sendmail("-N", "never", "-t", data=text).returncode == 0
    name = daemon.wait_log(r"qmgr\[\d+\]: (\w+): from=")[1]
    daemon.wait_log("kept in failed/" if place == "failed"
                    else "status=deferred")
    if place == "hold":
        assert daemon.relayctl("hold", name).returncode == 0
    assert daemon.queued(place) == [name]
    (daemon.directory / "aliases").write_text(
        "root: new@example.com, other@example.com\n")
    change(daemon, **{"from": "alerts@example.com"})
    host.mend(fault)
    requeued = daemon.relayctl("requeue", name)
    assert (requeued.returncode, requeued.stdout) == (
        0, "1 message requeued\n")
    daemon.wait_log(rf"qmgr\[\d+\]: {name}: requeued by uid=\d+")
    message, = host.wait_messages(1)
    assert message.sender == "alerts@example.com"
    assert sorted(message.recipients) == [
        "new@example.com", "other@example.com", "x@example.org"]
    assert addresses(message, "From") == ["alerts@example.com"]
    assert b'From: "Cron Daemon" <alerts@example.com>\r\n' in message.header
    assert addresses(message, "To") == [
        "new@example.com", "other@example.com", "x@example.org"]
    assert message.body == b"one\r\n.\r\nlast\r\n"
    assert message.header.count(b"Received:") == 1
    assert b"Message-ID: <1@web1>\r\n" in message.header
    daemon.wait_log(rf"{name}: removed")
    assert daemon.queued() == []


def test_requeue_does_not_send_to_whom_has_it(daemon, host):
    (daemon.directory / "aliases").write_text("root: a@x.example, b@x.example\n")
    fault = host.fault("RCPT", "450 4.2.1 later", match="b@x.example")
    assert daemon.sendmail("root", data=b"one").returncode == 0
    name = daemon.wait_log(r"smtp\[\d+\]: (\w+): .*status=deferred")[1]
    host.wait_messages(1)
    (daemon.directory / "aliases").write_text("root: a@x.example, c@x.example\n")
    host.mend(fault)
    for turn in range(2):   # what was sent is known after the first, too
        host.fault("RCPT", "450 4.2.1 later", match="c@x.example", times=1)
        assert daemon.relayctl("requeue", "--all").returncode == 0
        daemon.wait_log("to=<c@x.example>.*status=deferred", turn + 1)
    assert daemon.relayctl("flush").returncode == 0
    daemon.wait_log(rf"{name}: removed")
    first, *others = host.wait_messages(2)
    assert first.recipients == ["a@x.example"]
    assert [message.recipients for message in others] == [["c@x.example"]]


def test_requeue_knows_every_name_of_a_recipient(daemon, host):
    """Two names had one alias; now each has its own."""
    (daemon.directory / "aliases").write_text(
        "root: you@x.example\nadmin: you@x.example\n")
    fault = host.fault("MAIL", "450 4.1.8 later")
    assert daemon.sendmail("root", "admin", "ROOT",
                           data=b"one").returncode == 0
    name = daemon.wait_log(r"smtp\[\d+\]: (\w+): .*status=deferred")[1]
    host.mend(fault)
    (daemon.directory / "aliases").write_text(
        "root: root@x.example\nadmin: admin@x.example\n")
    assert daemon.relayctl("requeue", name).returncode == 0
    message, = host.wait_messages(1)
    assert sorted(message.recipients) == ["admin@x.example", "root@x.example"]


def test_requeue_that_would_be_refused_changes_nothing(daemon, host, queued):
    change(daemon, allow_recipients=["one@example.org"])
    requeued = daemon.relayctl("requeue", *queued)
    assert requeued.returncode == 1
    assert f"{queued[1]}: one of its recipients would be refused now" in \
        requeued.stdout
    assert "2 messages requeued" in requeued.stdout
    assert sorted(daemon.queued()) == queued
    host.mend()
    assert daemon.relayctl("flush").returncode == 0
    assert bodies(host.wait_messages(3)) == ["first", "second", "third"]


def test_requeue_of_a_large_message(daemon, host):
    """Longer than what is kept in memory, and its checksum is right."""
    fault = host.fault("MAIL", "450 4.1.8 later")
    body = b"".join(b"%09d\n" % i for i in range(100_000))
    assert daemon.sendmail("root", data=b"\n" + body).returncode == 0
    name = daemon.wait_log(r"smtp\[\d+\]: (\w+): .*status=deferred")[1]
    change(daemon, **{"from": "alerts@example.com"})
    host.mend(fault)
    assert daemon.relayctl("requeue", name).returncode == 0
    message, = host.wait_messages(1)
    assert message.body == body.replace(b"\n", b"\r\n")
    assert message.sender == "alerts@example.com"
