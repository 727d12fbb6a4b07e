"""Metrics, health and readiness over HTTP, and relayctl metrics."""

import collections
import concurrent.futures
import pathlib
import re
import signal
import socket
import subprocess
import time

import pytest

from harness import HERE, PEERS, TIMEOUT, USER

LIMIT = 8 << 10     # octets of a request
SEATS = 8
OPENMETRICS = "Accept: application/openmetrics-text;version=1.0.0\r\n"


class Watcher:
    """Those who watch a daemon."""

    def __init__(self, daemon, start=1):
        match = daemon.wait_log(r"metrics on 127\.0\.0\.1:(\d+)", start)
        self.address = ("127.0.0.1", int(match[1]))

    def connect(self):
        return socket.create_connection(self.address, TIMEOUT)

    def exchange(self, request):
        """All that comes back until the end; "" where the seats are taken."""
        with self.connect() as sock:
            try:
                sock.sendall(request)
                with sock.makefile("rb") as file:
                    return file.read().decode()
            except ConnectionError:
                return ""

    def get(self, path, more="", method="GET"):
        """(status, header, body); asks again while the seats are taken."""
        deadline = time.monotonic() + TIMEOUT
        reply = ""
        while not reply:
            assert time.monotonic() < deadline
            reply = self.exchange(f"{method} {path} HTTP/1.1\r\nHost: x\r\n"
                                  f"{more}\r\n".encode())
        header, _, body = reply.partition("\r\n\r\n")
        return int(header.split()[1]), header, body

    def values(self):
        return parse(self.get("/metrics")[2])


Family = collections.namedtuple("Family", "name type help unit")


def parse(text, openmetrics=False):
    """{sample with its labels: value}, of a text that is checked: the lines
    of a family are together, each says what it is, histograms add up."""
    families, values, family = [], {}, None
    lines = text.split("\n")
    assert lines[-2:] == ["# EOF", ""]
    for line in lines[:-2]:
        if match := re.fullmatch(r"# HELP (\w+) (\S.*\.)", line):
            assert match[1] not in [one.name for one in families]
            family = Family(match[1], None, match[2], None)
            families.append(family)
        elif match := re.fullmatch(
                r"# TYPE (\w+) (counter|gauge|histogram)", line):
            assert match[1] == family.name and not family.type
            family = family._replace(type=match[2])
        elif match := re.fullmatch(r"# UNIT (\w+) (seconds|bytes)", line):
            assert match[1] == family.name
            assert re.search(match[2] + "(_total)?$", family.name)
            family = family._replace(unit=match[2])
        else:
            match = re.fullmatch(
                r'(\w+?)(_total|_bucket|_sum|_count)?'
                r'(?:\{(\w+="[^"\\\n]*"(?:,\w+="[^"\\\n]*")*)\})? '
                r'([-+.\de]+)', line)
            assert match, line
            name, suffix, labels, value = match.groups()
            suffix = suffix or ""
            allowed = {"gauge": ("",), "counter": ("_total",),
                       "histogram": ("_bucket", "_sum", "_count")}
            assert suffix in allowed[family.type], line
            counter = "_total" if family.type == "counter" and \
                not openmetrics else ""
            assert name + counter == family.name, line
            assert not family.name.endswith("_seconds") or family.unit
            key = name + suffix + (f"{{{labels}}}" if labels else "")
            assert key not in values
            values[key] = float(value)
    check_histograms(values)
    return values


def check_histograms(values):
    groups = collections.defaultdict(list)
    for key, value in values.items():
        if match := re.fullmatch(r'(\w+)_bucket\{(.*?),?le="(.*)"\}', key):
            groups[match[1], match[2]].append((match[3], value))
    assert groups
    for (name, labels), buckets in groups.items():
        labels = f"{{{labels}}}" if labels else ""
        bounds = [float(bound) for bound, _ in buckets]
        counts = [count for _, count in buckets]
        assert bounds == sorted(bounds) and bounds[-1] == float("inf")
        assert all(bound == repr(float(bound)) or bound == "+Inf"
                   for bound, _ in buckets), buckets
        assert counts == sorted(counts)
        assert counts[-1] == values[f"{name}_count{labels}"]
        assert f"{name}_sum{labels}" in values


def settled(ask, wanted):
    """Until what ask() returns is wanted; a metric has no line in the log."""
    deadline = time.monotonic() + TIMEOUT
    while (got := ask()) != wanted:
        assert time.monotonic() < deadline, (got, wanted)
    return got


TOP = {"metrics": "127.0.0.1:0"}


@pytest.fixture
def watched(make_daemon):
    return make_daemon(top=TOP).start()


@pytest.fixture
def watcher(watched):
    return Watcher(watched)


