"""host_line: a line of a shared file on a host without Python. Its documentation: plugins/modules/host_line.py."""

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
        arguments = self._read_arguments()
        place = RemotePath(self, absolute_path(arguments["path"]))
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                result.update(self._once(place, arguments))
            except HostRefused as refusal:
                if refusal.status != OVERTAKEN or attempt == _ATTEMPTS:
                    raise
            else:
                break
        result["path"] = place.path
        return result

    def _read_arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = self.validate_argument_spec(
            ARGUMENTS, required_if=[("state", "present", ["line"])]
        )[1]
        try:
            arguments["match"] = re.compile(_octets(arguments["match"]))
        except re.error as error:
            raise AnsibleActionFail(
                f"match is {arguments['match']!r}, which is no regular expression: {error}."
            ) from None
        if arguments["line"] is not None:
            line = arguments["line"] = _octets(arguments["line"])
            if not line or b"\n" in line or b"\0" in line:
                raise AnsibleActionFail(
                    f"line is {_text(line)!r}. It must be one line, not empty, without its line end."
                )
            if arguments["match"].search(line) is None:
                raise AnsibleActionFail(
                    f"match ({_text(arguments['match'].pattern)!r}) does not find the line itself "
                    f"({_text(line)!r}), so each run would add one more. Let it find every form of our line."
                )
        return arguments

    def _once(self, place: RemotePath, arguments: dict[str, Any]) -> dict[str, Any]:
        check: bool = self._task.check_mode
        found = place.look(content_up_to=_LARGEST, clean=not check)
        before = self._content(place, found)
        present = arguments["state"] == "present"
        after = edited(before, arguments["match"], arguments["line"] if present else None)
        if after == before:
            return {"changed": False}
        if found.kind == "absent" and not arguments["create"]:
            raise AnsibleActionFail(f"{place.path} is not there, and create is false, so it is not made.")
        removes = not after and arguments["remove_empty"]
        if not check:
            if removes:
                place.remove(instead_of=found)
            else:
                place.put(after, found.kept_attributes(Attributes()), instead_of=found)
        diff = {
            "before": _text(before),
            "after": _text(after),
            "before_header": place.path,
            "after_header": place.path,
        }
        if removes:
            diff["after_header"] = f"{place.path} (removed, for nothing is left in it)"
        return {"changed": True, "diff": diff}

    def _content(self, place: RemotePath, found: Found) -> bytes:
        if found.kind == "absent":
            return b""
        if found.kind != "file":
            what = (
                f"a symbolic link to {found.target}"
                if found.kind == "link"
                else f"no file, but: {found.kind}"
            )
            raise AnsibleActionFail(
                f"{place.path} is {what}. It stays as it is. Give the path of the file itself."
            )
        if found.content is None:
            why = (
                f"it has {found.size} octets, more than {_LARGEST}"
                if found.size > _LARGEST
                else "it may not be read"
            )
            raise AnsibleActionFail(f"{place.path} is not edited: {why}.")
        if len(found.content) != found.size:
            raise AnsibleActionFail(
                f"{place.path} changed while it was read. Nothing was written; run it again."
            )
        return found.content


def edited(content: bytes, match: re.Pattern[bytes], line: bytes | None) -> bytes:
    """Return the content with our line at the place of the first that matches, or at the end; None removes it.

    All other lines stay as they are, octet by octet. What is appended to gets the line end that was missing.
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


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "backslashreplace")
