"""What a container gets, worked out from what the user wrote."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = """
name: relay_container
short_description: What the relay's container gets
description:
  - C(relay_plan) names the secrets that mailboxes and devices need, C(relay_clients) who logs in with them.
  - C(container_arguments) and C(extra_params) turn Unraid's words for a container into the docker module's and
    the command line's, so that the container and its template say the same.
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


class FilterModule:
    """See DOCUMENTATION."""

    def filters(self) -> dict[str, Any]:
        return {
            "relay_plan": relay_plan,
            "relay_clients": relay_clients,
            "container_arguments": container_arguments,
            "extra_params": extra_params,
        }


def relay_plan(mailboxes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Complete `relay_mailboxes`: each mailbox has devices, each secret a file.

    Returns `mailboxes` as the template of the settings needs them; `generated`, the names of the passwords that
    are made; `given`, file -> secret that the user has written down; `passwords`, file -> name of a generated one.

    Raises:
        AnsibleFilterError: two names would need the same file.
    """
    plan: dict[str, Any] = {"mailboxes": [], "generated": {}, "given": {}, "passwords": {}}
    taken: dict[str, str] = {}
    for mailbox in mailboxes:
        planned = {key: value for key, value in mailbox.items() if key not in {"client_secret", "devices"}}
        if mailbox.get("client_secret"):
            planned["client_secret_file"] = _claim("client_secret", mailbox["address"], taken)
            plan["given"][planned["client_secret_file"]] = mailbox["client_secret"]
        planned["devices"] = []
        for device in mailbox.get("devices") or [{"name": mailbox["address"]}]:
            file = _claim("password", device["name"], taken)
            planned["devices"].append(
                {key: value for key, value in device.items() if key != "password"} | {"password_file": file}
            )
            if device.get("password"):
                plan["given"][file] = device["password"]
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


def container_arguments(config: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Turn a list of Unraid's `Config` elements into arguments of community.docker.docker_container."""
    arguments: dict[str, Any] = {"published_ports": [], "volumes": [], "env": {}, "labels": {}}
    for item in config:
        target, value = item["target"], str(item["value"])
        match item["type"]:
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
        elif value not in (None, False, ""):
            words.append(f"{flag}={value}")
    return " ".join(words)


def _claim(kind: str, name: str, taken: dict[str, str]) -> str:
    """A file name for the secret of this mailbox or device."""
    file = f"{kind}_{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}"
    if taken.setdefault(file, name) != name or not re.search(r"[a-z0-9]$", file.removeprefix(f"{kind}_")):
        raise AnsibleFilterError(
            f"relay_mailboxes: {name!r} and {taken[file]!r} would share the file {file}. Give one of them another "
            "name, one that differs in letters or digits"
        )
    return file
