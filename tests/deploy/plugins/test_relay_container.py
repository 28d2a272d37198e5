"""What a container gets: secrets and their files, arguments, the options of a command line, TOML and XML."""

from __future__ import annotations

import datetime
import math
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Callable
from types import ModuleType
from typing import Any
from xml.sax.saxutils import unescape

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

Load = Callable[[str], ModuleType]


@pytest.fixture(scope="session")
def container(plugin: Load) -> ModuleType:
    return plugin("filter/relay_container")


def mailbox(address: str = "me@outlook.com", **more: Any) -> dict[str, Any]:
    return {"address": address, "client_id": "an-id", **more}


def test_every_function_is_a_filter(container: ModuleType) -> None:
    filters = container.FilterModule().filters()
    assert all(filters[name] is getattr(container, name) for name in filters)
    assert sorted(filters) == [
        *("container_arguments", "extra_params", "published_port", "relay_clients", "relay_plan"),
        *("toml_value", "unraid_xml", "within"),
    ]


def test_a_mailbox_without_devices_gets_one_with_its_own_name(container: ModuleType) -> None:
    assert container.relay_plan([mailbox()]) == {
        "mailboxes": [
            {
                "address": "me@outlook.com",
                "client_id": "an-id",
                "devices": [{"name": "me@outlook.com", "password_file": "password_me-outlook-com"}],
            }
        ],
        "generated": {"relay_password_me-outlook-com": "password"},
        "given": {},
        "passwords": {"password_me-outlook-com": "relay_password_me-outlook-com"},
    }


def test_secrets_are_files_and_never_in_the_settings(container: ModuleType) -> None:
    devices = [{"name": "Scanner 1", "password": "hush-1", "hourly_messages": 60}, {"name": "Gmail"}]
    plan = container.relay_plan([mailbox(client_secret="hush-2", devices=devices)])
    assert plan["given"] == {
        "client_secret_me-outlook-com": "hush-2",
        "password_scanner-1": "hush-1",
    }
    assert plan["passwords"] == {"password_gmail": "relay_password_gmail"}
    assert plan["generated"] == {"relay_password_gmail": "password"}
    [planned] = plan["mailboxes"]
    assert "hush" not in str(planned)
    assert planned["client_secret_file"] == "client_secret_me-outlook-com"
    assert planned["devices"] == [
        {"name": "Scanner 1", "hourly_messages": 60, "password_file": "password_scanner-1"},
        {"name": "Gmail", "password_file": "password_gmail"},
    ]


def test_what_the_user_wrote_is_left_alone(container: ModuleType) -> None:
    mine = [mailbox(client_secret="hush", devices=[{"name": "a", "password": "hush"}])]
    container.relay_plan(mine)
    assert mine == [mailbox(client_secret="hush", devices=[{"name": "a", "password": "hush"}])]


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (["Scanner 1", "scanner.1"], "'scanner.1' and 'Scanner 1' would share the file password_scanner-1"),
        (["Drucker Süd", "Drucker SÖD"], "would share the file password_drucker-s-d"),
        (["打印机"], "'打印机' has no letter from a to z and no digit"),
        ([1234], "the name of a device of me@outlook.com is not a text"),
        ([datetime.date(2026, 1, 1)], "is not a text"),
        ([""], "a device of me@outlook.com has no name"),
    ],
)
def test_names_that_give_no_file_are_refused(container: ModuleType, devices: list[Any], message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=r"^relay_mailboxes: ") as raised:
        container.relay_plan([mailbox(devices=[{"name": name} for name in devices])])
    assert message in str(raised.value)


@pytest.mark.parametrize("secret", [12345678, 0o1234, True, 1.5, datetime.date(2026, 1, 1)])
def test_a_secret_that_yaml_took_for_something_else_is_refused_and_not_told(
    container: ModuleType, secret: Any
) -> None:
    for key, mine in (
        ("client_secret", mailbox(client_secret=secret)),
        ("password", mailbox(devices=[{"name": "a", "password": secret}])),
    ):
        with pytest.raises(AnsibleFilterError, match=f"the {key} of .* write it in quotes") as raised:
            container.relay_plan([mine])
        assert str(secret) not in str(raised.value)


