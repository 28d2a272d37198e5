"""Addresses as SMTP has them: the paths of MAIL and RCPT, their parameters, and when two are the same.

This is the gate between what a client typed and what we write to the upstream inside `<...>`. What passes
here cannot end the brackets, the line or the command.
"""

import re
import unicodedata
from ipaddress import IPv4Address, IPv6Address

from relay_app.errors import SmtpRefusal

MAX_LOCAL_PART = 64
"""Octets, RFC 5321 4.5.3.1.1."""
MAX_ADDRESS = 254
"""Octets: RFC 5321 4.5.3.1.3 allows a path 256, brackets included."""
_MAX_SHOWN = 100  # characters of a client's text that are quoted in a reply

# RFC 5321 4.1.2 and 4.1.3; `{utf8}` is where RFC 6531 3.3 adds UTF8-non-ascii. It is an alternative to the
# sets, not a part of them: a set with so large a range takes 10 ms to compile.
_ATEXT = r"(?:[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]{utf8})"
_DOT_STRING = rf"{_ATEXT}++(?:\.{_ATEXT}++)*+"
_QUOTED_STRING = r'"(?:[ !#-\[\]-~]{utf8}|\\[ -~])*+"'
_LABEL = r"(?:[A-Za-z0-9]{utf8})(?:(?:[A-Za-z0-9-]{utf8}){{0,61}}(?:[A-Za-z0-9]{utf8}))?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_LITERAL = r"\[(?:(?i:IPv6:)[0-9A-Fa-f:.]{{2,45}}|[0-9.]{{7,15}})\]"
_ADDRESS = rf"(?:{_DOT_STRING}|{_QUOTED_STRING})@(?:{_DOMAIN}|{_LITERAL})"
_ROUTE = rf"(?:@{_DOMAIN}(?:,@{_DOMAIN})*:)?"
_PATH = rf"(?:<(?:{_ROUTE}(?P<path>{_ADDRESS}))?>|(?P<bare>{_ADDRESS}))(?: +(?P<rest>.*))?"

_ASCII_PATH = re.compile(_PATH.format(utf8=""))
_UTF8_PATH = re.compile(_PATH.format(utf8=r"|[^\x00-\x7f]"))
_ANY_ADDRESS = re.compile(_ADDRESS.format(utf8=r"|[^\x00-\x7f]"))

_QUOTED_PAIR = re.compile(r"\\(.)")
# RFC 5321 4.1.2: esmtp-param
_PARAMETER = re.compile(r"(?P<key>[A-Za-z0-9][A-Za-z0-9-]*)(?:=(?P<value>[!-<>-~]+))?")
# Not str.lower(): that makes the Kelvin sign a "k", and so a foreign domain one of ours.
_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def parse_path(text: str, *, smtputf8: bool, sender: bool = False) -> tuple[str, str]:
    """Take apart what follows `FROM:` or `TO:`; return the address and the text of the parameters.

    The address comes without brackets, `<>` as "" (which a RCPT must refuse). A source route is dropped (RFC
    5321 appendix C). Blanks before the path and a path without brackets are forgiven, because old devices
    send them; nothing else is. `smtputf8` allows addresses outside ASCII (RFC 6531), if they are in the one
    form that nothing on their way will change (NFKC). `sender` chooses the enhanced code.

    Raises:
        SmtpRefusal: 501 or 553 with 5.1.7 (sender), 5.1.3 (recipient) or 5.6.7.
    """
    text = text.strip(" \t")
    # isprintable() is False for controls, surrogates, line separators, and the invisible (Cf) characters.
    match = (_UTF8_PATH if smtputf8 else _ASCII_PATH).fullmatch(text) if text.isprintable() else None
    if match is None:
        raise _refusal(text, smtputf8=smtputf8, sender=sender)
    address = match["path"] or match["bare"] or ""
    if address and not _sound(address):
        raise _refusal(address, smtputf8=smtputf8, sender=sender)
    return address, match["rest"] or ""


