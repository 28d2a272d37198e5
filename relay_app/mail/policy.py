"""What a device may send as, and the small repairs that a submission server may make (RFC 6409 section 8)."""

from dataclasses import dataclass
from datetime import datetime

from relay_app.errors import SmtpRefusal
from relay_app.mail.address import is_address, normalised, same_address, shown
from relay_app.mail.author import Author, Reading, read_authors, write_authors
from relay_app.mail.headers import Field, date_field, quote_display_names, split
from relay_app.mail.submission import Envelope
from relay_app.settings import ForeignFrom

_BLIND = frozenset({b"bcc", b"resent-bcc"})
_ADDRESS_FIELDS = frozenset({b"to", b"cc", b"reply-to", b"sender"})


@dataclass(frozen=True, slots=True)
class SenderRules:
    """Whom a device may send as."""

    mailbox: str
    """The address of the mailbox that its mail leaves through; always permitted."""
    senders: tuple[str, ...]
    """Further addresses, or `*@domain` for a whole domain (not its subdomains)."""
    foreign_from: ForeignFrom
    """What to do with a `From:` that is not permitted."""

    def permits(self, address: str) -> bool:
        """True if a device may send as `address`. What is not a valid address is never permitted."""
        if not is_address(address):
            return False
        if any(same_address(address, own) for own in (self.mailbox, *self.senders)):
            return True
        domain = normalised(address).rpartition("@")[2]
        # The domain of `"a@b"@c`, `b!a@c` and `a%b@c` is c, but not every server agrees: list these in full.
        return not set(address) & set('"!%') and f"*@{domain}" in map(normalised, self.senders)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A message that is fit to be sent: header and body as `mail.submission.Submission` has them."""

    header: bytes
    body: memoryview | bytes
    repairs: tuple[str, ...]
    """What was mended, for the log: bcc, from, sender, display-name, date, message-id."""
    message_id: str
    """With its brackets, the message's own or the one it was given."""


def judge_sender(address: str, rules: SenderRules) -> None:
    """Judge the reverse-path of MAIL.

    Raises:
        SmtpRefusal: 550 5.7.1, the device may not send as this address.
    """
    if not address:
        raise SmtpRefusal(
            550,
            "5.7.1",
            "The empty sender <> is for delivery reports between servers; a device must name itself. "
            f"Send as {shown(rules.mailbox)}.",
        )
    if not rules.permits(address):
        raise SmtpRefusal(
            550,
            "5.7.1",
            f"This device may not send as {shown(address)}, because it belongs to the mailbox "
            f"{shown(rules.mailbox)}. Send as that address, or add this one to the device's senders.",
        )


def prepare(
    content: bytes | bytearray,
    *,
    envelope: Envelope,
    rules: SenderRules,
    trace: bytes,
    message_id: str,
    now: datetime,
) -> Prepared:
    """Judge the From: field of a message and mend its header; the body is neither copied nor read.

    `content` has CRLF line endings (`transparency.check_octets`) and is not dot-stuffed; it must not
    change afterwards, because the body is a view of it. `trace` is our whole Received: field. `message_id`,
    with its brackets, is used if the message has none, as `now` is for Date:.

    All fields stay byte for byte, except: Bcc: is removed (the envelope has these recipients), a display name
    with an unquoted "@" gets quotes, From: is written anew if the rules say so or if its syntax is bad but
    its meaning certain, a foreign Sender: is removed (RFC 6409 8.1: that field is the submission server's).

    Raises:
        SmtpRefusal: 550 5.7.1, the From: field is foreign, missing, doubled or cannot be read with certainty;
            550 5.6.0 or 552 5.3.4, see `headers.split`.
    """
    fields, body = split(content)
    names = {field.name for field in fields}
    authors = [field for field in fields if field.name == b"from"]
    from_field, extra, repairs = _settle_authors(authors, b"reply-to" in names, rules, envelope.smtputf8)
    header = [trace]
    for field in fields:
        if field.name in _BLIND:
            repairs.append("bcc")
        elif field.name == b"from":
            header.append(from_field)
            from_field = b""  # the place of the first; the others go
        elif field.name == b"sender" and not _sender_stands(field, rules, envelope.smtputf8):
            repairs.append("sender")
        elif field.name in _ADDRESS_FIELDS:
            mended = quote_display_names(field.raw)
            if mended != field.raw:
                repairs.append("display-name")
            header.append(mended)
        else:
            header.append(field.raw)
    header += (from_field, extra)
    if b"date" not in names:
        repairs.append("date")
        header.append(date_field(now))
    if b"message-id" not in names:
        repairs.append("message-id")
        header.append(f"Message-ID: {message_id}\r\n".encode())
    own = next((field.value for field in fields if field.name == b"message-id"), b"")
    return Prepared(
        b"".join(header),
        body,
        tuple(dict.fromkeys(repairs)),
        own.decode("ascii", "replace").strip() or message_id,
    )


def _settle_authors(
    fields: list[Field], has_reply_to: bool, rules: SenderRules, smtputf8: bool
) -> tuple[bytes, bytes, list[str]]:
    """Return the From: field to send, a Reply-To: field or b"", and the repairs.

    Raises:
        SmtpRefusal: 550 5.7.1.
    """
    reading = read_authors(fields[0].value, smtputf8=smtputf8) if fields else Reading((), False, "is missing")
    doubt = reading.doubt if len(fields) <= 1 else f"is there {len(fields)} times"
    foreign = next((author.address for author in reading.authors if not rules.permits(author.address)), "")
    if not doubt and not foreign:
        if reading.plain:
            return fields[0].raw, b"", []
        return write_authors("From", reading.authors), b"", ["display-name"]
    if rules.foreign_from is ForeignFrom.REFUSE:
        raise _foreign(foreign, rules) if foreign and not doubt else _doubtful(doubt, rules)
    name = reading.authors[0].name if reading.authors else ""
    rewritten = write_authors("From", (Author(name, rules.mailbox),))
    wants_replies = bool(reading.authors) and not has_reply_to
    return rewritten, write_authors("Reply-To", reading.authors) if wants_replies else b"", ["from"]


def _sender_stands(field: Field, rules: SenderRules, smtputf8: bool) -> bool:
    """True if a Sender: field names nobody but whom the device may send as."""
    reading = read_authors(field.value, smtputf8=smtputf8)
    return not reading.doubt and all(rules.permits(author.address) for author in reading.authors)


_OR_REWRITE = 'or set foreign_from = "rewrite" for this device'


def _foreign(address: str, rules: SenderRules) -> SmtpRefusal:
    return SmtpRefusal(
        550,
        "5.7.1",
        f"The message says From: {shown(address)}, and this device may not send as that address. "
        f"Use {shown(rules.mailbox)}, add the other address to the device's senders, {_OR_REWRITE}.",
    )


def _doubtful(doubt: str, rules: SenderRules) -> SmtpRefusal:
    return SmtpRefusal(
        550,
        "5.7.1",
        f"The From: field of the message {doubt}, so it is not certain who sends it. "
        f"Send one From: field with {shown(rules.mailbox)}, {_OR_REWRITE}.",
    )
