"""What tasks may say of a file on the host: paths, modes, owners. Each refusal says what to write instead."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from remote_paths import Attributes

_MODE = re.compile(r"[0-7]{3,4}")
_OWNER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?")


def absolute_path(path: str) -> str:
    """Return a path that means one thing on every host."""
    if not path.startswith("/"):
        raise AnsibleActionFail(f"path is {path!r}. It must be absolute: start it with /.")
    if not path.isprintable():
        raise AnsibleActionFail(f"path is {path!r}. It must not hold line ends or other control characters.")
    if {".", ".."} & set(path.split("/")):
        raise AnsibleActionFail(f"path is {path!r}. Write it without . and .. parts.")
    return "/" + posixpath.normpath(path).lstrip("/")


def attributes(arguments: Mapping[str, Any]) -> Attributes:
    """Read `mode`, `owner` and `group`."""
    return Attributes(
        _mode(arguments["mode"]), *(_owner(name, arguments[name]) for name in ("owner", "group"))
    )


def _mode(mode: Any) -> str | None:
    if mode is None:
        return None
    # YAML reads an unquoted 0400 as the number 256.
    if not isinstance(mode, str) or not _MODE.fullmatch(mode):
        raise AnsibleActionFail(f'mode is {mode!r}. Write octal digits as a string: mode: "0400".')
    return str(mode)


def _owner(name: str, owner: Any) -> str | None:
    if owner is None:
        return None
    if isinstance(owner, bool) or not _OWNER.fullmatch(str(owner)):
        raise AnsibleActionFail(f'{name} is {owner!r}. Write a number or a name: {name}: "99".')
    return str(owner)
