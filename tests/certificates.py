"""Certificates that no relayhost should have, and TLS that it should not
speak; made with the openssl command."""

import ssl
import subprocess
import warnings

CONFIGURATION = """\
[ca]
default_ca = own
[own]
database = index
new_certs_dir = .
rand_serial = yes
unique_subject = no
policy = policy
[policy]
commonName = supplied
"""
P_256 = ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


def der_name(name):
    """A dNSName as it is, NUL or not (its length is below 128)."""
    octets = b"\x82" + bytes([len(name)]) + name
    return "DER:" + (b"\x30" + bytes([len(octets)]) + octets).hex(":")


# Name: what is unlike a good one, of localhost.
KINDS = {
    "not-yet-valid": {"begins": "20990101000000Z"},
    "name-only-in-CN": {"names": None},
    "any.com": {"names": "DNS:*.com"},
    "any": {"names": "DNS:*"},
    "any.example.com": {"names": "DNS:*.example.com"},
    "NUL": {"names": der_name(b"localhost\0.evil.example")},
    "hostile": {"names": der_name(b"a\n\r\x1b]0;x\x07%s%n\x80\xff" +
                                  b"x" * 99)},
    "other-address": {"names": "IP:127.0.0.2,DNS:localhost"},
    "address-as-name": {"names": "DNS:127.0.0.1"},
    "RSA-1024": {"key": ("rsa:1024",)},
    "SHA-1": {"digest": "sha1"},
    "for-clients": {"more": "extendedKeyUsage=clientAuth\n"},
}


def issue(authority, kind):
    """Paths of certificate and key."""
    odd, place = KINDS[kind], authority.directory
    paths = place / f"{kind}.pem", place / f"{kind}.key"
    if paths[0].exists():
        return paths

    def openssl(*arguments):
        subprocess.run(("openssl", *arguments), check=True, cwd=place,
                       capture_output=True)

    (place / "ca.cnf").write_text(CONFIGURATION)
    (place / "index").write_text("")
    names = odd.get("names", "DNS:localhost,IP:127.0.0.1")
    (place / f"{kind}.ext").write_text(
        (f"subjectAltName={names}\n" if names else
         "keyUsage=digitalSignature\n") + odd.get("more", ""))
    openssl("req", "-new", "-newkey", *odd.get("key", P_256), "-nodes", "-subj",
            "/CN=localhost", "-keyout", f"{kind}.key", "-out", f"{kind}.csr")
    openssl("ca", "-batch", "-notext", "-config", "ca.cnf", "-cert", "ca.pem",
            "-keyfile", "ca.key", "-md", odd.get("digest", "sha256"),
            "-startdate", odd.get("begins", "20200101000000Z"),
            "-enddate", "20991231000000Z", "-extfile", f"{kind}.ext", "-in",
            f"{kind}.csr", "-out", f"{kind}.pem")
    return paths


def odd_context(kind):
    """As misbehaviour.context() wants it: with such a certificate."""
    return lambda authority: permissive(issue(authority, kind))


def odd_tls(newest=None, ciphers="DEFAULT"):
    """With a good certificate, but no newer TLS than that, or such ciphers."""
    def make(authority):
        context = permissive(authority.certificate(), ciphers)
        with warnings.catch_warnings():     # it is old indeed
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = newest or ssl.TLSVersion.TLSv1_2
        return context
    return make


def permissive(paths, ciphers="DEFAULT"):
    """It uses what the library would refuse otherwise."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(f"{ciphers}@SECLEVEL=0")
    context.load_cert_chain(*paths)
    return context
