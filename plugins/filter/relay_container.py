"""What a container gets, worked out from what the user wrote."""

from __future__ import annotations

import html
import ipaddress
import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = """
name: relay_container
short_description: What the relay's container gets
description:
  - C(relay_plan) names the secrets that mailboxes and devices need, C(relay_clients) who logs in with them.
  - C(published_port) and C(within) judge ports and addresses.
  - C(container_arguments) and C(extra_params) turn Unraid's words for a container into those of the docker
    module and of the command line, so that the container and its template say the same.
  - C(toml_value) and C(unraid_xml) write a value into the relay's settings and into Unraid's template.
"""

# Option of `docker create` -> how it is written. What has a list is written once for each element.
_OPTIONS = (
    "user",
    "read_only",
    "cap_drop",
    "security_opts",
    "tmpfs",
    "pids_limit",
    "restart_policy",
    "stop_timeout",
)
_FLAGS = {"security_opts": "security-opt", "restart_policy": "restart"}
# Unraid adds a limit of its own unless it finds one written just so.
_APART = ("pids_limit",)


class FilterModule:
    """See DOCUMENTATION."""

    def filters(self) -> dict[str, Any]:
        return {
            "relay_plan": relay_plan,
            "relay_clients": relay_clients,
            "published_port": published_port,
            "within": within,
            "container_arguments": container_arguments,
            "extra_params": extra_params,
            "toml_value": toml_value,
            "unraid_xml": unraid_xml,
        }


