"""The XOAUTH2 SASL mechanism, the server's side of it.

Source: "Authenticate an IMAP, POP or SMTP connection using OAuth" at learn.microsoft.com/exchange.
"""

import base64
import binascii
import json
import re

_RESPONSE = re.compile(rb"user=([^\x01]+)\x01auth=Bearer ([^\x01]+)\x01\x01", re.IGNORECASE)


def parse(response: str) -> tuple[str, str]:
    """User and token of a client's response; two empty strings when it is malformed."""
    try:
        match = _RESPONSE.fullmatch(base64.b64decode(response, validate=True))
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        return "", ""
    if match is None:
        return "", ""
    return match[1].decode("utf-8", "replace"), match[2].decode("utf-8", "replace")


def error_challenge() -> str:
    """What some servers say before the 535: the client answers with an empty line."""
    error = {"status": "400", "schemes": "Bearer", "scope": "https://outlook.office.com/SMTP.Send"}
    return base64.b64encode(json.dumps(error).encode()).decode()
