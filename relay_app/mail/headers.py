"""The header of a message: cutting it from the body, mending its fields, and our own trace field."""

import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from ipaddress import IPv6Address, ip_address

from relay_app.errors import SmtpRefusal
from relay_app.mail.address import is_address

MAX_HEADER = 256 * 1024
"""Octets; a security limit, the same as Exchange's default (MaxHeaderSize)."""

# RFC 5322 2.2 and 2.2.3, and 4.5's blanks before the colon.
_FIELD = re.compile(rb"([!-9;-~]++)[ \t]*+:[^\r\n]*+\r\n(?:[ \t][^\r\n]*+\r\n)*+")
# Strings and comments are skipped whole, so that a comma in one does not begin a mailbox.
_MAILBOX = re.compile(
    rb"""
      "(?: [^"\\] | \\. )*+ (?: " | \Z )
    | \( [^()]*+ \)
    | ( (?: \A | , ) [ \t\r\n]*+ ) ( [^\x00-\x1f"\\(),:;<>\[\]\x7f]++ ) (?= < )
    """,
    re.VERBOSE | re.DOTALL,
)
_NOT_IN_DOMAIN = re.compile(r"[^A-Za-z0-9._-]")
_MAX_TRACE_WORD = 255  # a domain's length, RFC 5321 4.5.3.1.2


@dataclass(frozen=True, slots=True)
class Field:
    """A header field: its name in lower case, and all of its octets, folding and last CRLF included."""

    name: bytes
    raw: bytes

    @property
    def value(self) -> bytes:
        """What follows the colon, still folded."""
        return self.raw.partition(b":")[2]


def split(content: bytes | bytearray) -> tuple[list[Field], memoryview | bytes]:
    """Cut content into header fields and body; the body begins with the empty line between the two.

    The first line that is neither a field nor a field's continuation ends the header, as in Postfix. If that
    is not the empty line, one is put before it: what was not a field for us cannot be one for the next hop.
    Content that is all header has the body b"". The body is a view of `content` and is not looked at; only
    putting in the empty line copies it.

    Raises:
        SmtpRefusal: 552 5.3.4, the header is larger than `MAX_HEADER`; 550 5.6.0, it has a NUL.
    """
    view = memoryview(content).toreadonly()
    empty_line = -2 if content.startswith(b"\r\n") else content.find(b"\r\n\r\n", 0, MAX_HEADER)
    block = bytes(view[: empty_line + 2 if empty_line != -1 else MAX_HEADER])
    fields, end = [], 0
    while match := _FIELD.match(block, end):
        fields.append(Field(match[1].lower(), match[0]))
        end = match.end()
    if len(block) == MAX_HEADER and b"\r\n" not in block[end:]:
        limit = f"at most {MAX_HEADER // 1024} KB are allowed"
        raise SmtpRefusal(552, "5.3.4", f"The header of the message is too large; {limit}.")
    if b"\0" in block[:end]:
        advice = "Some servers would drop them and read other fields than we do; check the sending program."
        raise SmtpRefusal(550, "5.6.0", f"The header of the message has NUL characters. {advice}")
    if end == len(content):
        return fields, b""
    if content.startswith(b"\r\n", end):
        return fields, view[end:]
    return fields, b"".join((b"\r\n", view[end:]))


def quote_display_names(field: bytes) -> bytes:
    """Put quotes around each unquoted display name with an "@" in an address field; leave the rest as it is.

    Outlook refuses `Scanner @ Office <a@b>` (RFC 5322 3.2.3 has no "@" in atoms). Names with encoded words
    are left alone: these mean nothing inside quotes.
    """
    name, colon, value = field.partition(b":")
    return name + colon + _MAILBOX.sub(_quote, value)


def _quote(match: re.Match[bytes]) -> bytes:
    display = match[2]
    if display is None or b"@" not in display or b"=?" in display:
        return match[0]
    return match[1] + b'"' + display.rstrip(b" \t") + b'" '


def date_field(now: datetime) -> bytes:
    """`Date:` (RFC 5322 3.6.1)."""
    return f"Date: {format_datetime(now)}\r\n".encode()


def trace_field(
    *,
    helo: str,
    client: str,
    hostname: str,
    submission_id: str,
    now: datetime,
    tls_version: str = "",
    cipher: str = "",
    authenticated: bool = True,
    smtputf8: bool = False,
    recipients: tuple[str, ...] = (),
) -> bytes:
    """Build the `Received:` field (RFC 5321 4.4), folded, CRLF included.

    `helo` is what the client called itself, `client` its IP address; both may be anything. A single recipient
    is named (`for`), several are not: they need not know of each other. `tls_version` is "" without TLS.
    """
    # RFC 3848, RFC 6531 4.3
    protocol = "UTF8SMTP" if smtputf8 else "ESMTP"
    protocol += ("S" if tls_version else "") + ("A" if authenticated else "")
    lines = [
        f"Received: from {_word(helo)} ({_literal(client)})",
        f"by {_word(hostname)} with {protocol} id {_word(submission_id)}",
    ]
    if tls_version:
        lines.append(f"(version={_word(tls_version)} cipher={_word(cipher)})")
    if len(recipients) == 1 and is_address(recipients[0]) and (smtputf8 or recipients[0].isascii()):
        lines.append(f"for <{recipients[0]}>")
    return ("\r\n\t".join(lines) + f";\r\n\t{format_datetime(now)}\r\n").encode()


def _word(text: str) -> str:
    """Make any text fit for a trace field: a domain's characters only, and an address literal as it is."""
    if text.startswith("[") and is_address(f"x@{text}"):
        return text
    return _NOT_IN_DOMAIN.sub("-", text)[:_MAX_TRACE_WORD] or "unknown"


def _literal(client: str) -> str:
    """RFC 5321 4.1.3; an IPv4 address in IPv6 form is written as what it is."""
    try:
        address = ip_address(client)
    except ValueError:
        return "unknown"
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or IPv6Address(int(address))  # without a scope (%eth0)
    return f"[IPv6:{address}]" if isinstance(address, IPv6Address) else f"[{address}]"