def is_address(text: str) -> bool:
    """True for what `parse_path` would return from an SMTPUTF8 command, except ""."""
    return text.isprintable() and _ANY_ADDRESS.fullmatch(text) is not None and _sound(text)


def _sound(address: str) -> bool:
    """What the grammar alone does not say: lengths, address literals, Unicode normalization."""
    local, _, domain = address.rpartition("@")
    if not address.isascii() and not unicodedata.is_normalized("NFKC", address):
        return False  # a fullwidth "@" or full stop would be a plain one after the next hop's IDNA mapping
    if len(local.encode()) > MAX_LOCAL_PART or len(address.encode()) > MAX_ADDRESS:
        return False
    return not domain.startswith("[") or _is_ip(domain[1:-1])


def _is_ip(literal: str) -> bool:
    """RFC 5321 4.1.3: `192.0.2.1` or `IPv6:2001:db8::1`."""
    try:
        if literal[:5].lower() == "ipv6:":
            IPv6Address(literal[5:])
        else:
            IPv4Address(literal)
    except ValueError:
        return False
    return True


def _refusal(text: str, *, smtputf8: bool, sender: bool) -> SmtpRefusal:
    role, enhanced = ("sender", "5.1.7") if sender else ("recipient", "5.1.3")
    if not text:
        return SmtpRefusal(501, enhanced, f"The {role} address is missing. Write it as <name@example.com>.")
    what = f"The {role} address {shown(text)}"
    if not text.isascii() and text.isprintable() and not smtputf8:
        hint = "Send MAIL with SMTPUTF8, or use an address in ASCII."
        return SmtpRefusal(553, "5.6.7", f"{what} has characters outside ASCII. {hint}")
    if "@" not in text:
        return SmtpRefusal(553, enhanced, f"{what} has no domain. Write it in full, as <name@example.com>.")
    if len(text.encode(errors="replace")) > MAX_LOCAL_PART:
        limits = f"at most {MAX_LOCAL_PART} octets before the @ and {MAX_ADDRESS} in all"
        return SmtpRefusal(553, enhanced, f"{what} is malformed or too long ({limits}).")
    return SmtpRefusal(501, enhanced, f"{what} is malformed. Write it as <name@example.com>.")


def parse_parameters(rest: str) -> dict[str, str | None]:
    """Take apart ESMTP parameters (RFC 5321 4.1.2); the value is None for a keyword without one.

    Raises:
        SmtpRefusal: 501 5.5.4, a parameter is malformed or given twice.
    """
    parameters: dict[str, str | None] = {}
    for word in rest.split(" "):
        if not word:
            continue
        match = _PARAMETER.fullmatch(word)
        if match is None:
            raise SmtpRefusal(501, "5.5.4", f"The parameter {shown(word)} is malformed.")
        key = match["key"].upper()
        if key in parameters:
            raise SmtpRefusal(501, "5.5.4", f"The parameter {shown(key)} is given twice.")
        parameters[key] = match["value"]
    return parameters


def normalised(address: str) -> str:
    """Return the form to compare addresses by: no needless quoting, ASCII letters in lower case.

    The local part is folded too, as Outlook does (RFC 5321 2.4 leaves it to the receiver). Letters outside
    ASCII are compared as they are, and U-labels differ from A-labels: whichever is not listed is foreign.
    """
    local, _, domain = address.rpartition("@")
    if len(local) > 1 and local[0] == local[-1] == '"':
        local = _QUOTED_PAIR.sub(r"\1", local[1:-1])
    return f"{local}@{domain}".translate(_ASCII_LOWER)


def same_address(a: str, b: str) -> bool:
    """True if mail for `a` and `b` goes to the same mailbox, as far as the addresses tell."""
    return normalised(a) == normalised(b)


def shown(text: str) -> str:
    """Quote a client's text for a reply or a log: printable ASCII in brackets, cut when long."""
    plain = text.encode("ascii", "backslashreplace").decode("ascii")
    plain = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in plain).strip("<>")
    return f"<{plain[:_MAX_SHOWN]}...>" if len(plain) > _MAX_SHOWN else f"<{plain}>"