def relay_plan(mailboxes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Complete `relay_mailboxes`: each mailbox has devices, each secret a file.

    Returns `mailboxes` as the template of the settings needs them; `generated`, the names of the passwords
    that are made; `given`, file -> secret that the user has written down; `passwords`, file -> name of a
    generated one.

    Raises:
        AnsibleFilterError: two names would need the same file, or a name or a secret is not a text.
    """
    plan: dict[str, Any] = {"mailboxes": [], "generated": {}, "given": {}, "passwords": {}}
    taken: dict[str, str] = {}
    for mailbox in mailboxes:
        address = _text(mailbox, "address", "a mailbox")
        planned = {key: value for key, value in mailbox.items() if key not in {"client_secret", "devices"}}
        if mailbox.get("client_secret"):
            file = planned["client_secret_file"] = _claim("client_secret", address, taken)
            plan["given"][file] = _text(mailbox, "client_secret", address)
        planned["devices"] = []
        for device in mailbox.get("devices") or [{"name": address}]:
            name = _text(device, "name", f"a device of {address}")
            file = _claim("password", name, taken)
            planned["devices"].append(
                {key: value for key, value in device.items() if key != "password"} | {"password_file": file}
            )
            if device.get("password"):
                plan["given"][file] = _text(device, "password", name)
            else:
                secret = f"relay_{file}"
                plan["generated"][secret] = "password"
                plan["passwords"][file] = secret
        plan["mailboxes"].append(planned)
    return plan


def relay_clients(mailboxes: Iterable[Mapping[str, Any]], secrets: Mapping[str, str]) -> list[dict[str, str]]:
    """The first device of each mailbox: `mailbox`, `flow`, and its `username` and `password`."""
    return [
        {
            "mailbox": mailbox["address"],
            "flow": mailbox.get("flow") or "authorization_code",
            "username": mailbox["devices"][0]["name"],
            "password": secrets[mailbox["devices"][0]["password_file"]],
        }
        for mailbox in mailboxes
    ]


def published_port(value: Any, variable: str) -> str:
    """Return `address:port` for a port of the host, as the user gave it in `variable`.

    A bare port is published on IPv4 alone. On IPv6 too, as Docker does it when no address is named, all
    clients would come from one address, that of Docker's proxy: a ban of one would be a ban of all.
    What is empty stays so.

    Raises:
        AnsibleFilterError: it is not a port, or what is before it is not an address.
    """
    if value == "":
        return ""
    address, colon, port = str(value).rpartition(":")
    try:
        if not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
            raise ValueError(f"{port!r} is not a number from 1 to 65535")
        if not colon:
            return f"0.0.0.0:{int(port)}"
        if address.startswith("[") and address.endswith("]"):
            return f"[{ipaddress.IPv6Address(address[1:-1])}]:{int(port)}"
        return f"{ipaddress.IPv4Address(address)}:{int(port)}"
    except ValueError as error:
        raise AnsibleFilterError(
            f"{variable}: {str(value)!r} cannot be published: {error}. Write a port, such as 587, or an "
            "address of the host and a port, such as 192.168.1.5:587 or [fd00::5]:587"
        ) from None


def within(address: str, subnets: Iterable[str]) -> bool:
    """Whether the IP address, as text, is a host's in one of the subnets.

    Raises:
        AnsibleFilterError: it is not an IP address.
    """
    try:
        wanted = ipaddress.ip_address(address)
    except ValueError as error:
        raise AnsibleFilterError(f"{error}. Write an address such as 192.168.1.50") from None
    networks = [ipaddress.ip_network(subnet) for subnet in subnets]
    return any(
        wanted in network and wanted not in {network.network_address, network.broadcast_address}
        for network in networks
    )


def container_arguments(config: Iterable[Mapping[str, Any]], own_address: bool = False) -> dict[str, Any]:
    """Turn a list of Unraid's `Config` elements into arguments of community.docker.docker_container.

    A container with an address of its own publishes no port; Unraid tells it the ports in variables instead.
    """
    arguments: dict[str, Any] = {"published_ports": [], "volumes": [], "env": {}, "labels": {}}
    for item in config:
        target, value = item["target"], str(item["value"])
        match item["type"]:
            case "Port" if own_address:
                arguments["env"][f"{item['mode']}_PORT_{target}".upper()] = value
            case "Port":
                arguments["published_ports"].append(f"{value}:{target}/{item['mode']}")
            case "Path":
                arguments["volumes"].append(f"{value}:{target}:{item['mode']}")
            case "Variable":
                arguments["env"][target] = value
            case "Label":
                arguments["labels"][target] = value
            case kind:
                raise AnsibleFilterError(
                    f"A Config element cannot be a {kind!r}: Port, Path, Variable or Label"
                )
    return arguments


def extra_params(options: Mapping[str, Any]) -> str:
    """Write options of docker_container as `docker create` takes them, for Unraid's `ExtraParams`.

    Raises:
        AnsibleFilterError: an option that this does not know how to write.
    """
    if unknown := options.keys() - set(_OPTIONS):
        raise AnsibleFilterError(f"No way to write {', '.join(sorted(unknown))} on a command line is known")
    words = []
    for name in _OPTIONS:
        value = options.get(name)
        flag = f"--{_FLAGS.get(name, name.replace('_', '-'))}"
        if value is True:
            words.append(flag)
        elif isinstance(value, list | tuple):
            words.extend(f"{flag}={element}" for element in value)
        elif value is not None and value is not False and value != "":
            words.append(f"{flag}{' ' if name in _APART else '='}{value}")
    return " ".join(words)


def toml_value(value: Any) -> str:
    """Write a text, a number, a truth, a date or a list of them as TOML does.

    Raises:
        AnsibleFilterError: TOML has no such value.
    """
    match value:
        case bool() | int():
            return json.dumps(value)
        case float() if math.isfinite(value):
            return json.dumps(value)
        case date():
            return f'"{value.isoformat()}"'
        case list() | tuple():
            return f"[{', '.join(map(toml_value, value))}]"
        case None | float() | Mapping():
            raise AnsibleFilterError(f"{value!r} cannot be a setting: a text, a number or a list of them can")
    # TOML's basic strings are JSON's, but for the one control character that JSON lets through.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def unraid_xml(value: Any) -> str:
    """Write a text into Unraid's template, in an element or in an attribute.

    Unraid encodes twice when it writes a template, and decodes twice when it reads one.

    Raises:
        AnsibleFilterError: Unraid would read something else.
    """
    text = str(value)
    if re.search(r"[\x00-\x1f\x7f]|\s\s|^\s|\s$", text) or re.search(r"<[^\s>]", html.unescape(text)):
        raise AnsibleFilterError(
            f"{text!r} cannot be in Unraid's template, which keeps no tags, no blanks at the ends, no two "
            "together and no control characters. Write it in another way"
        )
    return html.escape(html.escape(text, quote=False))


def _text(mapping: Mapping[str, Any], key: str, owner: str) -> str:
    value = mapping.get(key)
    if isinstance(value, bool | int | float | date):
        raise AnsibleFilterError(
            f"relay_mailboxes: the {key} of {owner} is not a text. YAML takes it for a number, a date or "
            "true or false: write it in quotes"
        )
    if not value:
        raise AnsibleFilterError(f"relay_mailboxes: {owner} has no {key}")
    return str(value)


def _claim(kind: str, name: str, taken: dict[str, str]) -> str:
    """A file name for the secret of this mailbox or device."""
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not stem:
        raise AnsibleFilterError(
            f"relay_mailboxes: the name {name!r} has no letter from a to z and no digit, but the file of its "
            "secret is named by them. Give it another name"
        )
    file = f"{kind}_{stem}"
    if taken.setdefault(file, name) != name:
        raise AnsibleFilterError(
            f"relay_mailboxes: {name!r} and {taken[file]!r} would share the file {file}. Give one of them "
            "another name, one that differs in letters from a to z or in digits"
        )
    return file
