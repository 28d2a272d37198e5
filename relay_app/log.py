"""The log: one `key=value` line for each event, on standard error.

Never in it: a message's body or subject, a password, a token. The first defence is not to log them,
`_withhold` is the last.
"""

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_SECRET_KEYS = frozenset({"password", "token", "secret", "client_secret", "access_token", "refresh_token"})


def configure(stream: TextIO | None = None, *, verbose: bool = False) -> None:
    """Send all logging, ours and the libraries', to `stream` (standard error by default)."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        _withhold,
        _flatten,
        structlog.processors.LogfmtRenderer(key_order=["time", "level", "event"], bool_as_flag=False),
    ]
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    # The libraries' loggers: warnings and worse. aiosmtpd's `mail.log` would log every line of a session, and
    # repeats what we log.
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared[:2]],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *shared[2:]],
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("mail").setLevel(logging.CRITICAL)


def _withhold(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for key in event:
        if key in _SECRET_KEYS:
            event[key] = "(withheld)"
    return event


def _flatten(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """One event, one line: what people and `grep` expect. What is empty is left out."""
    flat: EventDict = {}
    for key, value in event.items():
        if isinstance(value, float):
            value = round(value, 3)
        elif isinstance(value, list | tuple):
            value = _printable(",".join(map(str, value)))
        elif not isinstance(value, bool | int | None):
            value = _printable(str(value))
        if value is not None and value != "":
            flat[key] = value
    return flat


def _printable(text: str) -> str:
    """One line, and nothing that a terminal would obey: some of what is logged was said by strangers."""
    if text.isprintable():
        return text
    text = " | ".join(line.strip() for line in text.splitlines())
    return "".join(char if char.isprintable() else "?" for char in text)
