"""The messages that are sent."""

from itertools import count

_numbers = count(1)
_LINE = b"TG9yZW0gaXBzdW0gZG9sb3Igc2l0IGFtZXQsIGNvbnNlY3RldHVyIGFkaXBpc2NpbmcgZWxpdC4K\r\n"


def letter(size: int, sender: str) -> bytes:
    """Return a message of about `size` octets, with lines as long as those of a base64 attachment.

    No two are the same, so that nobody can save work on copies.
    """
    number = next(_numbers)
    header = (
        f"From: Bench <{sender}>\r\n"
        "To: Recipient <recipient@example.com>\r\n"
        f"Subject: Measurement {number}\r\n"
        "Date: Mon, 05 Jan 2026 10:00:00 +0000\r\n"
        f"Message-ID: <{number}@bench.example.org>\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=us-ascii\r\n"
        "\r\n"
        f"Message {number}\r\n"
    ).encode()
    return header + _LINE * max(0, (size - len(header)) // len(_LINE))