def sent(daemon, recipient, *, data=b"Subject: x\n\nx\n"):
    """Without a bounce, which would be a message more."""
    assert daemon.sendmail("-N", "never", recipient, data=data).returncode == 0


@pytest.mark.peers("prometheus")
def test_promtool_finds_nothing(watched, watcher, host):
    """Not in the text of relayctl, which needs no "metrics", either."""
    sent(watched, "a@example.org")
    watched.wait_log("removed")
    for text in (watcher.get("/metrics")[2],
                 watched.relayctl("metrics").stdout):
        parse(text)
        told = subprocess.run(
            [PEERS / "root/usr/bin/promtool", "check", "metrics"],
            input=text, text=True, capture_output=True, timeout=TIMEOUT)
        assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


def test_form_is_what_the_client_accepts(watcher):
    _, header, text = watcher.get("/metrics")
    assert "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n" in \
        header
    assert "# TYPE relayd_messages_accepted_total counter\n" in text
    _, header, text = watcher.get("/metrics", OPENMETRICS)
    assert "Content-Type: application/openmetrics-text; version=1.0.0" in \
        header
    assert "# TYPE relayd_messages_accepted counter\n" in text
    assert set(parse(text, openmetrics=True)) == set(watcher.values())


def test_relayctl_tells_the_same_without_a_port(daemon, make_daemon):
    names = parse(daemon.relayctl("metrics").stdout)
    other = make_daemon(top=TOP).start()
    watcher = Watcher(other)
    other = settled(lambda: set(watcher.values()), set(names))
    assert 'relayd_queue_messages{state="failed"}' in other
    assert daemon.relayctl("metrics", "x").returncode == 64


def test_values_change_as_mail_flows(watched, watcher, host):
    before = watcher.values()
    assert before["relayd_messages_accepted_total"] == 0
    assert before["relayd_accepting"] == 1
    assert abs(before["process_start_time_seconds"] - time.time()) < TIMEOUT
    assert before["process_open_fds"] > 5
    assert before["process_max_fds"] > before["process_open_fds"]
    assert 'relayd_relay_tls_info{relay="test",version="none"}' in before
    host.fault("RCPT", "550 5.1.1 nobody", match="bad")
    host.fault("RCPT", "450 4.2.1 later", match="late")
    for recipient in ("good@example.org", "good@example.org",
                      "bad@example.org", "late@example.org"):
        sent(watched, recipient)
    watched.wait_log("removed", 2)
    watched.wait_log("kept in failed/")
    watched.wait_log("status=deferred")
    name = watched.wait_log(r"(\w+): to=<late@.*status=deferred")[1]
    with socket.create_connection(("127.0.0.1", watched.port),
                                  TIMEOUT) as sock:
        sock.sendall(b"EHLO x\r\nMAIL FROM:<no address>\r\nQUIT\r\n")
        with sock.makefile("rb") as file:
            assert b"\r\n501 " in file.read()
    after = watcher.values()
    assert after["relayd_messages_accepted_total"] == 4
    assert after["relayd_commands_rejected_total"] == 1
    assert after["relayd_commit_seconds_count"] >= 1
    for status, count in (("sent", 2), ("bounced", 1), ("deferred", 1)):
        assert after['relayd_deliveries_total{relay="test",status="%s"}'
                     % status] == count
    assert after['relayd_delivery_seconds_count{relay="test"}'] == 2
    assert after['relayd_queue_messages{state="waiting"}'] == 1
    assert 0 <= after['relayd_queue_oldest_age_seconds{state="waiting"}'] < 60
    assert after['relayd_relay_connections{relay="test"}'] >= 1
    assert any(key.startswith('relayd_relay_tls_info{relay="test",version='
                              '"TLSv1.') for key in after)
    success = after[
        'relayd_relay_last_success_timestamp_seconds{relay="test"}']
    assert abs(success - time.time()) < TIMEOUT
    assert after["relayd_loop_turn_seconds_count"] > \
        before["relayd_loop_turn_seconds_count"]
    assert after["relayd_loop_stall_seconds"] >= 0
    # What lies in hold and failed is counted on the disk.
    assert watched.relayctl("hold", name).returncode == 0
    now = parse(watched.relayctl("metrics").stdout)
    assert now['relayd_queue_messages{state="hold"}'] == 1
    assert now['relayd_queue_messages{state="failed"}'] == 1
    assert now['relayd_queue_messages{state="waiting"}'] == 0
    assert now["relayd_queue_failed_bytes"] > 0


def test_relay_paused_and_why(watched, watcher, host):
    host.users = {USER: "other"}
    sent(watched, "a@example.org")
    watched.wait_log("relay test is paused")
    values = watcher.values()
    assert values['relayd_relay_paused{relay="test",fault="auth"}'] == 1
    assert values['relayd_relay_retry_seconds{relay="test"}'] > 0
    assert watcher.get("/readyz")[::2] == (200, "ok\n")
    assert watcher.get("/healthz")[::2] == (200, "ok\n")


