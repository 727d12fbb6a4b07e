"""A name server for tests, on UDP and TCP.

    with DnsServer({("mail.example", "A"): ["192.0.2.1"]}) as dns: ...

A name is known when there is a record of it or below it; mode "silent"
answers nothing, "servfail" that it can't.
"""

import socket
import struct
import threading

TYPES = {"A": 1, "CNAME": 5, "MX": 15, "TXT": 16, "AAAA": 28}
UDP_MAX = 512   # a longer answer is cut short, and asked for again by TCP


def encode_name(name):
    return b"".join(bytes([len(label)]) + label.encode()
                    for label in name.split(".") if label) + b"\0"


def encode_data(kind, value):
    if kind == "A":
        return socket.inet_pton(socket.AF_INET, value)
    if kind == "AAAA":
        return socket.inet_pton(socket.AF_INET6, value)
    if kind == "CNAME":
        return encode_name(value)
    if kind == "MX":
        preference, _, name = value.partition(" ")
        return struct.pack("!H", int(preference)) + encode_name(name)
    text = value.encode()
    return b"".join(bytes([len(text[at:at + 255])]) + text[at:at + 255]
                    for at in range(0, len(text) or 1, 255))


def read_question(query):
    """Name, type, and all of the question."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode())
        at += 1 + query[at]
    return (".".join(labels).lower(), struct.unpack_from("!H", query, at + 1)[0],
            query[12:at + 5])


class DnsServer:
    def __init__(self, zone, mode="", address=("127.0.0.53", 53)):
        self.zone, self.mode = zone, mode
        self.queries = []   # (name, type, "udp" or "tcp")
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._tcp = socket.socket()
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for one in (self._udp, self._tcp):
            one.bind(address)
        self._tcp.listen(8)
        for target in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=target, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for one in (self._udp, self._tcp):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass    # UDP has no peer
            one.close()

    def answer(self, query, transport):
        name, number, question = read_question(query)
        kind = {value: key for key, value in TYPES.items()}.get(number, "?")
        self.queries.append((name, kind, transport))
        known = any(one == name or one.endswith("." + name)
                    for one, _ in self.zone)
        if (name, "CNAME") in self.zone:
            kind = "CNAME"
        data = [encode_data(kind, value)
                for value in self.zone.get((name, kind), ())]
        code = (2 if self.mode == "servfail" else 0 if known else 3)
        number = TYPES.get(kind, number)
        body = question + b"".join(
            struct.pack("!HHHIH", 0xc00c, number, 1, 60, len(one)) + one
            for one in data)
        flags, count = 0x8580 | code, len(data)
        if transport == "udp" and len(body) + 12 > UDP_MAX:
            flags, count, body = flags | 0x0200, 0, question
        return query[:2] + struct.pack("!HHHHH", flags, 1, count, 0, 0) + body

    def _serve_udp(self):
        while True:
            try:
                query, peer = self._udp.recvfrom(4096)
                if not query:
                    return  # closed
                if self.mode != "silent":
                    self._udp.sendto(self.answer(query, "udp"), peer)
            except OSError:
                return

    def _serve_tcp(self):
        while True:
            try:
                sock, _ = self._tcp.accept()
            except OSError:
                return
            with sock, sock.makefile("rb") as stream:
                while len(size := stream.read(2)) == 2:
                    query = stream.read(struct.unpack("!H", size)[0])
                    answer = self.answer(query, "tcp")
                    sock.sendall(struct.pack("!H", len(answer)) + answer)
