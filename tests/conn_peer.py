"""The relayhost of test_conn.c: conn_peer.py DIR

Writes DIR/ca.pem.  For each line with the name of a scene on its input it
listens and prints the port; at the next line it stops and prints what came
in, each line behind "clear " or "tls ", then a line with a dot.
"""

import ssl
import sys

import relayhost

ALL = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "EXTERNAL")
LOGIN = {"users": {"me@example.com": "secret-word"}}


def surplus(session, _):
    """235 and a reply to nothing: two TLS records at once."""
    session.channel.tls.write(b"235 2.7.0 welcome\r\n")
    session.channel.tls.write(b"250 2.0.0 surplus\r\n")
    session.channel._flush()


# Name: how the host is made, and the arguments of its faults.
SCENES = {
    "good": (LOGIN, []),
    "implicit": (LOGIN | {"tls": "implicit"}, []),
    "plain": ({"tls": "none"}, []),
    "tls-1.2": (LOGIN, []),
    "login-only": (LOGIN | {"auth": ("LOGIN",)}, []),
    "strange-auth": (LOGIN | {"auth": ("DIGEST-MD5", "XOAUTH2")}, []),
    "no-auth": (LOGIN | {"auth": ()}, []),
    "all-in-clear": (LOGIN | {"tls": "none"}, []),
    "expired": (LOGIN | {"certificate": "expired"}, []),
    "self-signed": (LOGIN | {"certificate": "self-signed"}, []),
    "wrong-name": (LOGIN | {"certificate": "wrong-name"}, []),
    "greeting-421": (LOGIN, [("GREETING", "421 4.3.2 come back later")]),
    "greeting-554": (LOGIN, [("GREETING", "554-no\r\n554 mail \x1b[1mhere")]),
    "silent": (LOGIN, [("GREETING", None, "stall")]),
    "closes": (LOGIN, [("GREETING", None, "close")]),
    "resets": (LOGIN, [("GREETING", None, "reset")]),
    "http": (LOGIN, [("GREETING", "HTTP/1.1 400 Bad Request")]),
    "tls-alert": (LOGIN, [("GREETING", b"\x15\x03\x03\x00\x02\x02\n")]),
    "short-code": (LOGIN, [("GREETING", "22", "stall")]),
    "two-codes": (LOGIN, [("GREETING", "220-a\r\n250 b", "stall")]),
    "endless": (LOGIN, [("GREETING", b"220-x\r\n" * 1000, "stall")]),
    "ehlo-550": (LOGIN, [("EHLO", "550 5.7.1 not you"),
                         ("HELO", "550 5.7.1 nor you")]),
    "ehlo-closes": (LOGIN, [("EHLO", b"250-half a reply\r\n", "close")]),
    "starttls-454": (LOGIN, [("STARTTLS", "454 4.7.0 not now")]),
    "starttls-injects": (LOGIN, [("STARTTLS", "220 go\r\n250-injected")]),
    "starttls-closes": (LOGIN, [("STARTTLS", "220 go", "close")]),
    "auth-535": (LOGIN, [("AUTH", "535 5.7.8 who are you?")]),
    "auth-454": (LOGIN, [("AUTH", "454 4.7.0 not now")]),
    "auth-250": (LOGIN, [("AUTH", "250 2.0.0 fine")]),
    "auth-closes": (LOGIN, [("AUTH", None, "close")]),
    "surplus": (LOGIN, []),
    "scram": (LOGIN | {"auth": ALL}, []),
    "scram-signature": (LOGIN | {"auth": ALL}, []),
    "scram-no-signature": (LOGIN | {"auth": ALL}, []),
    "scram-nonce": (LOGIN | {"auth": ALL}, []),
    "scram-iterations": (LOGIN | {"auth": ALL}, []),
    "scram-extension": (LOGIN | {"auth": ALL}, []),
    "scram-password": ({"users": {"me@example.com": "other"}, "auth": ALL},
                       []),
    "scram-504": (LOGIN | {"auth": ALL}, []),
    "all-504": (LOGIN | {"auth": ALL}, []),
    "plain-only": (LOGIN | {"auth": ("PLAIN",)}, []),
    "cram-only": (LOGIN | {"auth": ("CRAM-MD5", "EXTERNAL")}, []),
    "external-only": (LOGIN | {"auth": ("EXTERNAL",)}, []),
    "plain-535": (LOGIN, [("AUTH", "535 5.7.8 no")]),
    "challenge-bad": (LOGIN | {"auth": ("CRAM-MD5",)},
                      [("CHALLENGE", "334 $$$")]),
    "challenge-long": (LOGIN | {"auth": ("CRAM-MD5",)},
                       [("CHALLENGE", "334 " + "A" * 2000)]),
    "challenge-huge": (LOGIN | {"auth": ("CRAM-MD5",)},
                       [("CHALLENGE", b"334 " + b"A" * (1 << 20), "stall")]),
    "challenge-early": (LOGIN | {"auth": ("CRAM-MD5",)},
                        [("CHALLENGE", "235 2.7.0 come in")]),
    "challenge-endless": (LOGIN, [("AUTH", "334 " + "\r\n334 " * 1000)]),
    "challenge-again": (LOGIN, [("AUTH", "334 ")]),
    "challenge-closes": (LOGIN | {"auth": ("CRAM-MD5",)},
                         [("CHALLENGE", b"334 PD", "close")]),
    "auth-534": (LOGIN, [("AUTH", "534 5.7.9 app password")]),
    "auth-432": (LOGIN, [("AUTH", "432 4.7.12 a transition")]),
    "auth-stalls": (LOGIN, [("AUTH", None, "stall")]),
}


def serve(authority, scene):
    options, faults = SCENES[scene]
    host = relayhost.Relayhost(authority, **options)
    host.context.maximum_version = \
        ssl.TLSVersion.TLSv1_2 if scene == "tls-1.2" else \
        ssl.TLSVersion.MAXIMUM_SUPPORTED
    host.auth_in_clear = scene == "all-in-clear"
    host.scram = {"scram-signature": "wrong signature",
                  "scram-no-signature": "no signature",
                  "scram-nonce": "other nonce",
                  "scram-iterations": "iterations",
                  "scram-extension": "extension"}.get(scene, "")
    host.auth_broken = {"scram-504": ("SCRAM-SHA-256", "PLAIN"),
                        "all-504": ALL}.get(scene, ())
    for point, reply, *then in faults:
        host.fault(point, reply, then=then[0] if then else "go-on")
    relayhost.Session.on_auth = surplus if scene == "surplus" else ON_AUTH
    print(host.port, flush=True)
    sys.stdin.readline()
    host.wait_ended(0)
    host.stop()
    for session in host.sessions:
        for kind, data in (("clear", session.clear), ("tls", session.plain)):
            for line in data.split(b"\r\n"):
                print(kind, ascii(line.decode("latin-1"))[1:-1])
    print(".", flush=True)


ON_AUTH = relayhost.Session.on_auth
AUTHORITY = relayhost.Authority(sys.argv[1])
for scene_line in iter(sys.stdin.readline, ""):
    serve(AUTHORITY, scene_line.strip())