def test_what_is_in_flight(watched, watcher, host):
    stall = host.fault("END", then="stall", times=1)
    sent(watched, "a@example.org")
    host.wait_hits(stall)
    assert watcher.values()['relayd_queue_messages{state="active"}'] == 1
    settled(lambda: watcher.values()[
        'relayd_queue_oldest_age_seconds{state="active"}'] > 0, True)
    host.mend()


SMALL_DISK = ("unshare", "--mount", "sh", "-euc", """
mount -t tmpfs -o size=4m,mode=0700,uid=65534,gid=65534 none "$0"
exec "$@"
""")


@pytest.mark.root
def test_not_ready_while_the_disk_is_full(make_daemon):
    daemon = make_daemon(top={"min_free_space": "1M", **TOP}, trace=False)
    daemon.spool.mkdir()
    daemon.wrapper = (*SMALL_DISK, str(daemon.spool))
    watcher = Watcher(daemon.start())
    free = watcher.values()["relayd_spool_free_bytes"]
    assert watcher.get("/readyz")[::2] == (200, "ok\n")
    filler = pathlib.Path(
        f"/proc/{daemon.process.pid}/root{daemon.spool}/filler")
    filler.write_bytes(bytes((3 << 20) + 4096))
    assert watcher.get("/readyz")[::2] == (
        503, "the spool has less than min_free_space left\n")
    assert watcher.get("/healthz")[::2] == (200, "ok\n")
    values = watcher.values()
    assert values["relayd_accepting"] == 0
    assert values["relayd_spool_free_bytes"] <= free - (3 << 20)
    filler.unlink()
    assert watcher.get("/readyz")[0] == 200
    assert watcher.values()["relayd_accepting"] == 1


def test_not_ready_while_it_stops(watched, watcher, host):
    stall = host.fault("END", then="stall", times=1)
    sent(watched, "a@example.org")
    host.wait_hits(stall)
    watched.process.send_signal(signal.SIGTERM)
    watched.wait_log("stopping")
    assert watcher.get("/readyz")[::2] == (503, "relayd is stopping\n")
    assert watcher.get("/healthz")[0] == 200
    host.mend()


