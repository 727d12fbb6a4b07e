"""What "make install" and "make install-mta" put where, and the units."""

import os
import re
import stat
import subprocess

import pytest

from harness import BIN, HERE, TIMEOUT, private

PROGRAMS = ("sbin/relayctl", "sbin/relayd", "sbin/sendmail")
TEXTS = ("lib/systemd/system/relayd.service", "lib/systemd/system/relayd.socket",
         "lib/sysusers.d/relayd.conf", "lib/tmpfiles.d/relayd.conf",
         "share/man/man5/relayd.conf.5", "share/man/man8/relayctl.8",
         "share/man/man8/relayd.8", "share/man/man8/sendmail.8",
         *(f"share/relayd/schema/{name}.json"
           for name in ("log", "logline", "queue", "status")))
LINKS = {"bin/mailq": "../sbin/sendmail", "bin/newaliases": "../sbin/sendmail"}
MTA_LINKS = {"usr/sbin/sendmail": "/usr/local/sbin/sendmail",
             "usr/lib/sendmail": "/usr/local/sbin/sendmail",
             "usr/bin/mailq": "/usr/local/bin/mailq",
             "usr/bin/newaliases": "/usr/local/bin/newaliases"}


def make(target, root, *variables):
    # What is built is installed: nothing is built for other directories.
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(
        ["make", "-o", "all", target, f"BIN={BIN}", f"DESTDIR={root}",
         *variables], cwd=HERE.parent, env=environment, umask=0o077,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=TIMEOUT)


def install(root, *variables):
    done = make("install", root, *variables)
    assert done.returncode == 0, done.stdout


def tree(root):
    """Path of each file and link to its mode, or to where it points."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(root))] = os.readlink(path)
        elif not path.is_dir():
            found[str(path.relative_to(root))] = stat.S_IMODE(
                path.stat().st_mode)
    return found


def wanted(prefix, sysconfdir):
    return {**{f"{prefix}/{name}": 0o755 for name in PROGRAMS},
            **{f"{prefix}/{name}": 0o644 for name in TEXTS},
            **{f"{prefix}/{name}": to for name, to in LINKS.items()},
            f"{sysconfdir}/relayd/relayd.conf": 0o644}


@pytest.mark.parametrize("prefix, sysconfdir, variables", [
    ("usr/local", "etc", []),
    ("usr", "etc", ["PREFIX=/usr", "SYSCONFDIR=/etc"]),
    ("opt/relayd", "opt/etc", ["PREFIX=/opt/relayd", "SYSCONFDIR=/opt/etc",
                               "LOCALSTATEDIR=/srv", "RUNSTATEDIR=/srv/run"]),
])
def test_install(directory, prefix, sysconfdir, variables):
    install(directory, *variables)
    # These modes: no set-uid and no set-gid bit anywhere.
    assert tree(directory) == wanted(prefix, sysconfdir)
    for place in directory.rglob("*/"):
        assert place.is_symlink() or place.stat().st_mode & 0o7755 == 0o755
    for name in TEXTS:
        text = (directory / prefix / name).read_text()
        assert not re.search("@[A-Z]+@", text), name
    unit = directory / prefix / "lib/systemd/system/relayd.service"
    assert (f"ExecStart=/{prefix}/sbin/relayd -f /{sysconfdir}/relayd/"
            "relayd.conf\n") in unit.read_text()
    for name in PROGRAMS[:2]:
        subprocess.run([directory / prefix / name, "-V"], check=True,
                       stdout=subprocess.DEVNULL)
    assert (directory / prefix / "bin/mailq").samefile(
        directory / prefix / "sbin/sendmail")


def test_install_again_keeps_the_configuration(directory):
    place = directory / "etc/relayd"
    place.mkdir(parents=True)
    place.chmod(0o750)
    (place / "relayd.conf").write_text("# mine\n")
    (place / "relayd.conf").chmod(0o640)
    for _ in range(2):
        install(directory)
    assert (place / "relayd.conf").read_text() == "# mine\n"
    assert stat.S_IMODE((place / "relayd.conf").stat().st_mode) == 0o640
    assert stat.S_IMODE(place.stat().st_mode) == 0o750


def test_install_mta(directory):
    for _ in range(2):
        done = make("install-mta", directory)
        assert done.returncode == 0, done.stdout
        assert tree(directory) == MTA_LINKS


def test_install_mta_where_it_is_installed_anyway(directory):
    install(directory, "PREFIX=/usr")
    done = make("install-mta", directory, "PREFIX=/usr")
    assert done.returncode == 0, done.stdout
    assert tree(directory) == {**wanted("usr", "etc"),
                               "usr/lib/sendmail": "/usr/sbin/sendmail"}


@pytest.mark.parametrize("name", MTA_LINKS)
@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_install_mta_replaces_no_foreign_file(directory, name, kind):
    foreign = directory / name
    foreign.parent.mkdir(parents=True)
    if kind == "file":
        foreign.write_text("exim\n")
    elif kind == "link":    # Debian's alternatives; it may point to nowhere
        foreign.symlink_to("/etc/alternatives/mta")
    else:
        foreign.mkdir()
    before = tree(directory)
    done = make("install-mta", directory)
    assert done.returncode != 0 and f"{foreign} is not relayd's" in done.stdout
    assert tree(directory) == before and foreign.is_dir() == (kind ==
                                                              "directory")


def test_sendmail_needs_libc_only():
    output = subprocess.run(["ldd", BIN / "sendmail"], text=True, check=True,
                            stdout=subprocess.PIPE).stdout
    libraries = {line.split()[0].rpartition("/")[2].partition(".")[0]
                 for line in output.splitlines()}
    # The sanitizers bring their own.
    if not any(name.startswith("libasan") for name in libraries):
        assert libraries in ({"statically"},    # linked, musl
                             {"linux-vdso", "libc", "ld-linux-x86-64"})


def test_sendmail_asks_nothing_of_the_cpu():
    """A hypervisor may take microseconds for each answer."""
    code = subprocess.run(["objdump", "-d", BIN / "sendmail"], text=True,
                          check=True, stdout=subprocess.PIPE).stdout
    assert code.count("ret") > 100 and "cpuid" not in code


@pytest.fixture
def systemd_analyze(directory):
    """Run it on a system where relayd is installed."""
    (directory / "root").mkdir()
    (directory / "private").mkdir()
    install(directory / "root")
    script = f'cp -r {directory}/root/usr/. /usr; exec systemd-analyze "$@"'

    def runner(*arguments):
        return subprocess.run(
            private(directory / "private",
                    ["sh", "-euc", script, "sh", *arguments]),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=TIMEOUT)

    return runner


@pytest.mark.peers("systemd")
def test_the_units_are_valid(systemd_analyze):
    units = "/usr/local/lib/systemd/system"
    done = systemd_analyze("verify", "--man=no", f"{units}/relayd.service",
                           f"{units}/relayd.socket")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.peers("systemd")
def test_the_service_is_well_confined(systemd_analyze):
    done = systemd_analyze(
        "security", "--offline=true", "--threshold=15", "--no-pager",
        "/usr/local/lib/systemd/system/relayd.service")
    exposure = re.search(r"exposure level for relayd\.service: ([0-9.]+)",
                         done.stdout)
    assert done.returncode == 0 and float(exposure[1]) < 1.5, done.stdout
