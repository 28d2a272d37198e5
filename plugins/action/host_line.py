"""host_line: a line of a shared file on a host without Python. Documented in plugins/modules/host_line.py."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# Ansible loads this file without a package around it; what it shares with other plugins lies beside it.
_SHARED = str(Path(__file__).resolve().parents[1] / "plugin_utils")
if _SHARED not in sys.path:
    sys.path.append(_SHARED)

from remote_path_arguments import absolute_path  # noqa: E402
from remote_paths import OVERTAKEN, Attributes, Found, HostRefused, RemotePath  # noqa: E402

ARGUMENTS: dict[str, Any] = {
    "path": {"type": "str", "required": True},
    "match": {"type": "str", "required": True},
    "line": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "remove_empty": {"type": "bool", "default": False},
    "create": {"type": "bool", "default": True},
}
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")
_LARGEST = 1_000_000
_ATTEMPTS = 5


class ActionModule(ActionBase):  # type: ignore[misc]
    """Reads the file, changes our line in it, and writes it back if nobody else wrote meanwhile."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        needs = [("state", "present", ["line"])]
        arguments = _checked(self.validate_argument_spec(ARGUMENTS, required_if=needs)[1])
        place = RemotePath(self, absolute_path(arguments["path"]))
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                result.update(self._once(place, arguments))
                break
            except HostRefused as refusal:
                if refusal.status != OVERTAKEN or attempt == _ATTEMPTS:
                    raise
        result["path"] = place.path
        return result

    def _once(self, place: RemotePath, arguments: dict[str, Any]) -> dict[str, Any]:
        found = place.look(content_up_to=_LARGEST, clean=not self._task.check_mode)
        before = _content(place, found)
        line = arguments["line"] if arguments["state"] == "present" else None
        after = edited(before, arguments["match"], line)
        if after == before:
            return {"changed": False}
        if found.kind == "absent" and not arguments["create"]:
            raise AnsibleActionFail(f"{place.path} is not there, and with create: false it is not made.")
        removes = not after and arguments["remove_empty"]
        if not self._task.check_mode:
            if removes:
                place.remove(instead_of=found)
            else:
                place.put(after, found.kept_attributes(Attributes()), instead_of=found)
        diff = {
            "before": _text(before),
            "after": _text(after),
            "before_header": place.path,
            "after_header": f"{place.path} (removed, for nothing is left in it)" if removes else place.path,
        }
        return {"changed": True, "diff": diff}


def edited(content: bytes, match: re.Pattern[bytes], line: bytes | None) -> bytes:
    """Return the content with our line where the first that matches is, or at the end; None removes it.

    Other lines stay as they are, octet by octet; but the last gets a line end if ours comes after it.
    """
    kept: list[bytes] = []
    placed = line is None
    for each in _LINE.findall(content):
        bare = each.rstrip(b"\r\n")
        if match.search(bare) is None:
            kept.append(each)
        elif not placed and line is not None:
            kept.append(line + each[len(bare) :])
            placed = True
    if not placed and line is not None:
        if kept and not kept[-1].endswith(b"\n"):
            kept[-1] += b"\n"
        kept.append(line + b"\n")
    return b"".join(kept)


def _checked(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments with `match` and `line` as octets, or say what is wrong with them."""
    match = arguments["match"]
    try:
        pattern = arguments["match"] = re.compile(_octets(match))
    except re.error as error:
        raise AnsibleActionFail(f"match is {match!r}, which is no regular expression: {error}.") from None
    if arguments["line"] is None:
        return arguments
    line = arguments["line"] = _octets(arguments["line"])
    if not line or b"\n" in line or b"\0" in line:
        raise AnsibleActionFail(f"line is {_text(line)!r}. It must be one line, without its line end.")
    if pattern.search(line) is None:
        raise AnsibleActionFail(
            f"match ({match!r}) does not find the line itself ({_text(line)!r}), so each run would add it "
            "again. Write a match that finds our line in every form."
        )
    return arguments


def _content(place: RemotePath, found: Found) -> bytes:
    if found.kind == "absent":
        return b""
    if found.kind != "file":
        what = f"a symbolic link to {found.target}" if found.kind == "link" else "not a file"
        raise AnsibleActionFail(f"{place.path} is {what}. It stays as it is. Give the path of a file.")
    if found.content is None:
        why = "is larger than 1 MB" if found.size > _LARGEST else "cannot be read"
        raise AnsibleActionFail(f"{place.path} {why}, and stays as it is. Is it the right file?")
    return found.content


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "backslashreplace")
