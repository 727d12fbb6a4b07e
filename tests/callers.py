"""What the tests of real callers (test_callers_*.py) share; their fixtures
start, run and arrived are in conftest.py."""

# Lines that break careless programs: dots, 8-bit, a long last line that has no
# end.
LONG = "last line " + "x" * 900
BODY = f"disk full\n.\n..two\n.three\n\nFrom here to café\n{LONG}"
TO = "you@example.com"      # what aliases make of root
BLIND, COPY = "blind@example.net", "copy@example.net"


def run_cron(start, job, user="root"):
    """A cron daemon that has just this job, once a day."""
    # Its minutes are six seconds long.
    return start("sh", "-euc", f"""
        rm -rf /etc/cron.d /etc/crontab
        mkdir -p /etc/cron.d /var/spool/cron/crontabs
        cat >/etc/cron.d/job <<'END'
MAILTO=root
15 5 * * * {user} {job}
END
        faketime -f '@2026-11-24 05:14:50 x10' /usr/sbin/cron -f""",
                 end_all=True)
