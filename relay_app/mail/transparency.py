"""Transparency: line endings and dot-stuffing, so that only CRLF.CRLF ends a message (RFC 5321 4.5.2)."""

from collections.abc import Iterable, Iterator

from relay_app.errors import SmtpRefusal

_ORDINARY = bytes(set(range(256)) - set(b"\r\n\0"))


def check_octets(content: bytes | bytearray) -> None:
    """Refuse a bare CR or LF (RFC 5321 2.3.8) and NUL (RFC 5322 4.1, RFC 6152 3).

    A server that reads a bare CR or LF as a line ending, or drops NULs, can be fed a second message in the
    first (SMTP smuggling).

    Raises:
        SmtpRefusal: 550 5.6.0.
    """
    lines = content.count(b"\r\n")
    if len(content.translate(None, _ORDINARY)) == 2 * lines:
        return
    if b"\0" in content:
        raise SmtpRefusal(
            550,
            "5.6.0",
            "The message has a NUL octet, which mail may not contain (RFC 5322 4.1). Send binary data as an "
            "attachment in base64; check the sending program.",
        )
    found = "CR without LF" if content.count(b"\n") == lines else "LF without CR"
    advice = "Every line must end with CR LF (RFC 5321 2.3.8); check the sending program."
    raise SmtpRefusal(550, "5.6.0", f"The message has a bare line ending ({found}). {advice}")


def unstuff(content: bytearray) -> bytearray:
    """Take the doubled dots out of what came between DATA's 354 and the final dot.

    `content` has CRLF line endings. It is changed in place and returned if no line but the first begins with
    a dot (nothing is copied then); otherwise a new bytearray is returned.
    """
    if content.startswith(b"."):
        del content[0]  # constant time: a bytearray only moves its start
    # Most of a large message is base64, which has no dots: finding the last one first is quick.
    if content.find(b"\r\n.", 0, content.rfind(b".") + 1) >= 0:
        return content.replace(b"\r\n.", b"\r\n")
    return content


def stuffed(parts: Iterable[bytes | bytearray | memoryview], chunk: int = 65536) -> Iterator[bytes]:
    """Yield the message that `parts` are, dot-stuffed and ending in CRLF, without the line of the final dot.

    No more than `chunk` octets of it are copied at a time.
    """
    last = b"\r\n"  # the last two octets so far: a message begins at the start of a line
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), chunk):
            piece = bytes(view[start : start + chunk])
            # Only what the end of the last piece began needs care; the rest is one replace().
            began = last
            last = (last + piece[-2:])[-2:]
            if began == b"\r\n" and piece.startswith(b"."):
                yield b"."
            elif began.endswith(b"\r") and piece.startswith(b"\n."):
                yield b"\n."
                piece = piece[1:]
            yield piece.replace(b"\r\n.", b"\r\n..") if b"." in piece else piece
    if last != b"\r\n":
        yield b"\r\n"
