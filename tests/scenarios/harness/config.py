"""A relay whose mailbox and devices are in the TOML file that RELAY_CONFIG names."""

import json
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.clients import Account
from harness.relay import Relay

# What the file says instead of these variables.
_IN_THE_FILE = ("CLIENT_ID", "CLIENT_SECRET", "TENANT_ID", "RELAY_FLOW", "USER_EMAIL", "RELAY_PASSWORD")


@dataclass(frozen=True)
class Device:
    """A `[[mailbox.device]]`."""

    name: str
    password: str
    senders: tuple[str, ...] = ()
    foreign_from: str = "refuse"


@dataclass
class Config:
    """The file: the mailbox that the variables in `settings` describe, its devices, the limits."""

    file: Path
    settings: Mapping[str, str]
    devices: tuple[Device, ...]
    limits: Mapping[str, float] = field(default_factory=dict)

    def write(self) -> None:
        """Write it down, for the relay to read at its start or at the next reload."""
        lines = ["[limits]", *_pairs(self.limits), "[[mailbox]]"]
        mailbox = {
            "address": self.settings["USER_EMAIL"],
            "flow": self.settings["RELAY_FLOW"],
            "tenant": self.settings["TENANT_ID"],
            "client_id": self.settings["CLIENT_ID"],
            "client_secret": self.settings["CLIENT_SECRET"],
        }
        lines += _pairs(mailbox)
        for device in self.devices:
            lines += ["[[mailbox.device]]", *_pairs(vars(device))]
        self.file.write_text("\n".join(lines) + "\n")


class ConfiguredRelay:
    """A relay that was started with a `Config`."""

    def __init__(self, config: Config, start: Callable[..., Relay]) -> None:
        self.config = config
        config.write()
        self.relay = start(**dict.fromkeys(_IN_THE_FILE, ""), RELAY_CONFIG=str(config.file))
        self._reloads = 0

    @property
    def mailbox(self) -> str:
        """The address that mail leaves through."""
        return self.config.settings["USER_EMAIL"]

    def account(self, device: Device) -> Account:
        """The device, as a client logs in with it."""
        return replace(self.relay.account, user=device.name, password=device.password)

    def reload(self) -> None:
        """Write the file anew and let the relay read it."""
        self.config.write()
        self.relay.signal(signal.SIGHUP)
        self._reloads += 1
        self.relay.wait_for_event("reloaded", self._reloads)


def _pairs(table: Mapping[str, object]) -> list[str]:
    # JSON's strings, numbers and lists are TOML's, too.
    return [f"{name} = {json.dumps(value)}" for name, value in table.items()]
