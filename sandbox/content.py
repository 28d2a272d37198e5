"""A message's content on the wire and inside: pure functions."""

from email import policy
from email.parser import BytesHeaderParser
from email.utils import getaddresses

END = b"\r\n.\r\n"
"""The only thing that ends DATA (RFC 5321 4.1.1.4)."""

_PARSER = BytesHeaderParser(policy=policy.compat32)


def find_end(octets: bytearray, searched: int) -> int:
    """Where the end of the content begins, or -1. The first `searched` octets were searched before."""
    return octets.find(END, max(0, searched - len(END) + 1))


def undo_dot_stuffing(octets: bytes) -> bytes:
    """Remove the dot that each line beginning with one was given (RFC 5321 4.5.2).

    `octets` is what came between DATA's CRLF and the final dot, with that first CRLF in front.
    """
    return octets.replace(b"\r\n.", b"\r\n")[2:]


def from_addresses(content: bytes) -> list[str]:
    """The addresses in the `From:` header field, as written."""
    end = content.find(b"\r\n\r\n")
    headers = _PARSER.parsebytes(content if end < 0 else content[: end + 2])
    fields = [str(value) for value in headers.get_all("From", [])]
    return [address for _, address in getaddresses(fields) if address]