def test_a_mailbox_needs_an_address(container: ModuleType) -> None:
    with pytest.raises(AnsibleFilterError, match="a mailbox has no address"):
        container.relay_plan([{"client_id": "an-id"}])


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=4))
def test_files_are_harmless_and_no_two_names_share_one(plugin: Load, names: list[str]) -> None:
    container = plugin("filter/relay_container")
    try:
        plan = container.relay_plan([mailbox(devices=[{"name": name} for name in names])])
    except AnsibleFilterError:
        return
    assert len(plan["passwords"]) == len(set(names))
    for file in plan["passwords"]:
        assert file.removeprefix("password_").replace("-", "").isalnum()
        assert file.isascii()


def test_clients_are_the_first_device_of_each_mailbox(container: ModuleType) -> None:
    mailboxes = [
        mailbox(devices=[{"name": "gmail"}, {"name": "scanner", "password": "hush"}]),
        mailbox("office@example.org", flow="client_credentials"),
    ]
    plan = container.relay_plan(mailboxes)
    secrets = {"password_gmail": "one", "password_scanner": "two", "password_office-example-org": "three"}
    assert container.relay_clients(plan["mailboxes"], secrets) == [
        {
            "mailbox": "me@outlook.com",
            "flow": "authorization_code",
            "username": "gmail",
            "password": "one",
        },
        {
            "mailbox": "office@example.org",
            "flow": "client_credentials",
            "username": "office@example.org",
            "password": "three",
        },
    ]


def test_each_kind_of_element_becomes_its_argument(container: ModuleType) -> None:
    config = [
        {"type": "Port", "target": "587", "value": 1587, "mode": "tcp"},
        {"type": "Port", "target": "8025", "value": "127.0.0.1:8025", "mode": "tcp"},
        {"type": "Path", "target": "/data", "value": "/mnt/user/appdata/r/data", "mode": "rw"},
        {"type": "Variable", "target": "RELAY_HOSTNAME", "value": "smtp.example.org", "mode": ""},
        {"type": "Label", "target": "smtp-relay.managed", "value": "ansible", "mode": ""},
    ]
    assert container.container_arguments(config) == {
        "published_ports": ["1587:587/tcp", "127.0.0.1:8025:8025/tcp"],
        "volumes": ["/mnt/user/appdata/r/data:/data:rw"],
        "env": {"RELAY_HOSTNAME": "smtp.example.org"},
        "labels": {"smtp-relay.managed": "ansible"},
    }


def test_another_kind_is_refused(container: ModuleType) -> None:
    with pytest.raises(AnsibleFilterError, match="cannot be a 'Device'"):
        container.container_arguments([{"type": "Device", "target": "x", "value": "y", "mode": ""}])


@pytest.mark.parametrize(
    ("given", "published"),
    [
        ("587", "0.0.0.0:587"),
        (587, "0.0.0.0:587"),
        ("", ""),
        ("192.168.1.5:1587", "192.168.1.5:1587"),
        ("[FD00:0::5]:587", "[fd00::5]:587"),
        ("[::]:587", "[::]:587"),
    ],
)
def test_a_port_is_published_on_ipv4_unless_an_address_is_named(
    container: ModuleType, given: object, published: str
) -> None:
    assert container.published_port(given, "relay_port") == published


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("70000", "'70000' is not a number from 1 to 65535"),
        ("0", "'0' is not a number from 1 to 65535"),
        ("587-588", "'587-588' is not a number"),
        ("smtp", "'smtp' is not a number"),
        ("127.0.0.1:", "'' is not a number"),
        ("127.0.0.256:587", "'127.0.0.256'"),
        ("tower:587", "'tower'"),
        (":587", "Address cannot be empty"),
        ("fd00::5:587", "'fd00::5'"),
        ("[192.168.1.5]:587", "'192.168.1.5'"),
    ],
)
def test_what_is_no_port_is_refused_with_the_name_of_its_variable(
    container: ModuleType, given: str, why: str
) -> None:
    with pytest.raises(AnsibleFilterError, match=r"Write a port, such as 587") as refused:
        container.published_port(given, "relay_tls_port")
    assert str(refused.value).startswith(f"relay_tls_port: {given!r} cannot be published: ")
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("192.168.1.50", True),
        ("10.1.2.3", True),
        ("192.168.2.50", False),
        ("192.168.1.0", False),
        ("192.168.1.255", False),
    ],
)
def test_an_address_is_a_hosts_in_one_of_the_subnets(
    container: ModuleType, address: str, inside: bool
) -> None:
    assert container.within(address, ["192.168.1.0/24", "10.0.0.0/8", "fd00::/64"]) is inside


