"""The daemon under valgrind, which sees what the sanitizers do not look at:
values that were never set, and descriptors that stay open."""

import re

import pytest

from test_confinement import syscalls

MESSAGE = b"Subject: x\n\nbody\n" + b"x" * 2000 + b"\n"

# Valgrind needs more than the daemon's filter of system calls leaves.  Where a
# filter of ours refuses prctl(PR_SET_SECCOMP), it does without.
UNFILTERED = """
import ctypes, os, struct, sys
REFUSE, ALLOW = 0x50000 | 22, 0x7fff0000    # with EINVAL
code = b"".join(struct.pack("HBBI", *one) for one in (
    (0x20, 0, 0, 0), (0x15, 0, 3, int(sys.argv[1])),
    (0x20, 0, 0, 16), (0x15, 0, 1, 22), (6, 0, 0, REFUSE), (6, 0, 0, ALLOW)))
code = ctypes.create_string_buffer(code)
program = struct.pack("HxxxxxxP", 6, ctypes.addressof(code))
if ctypes.CDLL(None).prctl(22, 2, program) != 0:
    sys.exit("no filter")
os.execvp(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.unsanitized    # it is one or the other
def test_nothing_is_wrong_in_an_exchange(make_daemon, host, directory):
    report = directory / "report"
    host.extensions = ["PIPELINING", "CHUNKING"]
    host.fault("RCPT", "550 5.1.1 no", match="bad")
    late = host.fault("RCPT", "450 4.2.1 later", match="late")
    daemon = make_daemon(trace=False, wrapper=(
        "/usr/bin/python3", "-c", UNFILTERED, str(syscalls()["prctl"]),
        "valgrind", "-q", "--vgdb=no", "--error-exitcode=9", "--track-fds=yes",
        "--leak-check=full", "--errors-for-leak-kinds=definite",
        f"--log-file={report}"))
    daemon.start()
    for name in "good", "late", "bad":
        done = daemon.sendmail(f"{name}@example.net", "root", data=MESSAGE)
        assert done.returncode == 0, done
    daemon.wait_log("to=<late@.*status=deferred")
    host.wait_messages(4)   # to root, and a report
    host.mend(late)
    for verb in "queue", "status", "metrics", "reload", "flush":
        assert daemon.relayctl(verb).returncode in (0, 1), verb
    daemon.wait_log("to=<late@.*status=sent")
    assert daemon.stop() == 0, report.read_text()
    told = report.read_text()
    opened = re.findall(r"Open (?:file|AF_).*\n(?!.*<inherited)", told)
    assert not opened and "==    at " not in told, told
