"""generated_secrets: made once, kept encrypted. Documented in plugins/modules/generated_secrets.py."""

from __future__ import annotations

import base64
import contextlib
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# Ansible loads this file without a package around it; what it shares with other plugins lies beside it.
_SHARED = str(Path(__file__).resolve().parents[1] / "plugin_utils")
if _SHARED not in sys.path:
    sys.path.append(_SHARED)

from vaulted_file import VaultedFile  # noqa: E402

ARGUMENTS: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "secrets": {"type": "dict", "default": {}},
    "renew": {"type": "list", "elements": "str", "default": []},
    "values": {"type": "dict", "default": {}, "no_log": True},
    "forget": {"type": "list", "elements": "str", "default": []},
}

# As relay_app.settings.generate_password: 100 bits, which nobody confuses and every device can type.
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
_PASSWORD_LENGTH = 20

KINDS: dict[str, Callable[[], str]] = {
    "password": lambda: "".join(secrets.choice(_ALPHABET) for _ in range(_PASSWORD_LENGTH)),
    "token": lambda: secrets.token_urlsafe(32),
    "fernet_key": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
}


class ActionModule(ActionBase):  # type: ignore[misc]
    """Makes what is missing, and hands out all that is in the file."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = _checked(self.validate_argument_spec(ARGUMENTS)[1])
        file = VaultedFile(Path(arguments["path"]), self._loader._vault)
        with contextlib.nullcontext() if self._task.check_mode else file.locked():
            before = file.read()
            after = renewed(before, arguments)
            result["changed"] = after != before
            if result["changed"] and not self._task.check_mode:
                file.write(after)
        result["path"] = arguments["path"]
        result["made"] = sorted(after.keys() - before.keys())
        result["renewed"] = sorted(
            name for name in after.keys() & before.keys() if after[name] != before[name]
        )
        result["forgotten"] = sorted(before.keys() - after.keys())
        result["secrets"] = after
        result["_ansible_no_log"] = True  # hidden, whatever the task says; `register` has it all
        return result


def _checked(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments as plain texts, or say what is wrong with them."""
    if not Path(arguments["path"]).is_absolute():
        raise AnsibleActionFail(
            f"path is {arguments['path']!r}. It must be absolute: begin it with {{{{ inventory_dir }}}}/."
        )
    for name, kind in arguments["secrets"].items():
        if kind not in KINDS:
            raise AnsibleActionFail(f"{name} is to be a {kind!r}. There are: {', '.join(KINDS)}.")
    for name in arguments["renew"]:
        if name not in arguments["secrets"]:
            raise AnsibleActionFail(
                f"renew names {name}, but secrets does not say what kind of secret that is."
            )
    for name, value in arguments["values"].items():
        if not isinstance(value, str):
            raise AnsibleActionFail(f"The value of {name} is no text. Put it in quotes.")
    asked = [*arguments["renew"], *arguments["values"], *arguments["forget"]]
    twice = sorted({name for name in asked if asked.count(name) > 1})
    twice += sorted(set(arguments["secrets"]) & set(arguments["forget"]))
    if twice:
        raise AnsibleActionFail(f"{twice[0]} is named twice, to different ends. Name it once.")
    return arguments


def renewed(before: dict[str, str], arguments: dict[str, Any]) -> dict[str, str]:
    """Return what the file holds after this task."""
    after = {name: value for name, value in before.items() if name not in arguments["forget"]}
    # Ansible's texts carry tags, which YAML cannot write: `"".join` leaves them behind.
    after |= {"".join(name): "".join(value) for name, value in arguments["values"].items()}
    for name, kind in arguments["secrets"].items():
        if name not in after or name in arguments["renew"]:
            after["".join(name)] = KINDS[kind]()
    return after
