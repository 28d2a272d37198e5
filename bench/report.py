"""The results as a table for people and as JSON for programs."""

import json
import os
import platform
import ssl
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from bench.result import Aim, Result, Row

_PACKAGES = ("smtp-relay", "emailproxy", "aiosmtpd", "argon2-cffi", "cryptography", "msal", "structlog")
_HEADINGS = ("measure", "relay", "peer", "", "ratio", "aim", "met")
_WIDTHS = (28, 11, 11, 11, 7, 14, 4)


def table(results: Sequence[Result]) -> str:
    """Return the table. A ratio is the relay's value divided by the peer's: below 1 the relay needs less."""
    lines = [_line(_HEADINGS)]
    for result in results:
        lines += ["", f"({result.scenario}) {result.title}"]
        lines += [_line(_cells(row)) for row in result.rows]
        lines += [f"    {note}" for note in result.notes]
    return "\n".join(lines)


def document(results: Sequence[Result], facts: dict[str, Any]) -> str:
    """Return everything that was measured, and on what, as JSON."""
    scenarios = [
        {
            "scenario": result.scenario,
            "title": result.title,
            "rows": [_row(row) for row in result.rows],
            "samples": result.samples,
            "notes": result.notes,
        }
        for result in results
    ]
    return json.dumps({**facts, "scenarios": scenarios}, indent=1) + "\n"


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    return {
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "system": platform.platform(),
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_mb": psutil.virtual_memory().total // 2**20,
        "load_at_start": round(os.getloadavg()[0], 2),
        "versions": {name: version(name) for name in _PACKAGES},
    }


def _row(row: Row) -> dict[str, Any]:
    return {**asdict(row), "aim_is": row.aim_is.value, "ratio": row.ratio, "met": row.met}


def _cells(row: Row) -> tuple[str, ...]:
    aim = ""
    if row.aim is not None:
        aim = f"<= {row.aim:g}" + (f" {row.unit}".rstrip() if row.aim_is is Aim.OURS else "")
    met = {None: "", True: "yes", False: "NO"}[row.met]
    theirs = _value(row.theirs, row.unit) if row.peer else ""
    return row.measure, _value(row.ours, row.unit), row.peer, theirs, _ratio(row.ratio), aim, met


def _value(number: float | None, unit: str) -> str:
    """A number of things, or a measured value with three significant digits."""
    if number is None:
        return "-"
    return f"{_three_digits(number)} {unit}" if unit else f"{number:.0f}"


def _ratio(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return ">100" if ratio > 100 else _three_digits(ratio)


def _three_digits(value: float) -> str:
    places = sum(abs(value) < bound for bound in (100, 10, 1))
    return f"{value:.{places}f}"


def _line(cells: Sequence[str]) -> str:
    left = {0, 2, 5, 6}
    padded = (
        cell.ljust(width) if place in left else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, _WIDTHS, strict=True))
    )
    return "  " + "  ".join(padded).rstrip()


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