@pytest.mark.parametrize("request_, status", [
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    (b"GET /metric HTTP/1.0\r\n\r\n", 404),
    (b"GET /healthz?x=/metrics HTTP/1.0\n\n", 200),
    (b"GET http://x:1/healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
    (b"GET /healthz\r\n\r\n", 400),
    (b"GET /healthz HTTP/2.0\r\n\r\n", 400),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\0: y\r\n\r\n", 400),
    (b"\0" * 100 + b"\r\n\r\n", 400),
    (b"EHLO x\r\n\r\n", 400),
    (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx=y",
     405),
    (b"GET /" + b"a" * (1 << 20), 400),
    (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * (LIMIT // 6), 400),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + b"x" * (1 << 20), 200),
], ids=["nothing", "metric", "query", "absolute", "no-host", "http-0.9",
        "http-2", "nul-field", "nuls", "smtp", "post", "endless-line",
        "endless-header", "body"])
def test_I59_requests(shared, request_, status):
    reply = shared.exchange(request_)
    assert reply.startswith(f"HTTP/1.1 {status} "), reply
    assert status != 405 or "\r\nAllow: GET, HEAD\r\n" in reply


@pytest.fixture(scope="module", name="shared")
def fixture_shared(authority):
    """One daemon for requests that leave no trace."""
    from badinput import serve
    with serve(authority, top=TOP) as station:
        yield Watcher(station.daemon)


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/nothing"])
def test_HEAD_is_GET_without_the_body(shared, path):
    status, header, body = shared.get(path, method="HEAD")
    assert body == "" and status == (404 if path == "/nothing" else 200)
    assert int(re.search(r"Content-Length: (\d+)", header)[1]) > 0


def test_I59_who_is_slow_is_told_so_in_five_seconds(shared):
    with shared.connect() as sock, sock.makefile("rb") as file:
        began = time.monotonic()
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost")
        assert file.read().startswith(b"HTTP/1.1 408 ")
        assert 4.5 < time.monotonic() - began < TIMEOUT


def hostile(watcher, stop):
    """Whatever comes to mind, without an end."""
    requests = [b"GET /" + b"a" * (1 << 20), b"\0" * 5000,
                b"POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n" + b"x" * 9999,
                b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n" * 9999]
    count = 0
    while not stop.done():
        watcher.exchange(requests[count % len(requests)])
        count += 1
    return count


def test_I59_mail_goes_on(watched, watcher, host):
    """1000 connections, eight seats taken by who says nothing, and a storm of
    nonsense: messages go through all the same, and then it is quiet."""
    calm = watcher.values()["process_open_fds"]
    idle = [watcher.connect() for _ in range(1000)]
    stop = concurrent.futures.Future()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        storm = [pool.submit(hostile, watcher, stop) for _ in range(4)]
        try:
            for _ in range(20):
                sent(watched, "a@example.org")
            assert len(host.wait_messages(20)) == 20
            watched.wait_log("removed", 20)
            values = parse(watched.relayctl("metrics").stdout)
        finally:
            stop.set_result(None)
        assert sum(one.result() for one in storm) > 0
    # Seats, relay, sessions, and the two of relayctl.
    assert values["process_open_fds"] <= calm + SEATS + 8
    for sock in idle:
        sock.close()
    assert watcher.get("/healthz")[0] == 200
    assert not [line for line in watched.log
                if re.search("error|warning|accept on", line)]


def test_reload_changes_the_address(watched, watcher):
    old = watcher.address
    watched.top["metrics"] = "127.0.0.2:0"
    watched.write_config()
    assert watched.relayctl("reload").returncode == 0
    port = int(watched.wait_log(r"metrics on 127\.0\.0\.2:(\d+)")[1])
    with pytest.raises(ConnectionError):
        watcher.connect()
    watcher.address = ("127.0.0.2", port)
    assert watcher.get("/healthz")[0] == 200
    watched.top["metrics"] = ""
    watched.write_config()
    assert watched.relayctl("reload").returncode == 0
    with pytest.raises(ConnectionError):
        watcher.connect()
    watcher.address = old


def test_reload_that_fails_keeps_the_address(watched, watcher):
    watched.top["metrics"] = "10.255.255.254:0"     # another machine's
    watched.write_config()
    told = watched.relayctl("reload")
    assert told.returncode == 1 and \
        "Cannot assign requested address" in told.stdout
    assert watcher.get("/healthz")[0] == 200


def test_reload_that_fails_elsewhere_lets_the_new_address_go(watched, watcher):
    """Which is one that nobody else has."""
    watched.top["metrics"] = "127.0.0.4:0"
    watched.write_config()
    with watched.file.open("a") as file:
        file.write('listen "192.0.2.1:0" {\n}\n')    # no machine's
    told = watched.relayctl("reload")
    assert told.returncode == 1 and "192.0.2.1" in told.stdout
    assert watcher.get("/healthz")[0] == 200
    listening = pathlib.Path("/proc/net/tcp").read_text(encoding="ascii")
    assert not re.search(r": 0400007F:\w{4} \w{8}:0000 0A", listening)


@pytest.mark.root
def test_reload_to_a_privileged_port_needs_a_restart(watched, watcher):
    watched.top["metrics"] = "127.0.0.1:1"
    watched.write_config()
    told = watched.relayctl("reload")
    assert told.returncode == 1 and "restart needed" in told.stdout
    assert watcher.get("/healthz")[0] == 200


@pytest.mark.parametrize("address", [
    "192.0.2.1:9025", "[2001:db8::1]:9025", "127.0.0.1", "localhost:9025",
    "::1:9025", "127.0.0.1:65536", "127.0.0.0/8:9025", ":9025", "x"])
def test_addresses_that_are_refused(make_daemon, address):
    daemon = make_daemon(top={"metrics": address})
    with pytest.raises(AssertionError, match="did not become ready"):
        daemon.start()
    assert any("metrics: " in line for line in daemon.log)


def test_manual_names_every_metric(watcher):
    """And no other."""
    page = (HERE.parent / "man/relayd.8").read_text()
    page = page.partition(".Sh METRICS")[2].partition(".Sh ENV")[0]
    named = {name for line in re.findall(r"^\.It Va (.*)$", page, re.M)
             for name in re.findall(r"(?:relayd|process)_\w+", line)}
    told = settled(lambda: set(re.findall(
        r"^# HELP (\w+)", watcher.get("/metrics")[2], re.M)), named)
    rules = page.partition(".Bd -literal -offset indent\n")[2]
    rules = rules.partition(".Ed")[0]
    assert set(re.findall(r"relayd_\w+", rules)) <= told


@pytest.mark.peers("prometheus")
def test_rules_in_the_manual_are_rules(directory):
    page = (HERE.parent / "man/relayd.8").read_text()
    page = page.partition(".Sh METRICS")[2]
    rules = directory / "rules.yml"
    rules.write_text(page.partition(".Bd -literal -offset indent\n")[2]
                     .partition(".Ed")[0])
    told = subprocess.run(
        [PEERS / "root/usr/bin/promtool", "check", "rules", rules],
        text=True, capture_output=True, timeout=TIMEOUT)
    assert told.returncode == 0 and "3 rules found" in told.stdout, told
