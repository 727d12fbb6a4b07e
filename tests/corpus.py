"""Messages as they are in the wild, each complete and valid (RFC 5322, with
its obsolete syntax), with LF: what relayd must not touch."""

IDENTITY = b"""\
Date: Tue, 24 Nov 2026 05:14:29 +0000
From: "Example, A." <a@b.example>
Message-ID: <%s.1@b.example>
"""

# name: header fields besides those, and from the empty line on the rest.
_MORE = {
    b"plain": b"""\
To: c@d.example
Subject: plain

Hello,
  world.
""",
    b"no-body": b"Subject: no body\n",
    b"empty-body": b"Subject: empty body\n\n",
    b"no-newline": b"Subject: no final newline\n\nlast line",
    b"dots": b"""\
Subject: dots

.
..
.leading
...
From here on
>From there on
 trailing space \n\ttab\t\n\x0cform feed
middle . dot
.



""",
    b"spelling": b"""\
SUBJECT:no space behind the colon
to:   three  spaces \t \nmime-version: 1.0
X-Empty:
X-Empty-Folded: \n  x
X-Colons: a:b:c: d
X-Twice: 1
X-Twice: 2
Comments: (nested (comment) \\) "quoted" <x@y.example>
Keywords: one, two,
\tthree
Content-Type:text/plain;charset=us-ascii

x
""",
    b"folded": b"""\
Subject: a subject that goes on
 over two lines,
\t\tand a third  with   spaces
To: "Doe, John" <j@d.example>,
 c@d.example,
\t(a comment, <e@x.example>) k@d.example (behind),
 =?utf-8?q?J=C3=B6rg?= <l@d.example>
Cc: A Group: x@d.example, "y z"@d.example;, Mr. Dot <m@d.example>

x
""",
    b"encoded": b"""\
To: =?UTF-8?B?w4TDpMO2?= <c@d.example>,
 =?iso-8859-1?Q?Andr=E9?= Pirard <p@d.example>
Subject: =?UTF-8?Q?caf=C3=A9_?=
 =?UTF-8?Q?au_lait?= and =?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=
MIME-Version: 1.0
Content-Type: text/plain; charset=UTF-8;
 name*0*=UTF-8''caf%C3%A9; name*1=" au lait"
Content-Transfer-Encoding: quoted-printable

caf=C3=A9 =
au lait=20
""",
    b"eight-bit": b"""\
To: J\xc3\xb6rg <c@d.example>
Subject: caf\xc3\xa9 and latin-1 \xe9
MIME-Version: 1.0
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: 8bit

caf\xc3\xa9 \xf0\x9f\x98\x80
\xff\xfe no UTF-8
""",
    b"nested": b"""\
Subject: nested
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="outer=_1"

A preamble.
--outer=_1
Content-Type: multipart/alternative; boundary=inner

--inner
Content-Type: text/plain; charset=us-ascii

text \n--inner
Content-Type: text/html
Content-Transfer-Encoding: base64

PGI+dGV4dDwvYj4K

--inner--
--outer=_1
Content-Type: message/rfc822

Return-Path: <x@y.example>
Bcc: kept@y.example
From: x@y.example
Subject: inside

.
--outer=_1
Content-Type: application/octet-stream; name="a.bin"
Content-Transfer-Encoding: base64
Content-Disposition: attachment;
\tfilename="a.bin"

AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4v

--outer=_1--
An epilogue.
""",
    b"list": b"""\
Return-Path: <owner@list.example>
Received: from mx.list.example (mx.list.example [192.0.2.1])
\tby mail.b.example (Postfix) with ESMTPS id 4ABC
\tfor <a@b.example>; Tue, 24 Nov 2026 05:14:20 +0000 (UTC)
Received: by mx.list.example (Postfix, from userid 38)
\tid 5DEF; Tue, 24 Nov 2026 05:14:10 +0000 (UTC)
Authentication-Results: mail.b.example; dkim=pass header.d=list.example
ARC-Seal: i=1; a=rsa-sha256; t=1795497269; cv=none; d=list.example;
 s=arc; b=aGVsbG8gd29ybGQ=
Sender: "A List" <owner@list.example>
Reply-To: A List <list@list.example>, c@d.example
To: list@list.example
Subject: [list] Re: hello
In-Reply-To: <one@b.example>
Precedence: list
List-Id: A list of examples <list.list.example>
List-Post: <mailto:list@list.example>
List-Unsubscribe: <https://list.example/unsubscribe?u=1&l=2>,
 <mailto:leave@list.example?subject=unsubscribe>
List-Unsubscribe-Post: List-Unsubscribe=One-Click
X-Mailman-Version: 3.3.8
Errors-To: owner@list.example

hello
-- \nA signature
_______________________________________________
list mailing list
""",
    b"references": b"Subject: references\nReferences: " + b"\n ".join(
        b"<%0.40d.%d@mail.b.example>" % (n, n) for n in range(200)) +
    b"\nIn-Reply-To: " + b" ".join(
        b"<%0.30d@b.example>" % n for n in range(22)) + b"\n\nx\n",
    b"long-line": b"Subject: a line of 998 octets\n\n" + 998 * b"x" + b"\n",
    b"smime": b"""\
Subject: signed
MIME-Version: 1.0
Content-Type: multipart/signed; protocol="application/pkcs7-signature";
 micalg="sha-256"; boundary="----8F"

This is an S/MIME signed message

------8F
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

signed \xe2\x82\xac with a trailing space \n\n------8F
Content-Type: application/pkcs7-signature; name="smime.p7s"
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename="smime.p7s"

MIIFdgYJKoZIhvcNAQcCoIIFZzCCBWMCAQExDzANBglghkgBZQMEAgEFADALBgkq

------8F--

""",
    b"openpgp": b"""\
Subject: clear-signed
Autocrypt: addr=a@b.example; keydata=
 mDMEXEcE6RYJKwYBBAHaRw8BAQdArjWwk3FAqyiFbFBKT4TzXcVBqPTB3gmzlC/Ub7O1u12

-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

- -- \n- From here
.dot
-----BEGIN PGP SIGNATURE-----

iHUEARYIAB0WIQ
=abcd
-----END PGP SIGNATURE-----
""",
    b"obsolete": b"""\
Subject : blanks before the colon
To: Mr . Dot <@route.example,@other.example:c@d.example>,
 , k . l @ d . example,
Cc: undisclosed-recipients:;
Reply-To: a @ b.example (Old (very old) Style)
X-Date: 24 Nov 26 05:14 EST
Bcc : secret@d.example
Received: (qmail 1234 invoked by uid 1000); 24 Nov 2026 05:14:29 -0000
Content-type: TEXT

x
""",
    b"resent": b"""\
Resent-Date: Tue, 24 Nov 2026 06:00:00 +0000
Resent-From: r@b.example
Resent-To: s@d.example
Resent-Bcc: secret@d.example
Resent-Message-ID: <resent@b.example>
To: c@d.example
Subject: resent

x
""",
    b"blind": b"""\
Bcc: first@d.example
To: c@d.example
BCC: "Folded, Name" <second@d.example>,
\tthird@d.example
Subject: blind copies
return-path: <x@y.example>
bcc:

Bcc: kept@d.example
""",
    b"delivery-report": b"""\
To: c@d.example
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="R"

--R

Not delivered.
--R
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.b.example

Final-Recipient: rfc822; c@d.example
Action: failed
Status: 5.1.1

--R
Content-Type: text/rfc822-headers

Subject: hello

--R--
""",
}

MESSAGES = {name.decode(): IDENTITY % name + more
            for name, more in _MORE.items()}
