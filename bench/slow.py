"""Clients on relayd's unix socket, each kind as a user of its own.

usage: slow.py UID SOCKET slow COUNT       COUNT connections, of which a third
                                           says nothing, a third an octet of a
                                           command now and then, a third one of
                                           a message; until its standard input
                                           ends
       slow.py UID SOCKET timed MESSAGES   what each message took, in seconds,
                                           from MAIL to its acknowledgement
"""

import itertools
import os
import select
import socket
import sys
import time

HELLO = b"EHLO bench.example.com\r\n"
COMMANDS = (b"MAIL FROM:<app@example.com>\r\n",
            b"RCPT TO:<u%d@example.net>\r\n", b"DATA\r\n",
            b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n.\r\n")
BEGIN = (b"", HELLO, HELLO + COMMANDS[0] + COMMANDS[1] % 0 + COMMANDS[2])
PAUSE = 0.5     # between two octets of one client


def connect(path):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(path)
    if not peer.recv(4096).startswith(b"220"):
        raise ConnectionRefusedError("no greeting")
    return peer


def slow(path, count):
    peers = []
    for number in range(count):
        peers.append(connect(path))
        peers[-1].sendall(BEGIN[number % len(BEGIN)])
    print("ready", flush=True)
    talking = itertools.cycle(one for number, one in enumerate(peers)
                              if number % len(BEGIN) > 0)
    while not select.select([sys.stdin], [], [], PAUSE / count)[0]:
        next(talking).send(b"x")


def timed(path, messages):
    with connect(path) as peer:
        def ask(command):
            peer.sendall(command)
            reply = peer.recv(4096)
            if reply[:1] not in b"23":
                raise ConnectionRefusedError(reply)
        ask(HELLO)
        for number in range(messages):
            began = time.monotonic()
            for command in COMMANDS:
                ask(command % number if b"%d" in command else command)
            print(time.monotonic() - began)


def main():
    uid, path, kind, count = sys.argv[1:]
    os.setgroups([])
    os.setuid(int(uid))
    {"slow": slow, "timed": timed}[kind](path, int(count))


if __name__ == "__main__":
    main()
