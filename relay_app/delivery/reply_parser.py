"""Reads an upstream's replies from bytes (RFC 5321 4.2). No I/O."""

import re

from relay_app.errors import RelayError
from relay_app.mail.reply import Reply

MAX_LINE = 12288
"""Octets of one reply line with its CRLF. RFC 5321 4.5.3.1.5 says 512, but Outlook's diagnostics are longer,
and a SASL challenge may be this long (RFC 4954 section 4). A security limit."""

MAX_LINES = 100
"""Lines of one reply: far more than any EHLO reply has. A security limit."""

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])([^\r\n\0]*))?\r?\n")


class ProtocolError(RelayError):
    """What the upstream sent is not SMTP, or not at this place. The connection cannot be used any more."""


class ReplyParser:
    """Turns bytes into replies, however they are cut into pieces.

    A bare LF is taken as a line's end too: nothing can be smuggled in a reply, as we never pass one on as
    bytes.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._code = 0
        self._lines: list[str] = []

    @property
    def empty(self) -> bool:
        """No part of a reply is waiting for its rest."""
        return not self._buffer and not self._lines

    def feed(self, data: bytes) -> None:
        """Take what was received."""
        self._buffer += data

    def next_reply(self) -> Reply | None:
        """Return the next complete reply, or None if it has not arrived yet.

        Raises:
            ProtocolError: this is not a reply, or it is longer than the limits.
        """
        while (end := self._buffer.find(b"\n", 0, MAX_LINE)) >= 0:
            line = bytes(self._buffer[: end + 1])
            del self._buffer[: end + 1]
            if self._take(line):
                reply = Reply.from_lines(self._code, self._lines)
                self._lines = []
                return reply
        if len(self._buffer) >= MAX_LINE:
            raise ProtocolError(f"the server sent a reply line of more than {MAX_LINE} octets")
        return None

    def _take(self, line: bytes) -> bool:
        """Add a line to the reply being read; return whether it is its last one."""
        match = _LINE.fullmatch(line)
        if not match:
            raise ProtocolError(f"the server sent something that is not an SMTP reply: {line[:20]!r}")
        code = int(match[1])
        if self._lines and code != self._code:
            raise ProtocolError(f"the server changed its mind within a reply, from {self._code} to {code}")
        if len(self._lines) >= MAX_LINES:
            raise ProtocolError(f"the server sent a reply of more than {MAX_LINES} lines")
        self._code = code
        self._lines.append((match[3] or b"").decode("utf-8", "replace"))
        return match[2] != b"-"