def test_what_is_no_address_is_refused(container: ModuleType) -> None:
    with pytest.raises(
        AnsibleFilterError, match=r"'192\.168\.1' does not appear to be .*Write an address such as"
    ):
        container.within("192.168.1", [])


def test_with_an_address_of_its_own_ports_are_variables(container: ModuleType) -> None:
    config = [{"type": "Port", "target": "587", "value": "587", "mode": "tcp"}]
    arguments = container.container_arguments(config, own_address=True)
    assert (arguments["published_ports"], arguments["env"]) == ([], {"TCP_PORT_587": "587"})


def test_options_are_written_as_docker_create_takes_them(container: ModuleType) -> None:
    options = {
        "restart_policy": "unless-stopped",
        "user": "99:100",
        "init": True,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opts": ["no-new-privileges", "seccomp=x.json"],
        "tmpfs": ["/tmp:size=1m"],
        "pids_limit": 256,
        "stop_timeout": 75,
    }
    assert container.extra_params(options) == (
        "--user=99:100 --init --read-only --cap-drop=ALL --security-opt=no-new-privileges "
        "--security-opt=seccomp=x.json --tmpfs=/tmp:size=1m --pids-limit 256 --restart=unless-stopped "
        "--stop-timeout=75"
    )


@pytest.mark.parametrize("nothing", [None, False, "", []])
def test_an_option_without_a_value_is_not_written(container: ModuleType, nothing: Any) -> None:
    assert container.extra_params({"read_only": nothing}) == ""


def test_nought_is_a_value(container: ModuleType) -> None:
    assert container.extra_params({"pids_limit": 0}) == "--pids-limit 0"


def test_an_option_that_cannot_be_written_is_refused(container: ModuleType) -> None:
    with pytest.raises(AnsibleFilterError, match="No way to write cpus, memory on a command line"):
        container.extra_params({"memory": "1g", "cpus": 2, "user": "1:1"})


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))  # no half of a pair, which UTF-8 cannot have


@given(
    st.recursive(st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXTS, lambda x: st.lists(x, max_size=3))
)
def test_toml_has_what_was_meant(plugin: Load, value: Any) -> None:
    written = plugin("filter/relay_container").toml_value(value)
    assert tomllib.loads(f"key = {written}") == {"key": value}
    assert "\n" not in written


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_toml_has_every_number(plugin: Load, value: float) -> None:
    assert tomllib.loads(f"x = {plugin('filter/relay_container').toml_value(value)}") == {"x": value}


def test_a_date_becomes_a_text(container: ModuleType) -> None:
    assert container.toml_value(datetime.date(2027, 5, 31)) == '"2027-05-31"'


@pytest.mark.parametrize("value", [None, {}, {"a": 1}, math.inf, math.nan, [None]])
def test_what_toml_cannot_say_is_refused(container: ModuleType, value: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="cannot be a setting"):
        container.toml_value(value)


@given(TEXTS)
def test_unraid_reads_what_was_written(plugin: Load, text: str) -> None:
    try:
        written = plugin("filter/relay_container").unraid_xml(text)
    except AnsibleFilterError:
        return
    element = ET.fromstring(f'<a b="{written}">{written}</a>')
    assert element.text or not text
    for read in (element.text or "", element.attrib["b"]):
        assert unescape(read) == text


# Of each that begins with < or &, Unraid 6.12 to 7.4 reads something else somewhere, or the form changes it.
@pytest.mark.parametrize(
    "text",
    [
        *("<b>bold</b>", "a <b", "a < b", "a <", "<", "a <\u00a0b", "a <\u3000b", "<!-- a", "<?php", "1<2"),
        *("&lt;b", "&lt;", "&#60;b", "&#x3c;", "&amp;", "&amp;lt;", "&quot;", "&apos;", "&#39;", "&eacute;"),
        *("&gt;", "&nbsp;", "a &copy b", "two  blanks", " a", "a ", "a\nb", "a\tb", "\x00"),
    ],
)
def test_what_unraid_would_change_is_refused(container: ModuleType, text: str) -> None:
    with pytest.raises(AnsibleFilterError, match="cannot be in Unraid's template"):
        container.unraid_xml(text)


@pytest.mark.parametrize(
    "text", ["a > c", "R&D", "?a=1&b=2", 'it\'s "quoted"', "ü 😀", "[PORT:8025]", "\\", ""]
)
def test_what_unraid_keeps_is_taken(container: ModuleType, text: str) -> None:
    assert container.unraid_xml(text) or not text
