"""MAIL and RCPT: their syntax, and what they have said so far."""

import re
from dataclasses import dataclass, field

_PATH = r'<((?:"(?:[^"\\]|\\.)*"|[^<>"])*)>'
MAIL = re.compile(rf"FROM:\s*{_PATH}((?:\s+\S+)*)\s*", re.IGNORECASE)
RCPT = re.compile(rf"TO:\s*{_PATH}((?:\s+\S+)*)\s*", re.IGNORECASE)
"""Arguments of the two commands (RFC 5321 4.1.1.2 and 4.1.1.3): group 1 is the address, 2 the parameters."""

MAIL_PARAMETERS = frozenset({"SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "AUTH"})
RCPT_PARAMETERS = frozenset({"NOTIFY", "ORCPT"})


@dataclass(slots=True)
class Transaction:
    """One message's envelope, while it is being given."""

    mail: str
    """The MAIL command as sent."""
    sender: str
    parameters: dict[str, str]
    rcpt: list[str] = field(default_factory=list)
    """The RCPT commands as sent, those that were accepted."""
    recipients: list[str] = field(default_factory=list)
    chunks: bytearray | None = None
    """Content given by BDAT."""


def parameters(text: str) -> dict[str, str]:
    """ESMTP parameters by name in upper case; "" for one without a value."""
    pairs = (word.partition("=") for word in text.split())
    return {name.upper(): value for name, _, value in pairs}
