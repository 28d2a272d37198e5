"""Which `Host` fields are ours."""

import pytest

from relay_app.console.hosts import Hosts, is_loopback

OURS = Hosts(loopback_only=False, hostname="Relay.example.org", url="https://Console.example.org:8443/x")
LOOPBACK = Hosts(loopback_only=True, hostname="relay.example.org", url="https://console.example.org")


@pytest.mark.parametrize(
    "field",
    [
        "localhost",
        "localhost:8025",
        "LOCALHOST.",
        "a.localhost",
        "127.0.0.1",
        "127.9.9.9:1",
        "[::1]",
        "[::1]:8025",
    ],
)
def test_the_machine_itself_is_always_ours(field: str) -> None:
    assert OURS.allows(field)
    assert LOOPBACK.allows(field)


@pytest.mark.parametrize(
    "field",
    [
        "192.0.2.1:8025",
        "[2001:db8::1]:8025",
        "tower",
        "TOWER:8025",
        "tower.local",
        "tower.local.:8025",
        "nas.lan",
        "nas.home",
        "nas.home.arpa",
        "nas.internal",
        "relay.example.org",
        "RELAY.EXAMPLE.ORG.:8025",
        "console.example.org",
    ],
)
def test_names_that_a_stranger_cannot_have(field: str) -> None:
    assert OURS.allows(field)
    assert not LOOPBACK.allows(field)


@pytest.mark.parametrize(
    "field",
    [
        "",
        ":8025",
        "evil.example.com",
        "192.0.2.1.evil.example.com",
        "relay.example.org.evil.example.com",
        "evil.example.com:80@relay.example.org",
        "xrelay.example.org",
        "notlocal",
        "localhost:8025:1",
        "localhost:x",
        "localhost:65536",
        "localhost:",
        "localhost/",
        "[::1",
        "local host",
        "relay.example.org\r\nX: y",
        "lócalhost",
        ".",
    ],
)
def test_other_names_are_not(field: str) -> None:
    assert OURS.allows(field) is (field == "notlocal")  # a name without a dot
    assert not LOOPBACK.allows(field)


def test_without_settings_only_private_names() -> None:
    hosts = Hosts(loopback_only=False)
    assert hosts.allows("tower")
    assert not hosts.allows("relay.example.org")
    assert not hosts.is_public("tower")


def test_the_public_host() -> None:
    assert OURS.is_public("console.example.org:8443")
    assert OURS.is_public("CONSOLE.example.org")
    assert not OURS.is_public("relay.example.org")
    assert not OURS.is_public("")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_loopback(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize(
    "address", ["", "localhost", "0.0.0.0", "192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1"]
)
def test_not_loopback(address: str) -> None:
    assert not is_loopback(address)
