"""What Outlook and Entra allow, all of it settable while running. 0 turns a limit off."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(slots=True)
class Limits:
    """The numbers are Microsoft's own (see `learn.microsoft.com/.../smtp-submission-improvements`)."""

    connections_per_mailbox: int = 3
    """Authenticated connections. One more is told so at the end of its DATA, not before."""
    messages_per_minute: int = 30
    recipients_per_message: int = 500
    recipients_per_day: int = 10_000
    message_octets: int = 157_286_400
    """Also advertised as SIZE."""
    idle_seconds: float = 600.0
    sender_check: bool = True
    """MAIL FROM and From: must be the mailbox's own."""
    auth_failure: str = "direct"
    """How a bad token is refused: `direct` (535 at once) or `challenge` (334 with JSON, then 535)."""

    expires_in: int = 3600
    """Seconds that an access token lives."""
    refresh_token_idle_seconds: int = 90 * 86_400
    """A refresh token that was not used for so long has died (AADSTS700082)."""
    refresh_tokens_once: bool = False
    """A refresh token dies when it is used (AADSTS70000). Entra's stay good: this is stricter than life."""
    code_seconds: int = 600
    device_code_seconds: int = 900
    device_code_interval: int = 5
    """Seconds between polls. MSAL never gives up at 0: take 1 in a hurry."""

    keep: str = "content"
    """What stays of a received message: `content`, `digest` (SHA-256 and size) or `size`."""
    keep_messages: int = 1000
    keep_octets: int = 256 * 1024 * 1024
    """Contents beyond this, oldest first, are reduced to their digest."""

    def update(self, changes: Mapping[str, Any]) -> None:
        """Change some limits.

        Raises:
            ValueError: an unknown name, or a value of the wrong kind. Nothing is changed then.
        """
        checked = {name: self._checked(name, value) for name, value in changes.items()}
        for name, value in checked.items():
            setattr(self, name, value)

    def _checked(self, name: str, value: Any) -> Any:
        defaults: dict[str, Any] = {field.name: field.default for field in fields(self)}
        if name not in defaults:
            raise ValueError(f"There is no limit called {name!r}. There are: {', '.join(sorted(defaults))}.")
        kind = type(defaults[name])
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise ValueError(f"{name} must be {kind.__name__}, not {value!r}.")
        if name in _CHOICES and value not in _CHOICES[name]:
            raise ValueError(f"{name} must be one of {', '.join(_CHOICES[name])}, not {value!r}.")
        if kind in (int, float) and value < 0:
            raise ValueError(f"{name} must not be negative: {value!r}.")
        return value

    def reset(self) -> None:
        for field in fields(self):
            setattr(self, field.name, field.default)


_CHOICES = {"auth_failure": ("direct", "challenge"), "keep": ("content", "digest", "size")}
