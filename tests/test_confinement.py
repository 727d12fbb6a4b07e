"""What a running daemon may not do, tried from inside of it by a debugger."""

import os
import re
import shutil
import socket
import subprocess

import pytest

from harness import DAEMON_USER, SANITIZED, TIMEOUT
from test_daemon import failed_reload, proc

pytestmark = pytest.mark.root   # a daemon's memory is root's

UNTRACED = {"trace": False}
EPERM, EACCES, EAFNOSUPPORT = -1, -13, -97
AT_FDCWD, O_CREAT_WRITE = -100, 0o101


def syscalls():
    """Numbers by name, as the machine has them."""
    done = subprocess.run(
        ["cpp", "-dM"], input="#include <sys/syscall.h>\n", text=True,
        check=True, capture_output=True, timeout=TIMEOUT)
    return {match[1]: int(match[2]) for match in re.finditer(
        r"^#define __NR_(\w+) (\d+)$", done.stdout, re.M)}


def call(daemon, calls):
    """{name: what the daemon gets from the kernel}, -errno where it fails.
    A call is its name and its arguments, text in quotes; an address of the
    machine is ("127.0.0.1", port)."""
    numbers, script = syscalls(), ["set confirm off"]
    prototype = "((long (*)(long, ...))syscall)"
    for name, (function, *arguments) in calls.items():
        for n, one in enumerate(arguments):
            if isinstance(one, tuple):
                script.append("set $a = (unsigned char *)"
                              "((void *(*)(long))malloc)(16)")
                octets = b"\2\0" + one[1].to_bytes(2, "big") + \
                    socket.inet_aton(one[0])
                script += [f"set $a[{at}] = {octet}"
                           for at, octet in enumerate(octets)]
                arguments[n] = "$a"
        words = ", ".join(f'"{one}"' if str(one)[:1] == "/" else str(one)
                          for one in arguments)
        script += [
            f"set $r = {prototype}({numbers[function]}, {words})",
            "set $e = *((int *(*)(void))__errno_location)()",
            f'printf "{name}: %ld\\n", $r < 0 ? -$e : $r',
            f"set ${name} = $r"]
    done = subprocess.run(
        ["gdb", "-nx", "-batch", "-p", str(daemon.process.pid),
         *(word for line in script for word in ("-ex", line))],
        capture_output=True, text=True, timeout=TIMEOUT)
    results = dict(re.findall(r"^(\w+): (-?\d+)$", done.stdout, re.M))
    assert results.keys() == calls.keys(), done
    return {name: int(value) for name, value in results.items()}


