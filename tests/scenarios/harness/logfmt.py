"""The relay's log, read back: one `key=value` line for each event."""

import json
import re
from collections.abc import Sequence

_PAIR = re.compile(r'([A-Za-z_][\w.]*)=("(?:[^"\\]|\\.)*"|[^\s"]*)(?: |$)')


def parse(line: str) -> dict[str, str]:
    """Return the pairs of one line; raise ValueError when it is not a line of such pairs."""
    pairs: dict[str, str] = {}
    position = 0
    while position < len(line):
        match = _PAIR.match(line, position)
        if match is None:
            raise ValueError(f"Not key=value at column {position}: {line}")
        value = match[2]
        pairs[match[1]] = json.loads(value, strict=False) if value.startswith('"') else value
        position = match.end()
    if not {"time", "level", "event"} <= pairs.keys():
        raise ValueError(f"Not an event of the relay: {line!r}")
    return pairs


def strays(lines: Sequence[str]) -> list[str]:
    """Return the lines that are no events: a traceback, a warning of Python's, a stray print."""
    stray = []
    for line in lines:
        try:
            parse(line)
        except ValueError:
            stray.append(line)
    return stray
