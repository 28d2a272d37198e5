"""The names that the console answers to: the defence against DNS rebinding.

A stranger's page can make its own name point at the console's address, and the browser then takes both for
one site. Such a name comes from public DNS. What cannot be had there is let in: IP addresses, names without a
dot, and the suffixes that home networks use. Other names must be the relay's own or that of `RELAY_WEB_URL`.
"""

import ipaddress
import re
from urllib.parse import urlsplit

# RFC 9110 7.2: uri-host [ ":" port ].
_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")
# RFC 6762 (mDNS), RFC 8375, ICANN's reservation of 2024, and what routers use though nobody reserved it.
_PRIVATE = (".local", ".home.arpa", ".internal", ".lan", ".home")


class Hosts:
    """Judges the `Host` field of requests."""

    def __init__(self, *, loopback_only: bool, hostname: str = "", url: str = "") -> None:
        """`loopback_only`: nothing but names of this machine itself."""
        self._loopback_only = loopback_only
        self._public = (urlsplit(url).hostname or "").rstrip(".") if url else ""
        self._own = {hostname.lower().rstrip("."), self._public} - {""}

    def allows(self, field: str) -> bool:
        """Whether a request for this host, with or without a port, is meant for us."""
        name = _name(field)
        if not name:
            return False
        if is_loopback(name) or name == "localhost" or name.endswith(".localhost"):  # RFC 6761 6.3
            return True
        if self._loopback_only:
            return False
        return _is_ip(name) or "." not in name or name.endswith(_PRIVATE) or name in self._own

    def is_public(self, field: str) -> bool:
        """Whether this is the host of `RELAY_WEB_URL`."""
        return bool(self._public) and _name(field) == self._public


def is_loopback(address: str) -> bool:
    """Whether this is an address of the machine itself: 127.0.0.0/8, ::1, also as ::ffff:127.0.0.1."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip.is_loopback


def _name(field: str) -> str:
    """The host of a `Host` field in lower case, or "" if it is not one."""
    match = _HOST.fullmatch(field)
    if match is None or int(match["port"] or 0) > 65535:
        return ""
    return str(match["ipv6"] or match["name"].rstrip(".")).lower()


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
