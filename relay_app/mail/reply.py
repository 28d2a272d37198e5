"""An SMTP reply: what a server says, in either direction (RFC 5321 4.2, RFC 2034, RFC 3463)."""

import re
from dataclasses import dataclass
from textwrap import wrap
from typing import Self

_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[ \t]+|\Z)")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_MAX_TEXT = 480  # RFC 5321 4.5.3.1.5: a reply line is at most 512 octets, code and CRLF included


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply. Lines of `text` are separated by "\\n"; `enhanced` is "" where RFC 2034 has none."""

    code: int
    enhanced: str
    text: str

    @classmethod
    def from_lines(cls, code: int, lines: list[str]) -> Self:
        """Build from the texts of a received reply's lines, taking the enhanced code off each."""
        enhanced = ""
        texts = []
        for line in lines:
            match = _ENHANCED.match(line)
            if match and match[1][0] == str(code)[0]:
                enhanced = enhanced or match[1]
                line = line[match.end() :]
            texts.append(line)
        return cls(code, enhanced, "\n".join(texts))

    @property
    def positive(self) -> bool:
        """2xx or 3xx."""
        return self.code < 400

    @property
    def temporary(self) -> bool:
        """4xx: the same command may succeed later."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """5xx: the same command will fail again."""
        return self.code >= 500

    def wire(self) -> bytes:
        """The octets to send. Anything but printable ASCII becomes "?", so that no text can forge a reply.

        A line that is too long goes on in the next one: the end of a sentence is often what to do.
        """
        prefix = f"{self.enhanced} " if self.enhanced else ""
        lines: list[str] = []
        for line in self.text.split("\n"):
            printable = _UNPRINTABLE.sub("?", line)
            lines += [printable] if len(printable) <= _MAX_TEXT else wrap(printable, _MAX_TEXT) or [""]
        out = [f"{self.code}-{prefix}{line}\r\n" for line in lines[:-1]]
        out.append(f"{self.code} {prefix}{lines[-1]}\r\n")
        return "".join(out).encode("ascii")

    def __str__(self) -> str:
        text = self.text.replace("\n", " ")
        return " ".join(part for part in (str(self.code), self.enhanced, text) if part)
