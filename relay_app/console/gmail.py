"""What to type into Gmail, a scanner or a program so that it sends through this relay. Values, no texts."""

import ipaddress
from dataclasses import dataclass
from enum import Enum

from relay_app.console.backend import DeviceView, RelayView

GMAIL_PORTS = (25, 465, 587)
"""Gmail's dialog offers no other."""


class Security(Enum):
    """How a connection is encrypted. There is none that is not."""

    STARTTLS = "starttls"
    TLS = "tls"
    """From the first octet on; many programs call it SSL."""


class Obstacle(Enum):
    """Why Gmail cannot use the relay as it is."""

    CERTIFICATE = "certificate"
    """Self-signed. Gmail has refused such since April 2020."""
    HOSTNAME = "hostname"
    """Not a name that Google's servers could look up."""
    PORT = "port"
    """None of the relay's ports is one that Gmail's dialog offers."""


@dataclass(frozen=True, slots=True)
class Account:
    """The values for one device. The password is not among them: it was shown once."""

    server: str
    port: int
    security: Security
    user: str
    address: str
    """The sender's address."""


def account(relay: RelayView, device: DeviceView) -> Account:
    """The values for `device`: STARTTLS, which most programs know, unless the relay has only the other."""
    starttls = bool(relay.submission_port) or not relay.tls_port
    return Account(
        server=relay.hostname,
        port=(relay.submission_port or 587) if starttls else relay.tls_port,
        security=Security.STARTTLS if starttls else Security.TLS,
        user=device.name,
        address=device.mailbox,
    )


def obstacles(relay: RelayView) -> tuple[Obstacle, ...]:
    """Why Gmail will not accept the relay; () if nothing is known to be in its way."""
    found = []
    if any(notice.key == "certificate-self-signed" for notice in relay.notices):
        found.append(Obstacle.CERTIFICATE)
    if not _public(relay.hostname):
        found.append(Obstacle.HOSTNAME)
    if not {relay.submission_port, relay.tls_port} & set(GMAIL_PORTS):
        found.append(Obstacle.PORT)
    return tuple(found)


def msmtp(values: Account) -> str:
    """A configuration for msmtp (~/.msmtprc), which keeps its password in a file of its own."""
    lines = [
        "defaults",
        "auth           on",
        "tls            on",
        f"tls_starttls   {'on' if values.security is Security.STARTTLS else 'off'}",
        "",
        "account        relay",
        f"host           {values.server}",
        f"port           {values.port}",
        f"from           {values.address}",
        f"user           {values.user}",
        'passwordeval   "cat ~/.msmtp-password"',
        "",
        "account default : relay",
    ]
    return "\n".join(lines) + "\n"


_NOT_PUBLIC = (".local", ".lan", ".internal", ".home", ".home.arpa", ".localdomain", ".localhost")


def _public(hostname: str) -> bool:
    """Whether this looks like a name in the public DNS; an address is no name."""
    try:
        ipaddress.ip_address(hostname)
    except ValueError:
        return "." in hostname and not hostname.lower().rstrip(".").endswith(_NOT_PUBLIC)
    return False
