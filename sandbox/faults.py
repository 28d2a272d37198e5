"""Faults on request: what shall go wrong, where, for whom and how often."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from sandbox.certificates import KINDS

SMTP_STAGES = frozenset(
    {"connect", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "eod", "noop", "rset", "quit"}
)
ENTRA_STAGES = frozenset({"discovery", "token", "devicecode", "authorize", "deviceauth"})
DROPS = frozenset({"", "now", "before_dot", "after_dot", "after_accept"})


@dataclass(slots=True)
class Fault:
    """One scripted failure. Give the stage and one (or more) of the things that can go wrong there.

    A stall or slow read comes first, then a drop or a reply; with neither the service goes on normally.
    """

    stage: str
    """SMTP: connect, ehlo, starttls, auth, mail, rcpt, data, eod (the end of DATA), noop, rset, quit.
    Entra: discovery, token, devicecode; authorize, deviceauth (the pages: aadsts and status only)."""
    times: int = 1
    """How often it strikes; 0: until cleared."""
    skip: int = 0
    """How many chances it lets pass first."""
    user: str = ""
    """Only for this authenticated (at auth: claimed) user. At Entra: this client id."""
    address: str = ""
    """Only for this sender or recipient (mail, rcpt, data, eod)."""

    stall: float = 0.0
    """Seconds to wait first."""
    drop: str = ""
    """`now` cuts the connection. At eod: `before_dot` (in mid-content), `after_dot` (whole content read,
    message not taken) or `after_accept` (message taken, reply never sent)."""

    reply: str = ""
    """SMTP: the reply as sent, code first, lines separated by "\\n". A 2xx or 3xx replaces only the words; a
    421 closes the connection."""
    slow: int = 0
    """SMTP, at connect or data: read the content at this many octets per second."""
    certificate: str = ""
    """SMTP, at starttls: good, wrong_name, self_signed or expired."""

    aadsts: int = 0
    """Entra: refuse with this number, and the OAuth error that goes with it."""
    error: str = ""
    """Entra: the OAuth error to give with `aadsts`, when it is not the usual one."""
    status: int = 0
    """Entra: the HTTP status. Without `aadsts` the body is not JSON, as from a gateway in trouble."""
    retry_after: int = 0
    """Entra: seconds, sent as Retry-After."""
    expires_in: int = 0
    """Entra: grant the token, but for so many seconds only."""

    id: int = 0
    strikes: int = 0
    """How often it has struck."""

    @classmethod
    def parse(cls, values: dict[str, Any]) -> "Fault":
        """Build from JSON.

        Raises:
            ValueError: a name, stage or value that there is not. The text says which.
        """
        allowed = {item.name: item for item in fields(cls) if item.name not in ("id", "strikes")}
        for name, value in values.items():
            if name not in allowed:
                raise ValueError(f"A fault has no {name!r}. It has: {', '.join(sorted(allowed))}.")
            if not _fits(value, allowed[name].type):
                raise ValueError(f"A fault's {name} cannot be {value!r}.")
        fault = cls(**values)
        fault._check()
        return fault

    def _check(self) -> None:
        if self.stage not in SMTP_STAGES | ENTRA_STAGES:
            raise ValueError(
                f"There is no stage {self.stage!r}. SMTP: {', '.join(sorted(SMTP_STAGES))}. "
                f"Entra: {', '.join(sorted(ENTRA_STAGES))}."
            )
        if self.drop not in DROPS:
            raise ValueError(f"A drop is one of {', '.join(sorted(DROPS - {''}))}, not {self.drop!r}.")
        if self.drop not in ("", "now") and self.stage != "eod":
            raise ValueError(f"A drop {self.drop} can only be at eod, not at {self.stage}.")
        if self.drop == "now" and self.stage == "eod":
            raise ValueError("At eod say which drop: before_dot, after_dot or after_accept.")
        if self.certificate and self.certificate not in KINDS:
            raise ValueError(f"There is no certificate {self.certificate!r}.")
        if self.reply and not (len(self.reply) >= 4 and self.reply[:3].isdigit() and self.reply[3] in " -"):
            raise ValueError(f"A reply starts with a code and a space: {self.reply!r}.")


def _fits(value: object, kind: object) -> bool:
    if kind is str:
        return isinstance(value, str)
    numbers = (int, float) if kind is float else (int,)
    return isinstance(value, numbers) and not isinstance(value, bool) and value >= 0


class FaultBook:
    """The faults in force, in the order they were asked for; the first that matches strikes."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._last_id = 0

    def add(self, fault: Fault) -> int:
        """Put it in force and return its id."""
        self._last_id += 1
        fault.id = self._last_id
        self._faults.append(fault)
        return fault.id

    def clear(self, fault_id: int | None = None) -> None:
        """Remove one fault, or all."""
        self._faults = [fault for fault in self._faults if fault_id is not None and fault.id != fault_id]

    def pending(self) -> list[Fault]:
        """Those that can still strike."""
        return list(self._faults)

    def take(
        self, stage: str, *, user: str = "", addresses: Iterable[str] = (), mid_content: bool = False
    ) -> Fault | None:
        """Return the fault that strikes here and now, and count it; None when all is well.

        The end of DATA asks twice: with `mid_content` before the final dot is read, for `before_dot` only,
        and without it after the dot, for all the others.
        """
        if not self._faults:
            return None
        known = {address.casefold() for address in addresses}
        for fault in self._faults:
            if fault.stage != stage or (fault.drop == "before_dot") != mid_content:
                continue
            if fault.user and fault.user.casefold() != user.casefold():
                continue
            if fault.address and fault.address.casefold() not in known:
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.strikes += 1
            if fault.times and fault.strikes >= fault.times:
                self._faults.remove(fault)
            return fault
        return None
