"""A SOCKS5 (RFC 1928) or HTTP proxy for the tests."""

import re
import socket
import threading


def _pass_on(source, target):
    """Until the end of one direction; then both are over."""
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
    except OSError:
        pass
    for one in (source, target):
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class Proxy:
    """Listens on a port that the kernel chose.  asked: the (host, port)
    that it was to connect to, or does to target; refuse: it does not."""

    def __init__(self, kind, target=None):
        self.kind, self.asked, self.refuse = kind, [], False
        self.target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,),
                             daemon=True).start()

    def _socks5(self, stream):
        """The target, and the replies of success and of failure."""
        _, count = stream.read(2)
        stream.read(count)
        stream.write(b"\5\0")
        _, _, _, kind = stream.read(4)
        if kind == 3:
            host = stream.read(stream.read(1)[0]).decode()
        else:
            host = socket.inet_ntop(*{
                1: (socket.AF_INET, stream.read(4)),
                4: (socket.AF_INET6, b"")}[kind])
        port = int.from_bytes(stream.read(2), "big")
        rest = b"\0\1" + bytes(6)
        return (host, port), b"\5\0" + rest, b"\5\2" + rest

    def _http(self, stream):
        line = stream.readline()
        while stream.readline().strip():
            pass
        host, port = re.match(rb"CONNECT (.*):(\d+) ", line).groups()
        return ((host.decode(), int(port)), b"HTTP/1.1 200 ok\r\n\r\n",
                b"HTTP/1.1 403 no\r\nContent-Length: 0\r\n\r\n")

    def _serve(self, client):
        with client, client.makefile("rwb", buffering=0) as stream:
            target, good, bad = getattr(self, "_" + self.kind)(stream)
            self.asked.append(target)
            if self.refuse:
                stream.write(bad)
                return
            with socket.create_connection(self.target or target) as server:
                stream.write(good)
                threading.Thread(target=_pass_on, args=(server, client),
                                 daemon=True).start()
                _pass_on(client, server)
