"""The authors of a message: its `From:` field, read in the one way that everybody reads it (RFC 5322 3.6.2).

Who may be named here is checked, so a field that we read one way and Outlook another would let a device send
as somebody else. The grammar is therefore much smaller than RFC 5322's: a list of

    name@domain    <name@domain>    Words <name@domain>    "Any text" <name@domain>    name@domain (comment)

without groups, routes, quoted local parts, or angle brackets and control characters in names. What is outside
it is not guessed at but reported as a doubt. Comments, and what devices often get wrong but can only mean one
thing (a special character in an unquoted name, bytes that are not UTF-8), are read, and are to be written
anew.
"""

import email.errors
import email.header
import re
import unicodedata
from dataclasses import dataclass

from relay_app.mail.address import is_address

_MAX_FIELD = 2000  # octets; a security limit, and more than any honest field has
_MAX_NAME = 256  # characters; Exchange's limit for a display name

_ADDR = r"""[^\x00-\x20\x7f"\\<>(),:;@]+@[^\x00-\x20\x7f"\\<>(),:;@]+"""
_AUTHOR = re.compile(
    rf"""
    [ \t]*+
    (?: "(?P<quoted> (?:[^"\\<>]|\\["\\])*+ )" [ \t]*+ <(?P<by_quoted>{_ADDR})>
      | (?P<phrase> [^"\\<>,:;]*+ ) <(?P<by_phrase>{_ADDR})>
      | (?P<bare>{_ADDR}) (?: [ \t]*+ \((?P<comment> [^"\\<>(),:;@]*+ )\) )?
    )
    [ \t]*+ (?P<end> , | \Z )
    """,
    re.VERBOSE,
)
# Atoms (encoded words too), dots but the first, RFC 6532's UTF-8: all readers take these for words of a name.
_NOT_ATEXT = r'\x00-\x08\x0a-\x1f\x7f"(),:;<>@\[\\\]'  # besides dot, blank and tab
_WORDS = re.compile(rf"[ \t]*+(?:[^{_NOT_ATEXT}. \t][^{_NOT_ATEXT}]*+)?")
_NOT_UTF8 = re.compile(r"[\udc80-\udcff]")  # as "surrogateescape" decodes it
_DANGEROUS = re.compile(r"[<>\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ESCAPED = re.compile(r'\\(["\\])')
_TO_ESCAPE = re.compile(r'(["\\])')


@dataclass(frozen=True, slots=True)
class Author:
    """One mailbox of a From: field: the display name, decoded ("" for none), and the address."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a From: field says.

    `doubt` is "" or why the field cannot be read with certainty; `authors` is empty then. `plain` is False
    when the field, though certain, breaks the rules and is better written anew.
    """

    authors: tuple[Author, ...]
    plain: bool
    doubt: str


class _Doubt(ValueError):
    """The field cannot be read with certainty; the text completes the sentence "the From: field ..."."""


def read_authors(value: bytes, *, smtputf8: bool) -> Reading:
    """Read the value of a From: field, folded or not. `smtputf8` allows addresses outside ASCII."""
    try:
        return _read(value, smtputf8)
    except _Doubt as doubt:
        return Reading((), plain=False, doubt=str(doubt))


def _read(value: bytes, smtputf8: bool) -> Reading:
    if len(value) > _MAX_FIELD:
        raise _Doubt(f"is longer than {_MAX_FIELD} octets")
    lines = value.split(b"\r\n")
    if any(not line.strip() for line in lines[1:-1]):
        raise _Doubt("has a blank line in it")  # to some readers, the end of the header
    text = b"".join(lines).decode("utf-8", "surrogateescape")  # RFC 5322 2.2.3: unfolding
    authors, plain, position = [], True, 0
    while True:
        match = _AUTHOR.match(text, position)
        if match is None:
            raise _Doubt("is not of the form Name <name@example.com>")
        author, is_plain = _author(match, smtputf8)
        authors.append(author)
        plain = plain and is_plain
        if not match["end"]:
            return Reading(tuple(authors), plain, doubt="")
        position = match.end()


def _author(match: re.Match[str], smtputf8: bool) -> tuple[Author, bool]:
    address = match["by_quoted"] or match["by_phrase"] or match["bare"]
    # An encoded word in an address is decoded by some readers into another address ("Mailsploit").
    if not is_address(address) or "=?" in address or not (smtputf8 or address.isascii()):
        raise _Doubt("has an address that is not valid")
    if match["quoted"] is not None:
        raw, plain = _ESCAPED.sub(r"\1", match["quoted"]), True
    elif match["phrase"] is not None:
        raw, plain = match["phrase"].strip(" \t"), _WORDS.fullmatch(match["phrase"]) is not None
    else:
        raw, plain = (match["comment"] or "").strip(" \t"), match["comment"] is None
    name = raw.replace("\t", " ")
    if _NOT_UTF8.search(name):  # what old devices send then is nearly always Windows-1252
        name, plain = name.encode("utf-8", "surrogateescape").decode("cp1252", "replace"), False
    return Author(_decoded(name), address), plain


def _decoded(name: str) -> str:
    """Decode encoded words (RFC 2047), also in quotes as most mail programs do, and check what comes out."""
    if "=?" in name:
        try:
            name = str(email.header.make_header(email.header.decode_header(name)))
        except (email.errors.MessageError, LookupError, ValueError) as error:
            raise _Doubt("has an encoded word that cannot be decoded") from error
    if len(name) > _MAX_NAME:
        raise _Doubt(f"has a name of more than {_MAX_NAME} characters")
    # NFKC: some readers turn the fullwidth forms of angle brackets into plain ones.
    if _DANGEROUS.search(name if name.isascii() else unicodedata.normalize("NFKC", name)):
        raise _Doubt("has angle brackets or control characters in a name")
    return name


def write_authors(field_name: str, authors: tuple[Author, ...]) -> bytes:
    """Write an address field (From, Reply-To) that has one reading only: each name is quoted or encoded."""
    mailboxes = ",\r\n ".join(_written(author) for author in authors)
    return f"{field_name}: {mailboxes}\r\n".encode()


def _written(author: Author) -> str:
    if not author.name:
        return author.address
    if author.name.isascii() and "=?" not in author.name:
        escaped = _TO_ESCAPE.sub(r"\\\1", author.name)
        return f'"{escaped}" <{author.address}>'
    words = email.header.Header(author.name, "utf-8", maxlinelen=60).encode(linesep="\r\n")
    return f"{words} <{author.address}>"
