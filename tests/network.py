"""A network of a test's own: loopback and nothing else, with a resolv.conf
and a hosts file of its own, so that any port is free and DNS is ours."""

import ctypes
import fcntl
import os
import socket
import struct
import threading

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1

libc = ctypes.CDLL(None, use_errno=True)


def checked(result):
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def own_mounts(flags=0):
    """Give this thread, and what it starts from now on, a mount namespace of
    its own, and such others."""
    checked(libc.unshare(CLONE_NEWNS | flags))
    checked(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))


def enter(directory):
    """Move this thread, and what it starts from now on, there."""
    own_mounts(CLONE_NEWNET)
    for name, text in (("resolv.conf", "nameserver 127.0.0.53\n"),
                       ("hosts", "127.0.0.1 localhost\n"),
                       ("nsswitch.conf", "hosts: files dns\n")):
        file = directory / name
        file.write_text(text)
        checked(libc.mount(bytes(file), f"/etc/{name}".encode(), None,
                           MS_BIND, None))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS,
                    struct.pack("16sH14x", b"lo", IFF_UP))


def inside(directory, function):
    """Call it in a thread in such a network; returns what it does."""
    outcome = {}

    def run():
        try:
            enter(directory)
            outcome["result"] = function()
        except BaseException as error:  # pylint: disable=broad-except
            outcome["error"] = error

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]


class BlackHole:
    """An address where connections neither succeed nor fail: a listener whose
    queue is full drops what comes."""

    def __init__(self, address):
        self._sockets = [socket.socket()]
        self._sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._sockets[0].bind(address)
        self._sockets[0].listen(0)
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(address)
            self._sockets.append(sock)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for sock in self._sockets:
            sock.close()