@pytest.mark.unsanitized    # sanitizers need calls that the filter refuses
def test_what_the_daemon_can_not_do(make_daemon, host, directory):
    outside = directory.parent / f"{directory.name}-outside"
    outside.mkdir()
    try:
        outside.chmod(0o777)
        (outside / "file").write_text("x")
        daemon = make_daemon(**UNTRACED).start()
        status = proc(daemon, "status")
        assert status["Seccomp"].strip() == "2"
        assert int(status["CapEff"], 16) == 0
        with socket.create_server(("127.0.0.1", 0)) as other:
            results = call(daemon, {
                "passwords": ("openat", AT_FDCWD, "/etc/shadow", 0),
                "reading": ("openat", AT_FDCWD, outside / "file", 0),
                "making": ("openat", AT_FDCWD, outside / "new", O_CREAT_WRITE,
                           0o600),
                "removing": ("unlinkat", AT_FDCWD, outside / "file", 0),
                "listing": ("openat", AT_FDCWD, outside, os.O_DIRECTORY),
                "running": ("execve", "/bin/true", 0, 0),
                "running_at": ("execveat", AT_FDCWD, "/bin/true", 0, 0, 0),
                "forking": ("clone", 17, 0, 0, 0, 0),
                "killing": ("kill", os.getpid(), 0),
                "tracing": ("ptrace", 16, os.getpid(), 0, 0),
                "code": ("mmap", 0, 4096, 7, 0x22, -1, 0),
                "packets": ("socket", 17, 3, 0),
                "tcp": ("socket", socket.AF_INET, socket.SOCK_STREAM, 0),
                "connecting": ("connect", "$tcp", other.getsockname(), 16),
                "binding": ("bind", "$tcp", ("127.0.0.1", 1024), 16),
                # And that these mean something:
                "data": ("mmap", 0, 4096, 3, 0x22, -1, 0),
                "spool": ("openat", AT_FDCWD, daemon.spool / "new/file",
                          O_CREAT_WRITE, 0o600),
                "removal": ("unlinkat", AT_FDCWD, daemon.spool / "new/file",
                            0),
                "relaying": ("connect", "$tcp", ("127.0.0.1", host.port), 16),
            })
    finally:
        subprocess.run(["rm", "-r", outside], check=True, timeout=TIMEOUT)
    for allowed in "data", "spool", "removal", "tcp", "relaying":
        assert results.pop(allowed) >= 0, allowed
    assert results == {
        "passwords": EACCES, "reading": EACCES, "making": EACCES,
        "removing": EACCES, "listing": EACCES, "running": EPERM,
        "running_at": EPERM, "forking": EPERM, "killing": EPERM,
        "tracing": EPERM, "code": EPERM, "packets": EAFNOSUPPORT,
        "connecting": EACCES, "binding": EACCES}
    # It has not noticed.
    assert daemon.sendmail("root", data=b"Subject: x\n\nx\n").returncode == 0
    daemon.wait_log("status=sent")


@pytest.fixture
def elsewhere(directory):
    """A directory that no daemon has kept, with copies of files in it."""
    path = directory.parent / f"{directory.name}-elsewhere"
    path.mkdir()
    path.chmod(0o755)

    def copy(source):
        shutil.copy(source, path)
        (path / source.name).chmod(0o600)
        shutil.chown(path / source.name, DAEMON_USER)
        return str(path / source.name)

    yield path, copy
    shutil.rmtree(path)


@pytest.mark.parametrize("need", ["port", "proxy", "password_file",
                                  "tls_cert"])
def test_a_reload_that_needs_more_is_refused(make_daemon, host, elsewhere,
                                             need):
    """And the daemon goes on as before."""
    path, copy = elsewhere
    daemon = make_daemon(**UNTRACED).start()
    if need == "port":
        daemon.relay["port"] = 1
    elif need == "proxy":
        daemon.relay["proxy"] = "http://127.0.0.1:1"
    elif need == "password_file":
        daemon.relay["password_file"] = copy(daemon.password_file)
    else:
        daemon.relay["tls_cert"], daemon.relay["tls_key"] = \
            map(copy, host.authority.certificate("client.example"))
    daemon.write_config()
    lacks = "port 1" if need in ("port", "proxy") else path
    failed_reload(daemon, f"{lacks} is outside of what relayd has kept: "
                  "restart needed")
    assert sum("outside of what" in line for line in daemon.log) == 1
    assert daemon.sendmail("root", data=b"Subject: x\n\nx\n").returncode == 0
    daemon.wait_log("status=sent")
    host.wait_messages(1)


# Makes the kernel an old one: it refuses landlock and filters.
OLD_KERNEL = ("env", "ASAN_OPTIONS=detect_leaks=0",
              "strace", "-Df", "-qq", "-o", "/dev/null", "-e",
              "inject=landlock_create_ruleset:error=ENOSYS", "-e",
              "inject=prctl:error=EINVAL:when=3+")


def test_K22_a_kernel_that_can_not_confine(make_daemon, host):
    daemon = make_daemon(wrapper=OLD_KERNEL, **UNTRACED).start()
    daemon.wait_log("warning: files and ports are not confined: landlock: "
                    "Function not implemented")
    if not SANITIZED:
        daemon.wait_log("warning: system calls are not confined: seccomp: "
                        "Invalid argument")
    assert daemon.sendmail("root", data=b"Subject: x\n\nx\n").returncode == 0
    daemon.wait_log("status=sent")
    host.wait_messages(1)
