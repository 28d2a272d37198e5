"""host_file: a file or directory on a host without Python. Documented in plugins/modules/host_file.py."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# Ansible loads this file without a package around it; what it shares with other plugins lies beside it.
_SHARED = str(Path(__file__).resolve().parents[1] / "plugin_utils")
if _SHARED not in sys.path:
    sys.path.append(_SHARED)

from remote_path_arguments import absolute_path, attributes  # noqa: E402
from remote_paths import NOT_VALID, Attributes, Found, HostRefused, RemotePath  # noqa: E402

ARGUMENTS: dict[str, Any] = {
    "path": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["file", "directory", "absent"], "default": "file"},
    "content": {"type": "raw"},
    "src": {"type": "path"},
    "mode": {"type": "raw"},
    "owner": {"type": "raw"},
    "group": {"type": "raw"},
    "validate": {"type": "str"},
    "sensitive": {"type": "bool", "default": False},
    "create_parents": {"type": "bool"},
}
_SOURCES = ("content", "src")
_ONLY_FILES = (*_SOURCES, "validate")
_ONLY_PRESENT = ("mode", "owner", "group", "create_parents")
_MEANS_NOTHING = {"file": (), "directory": _ONLY_FILES, "absent": (*_ONLY_FILES, *_ONLY_PRESENT)}

# Whoever removes one of these meant something below it.
_TOO_MUCH = frozenset(
    (
        "/boot/config/plugins",
        "/boot/config/plugins/dockerMan",
        "/boot/config/plugins/dockerMan/templates-user",
        "/boot/config/shares",
        "/boot/config/ssh",
        "/var/lib/docker",
    )
)
_LEAST_PARTS = 3

Diff = list[dict[str, Any]]


class ActionModule(ActionBase):  # type: ignore[misc]
    """Compares what is there with what the task wants, and changes it in one step if they differ."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        self._arguments = self._read_arguments()
        self._check: bool = self._task.check_mode
        self._sensitive: bool = self._arguments["sensitive"] or bool(self._task.no_log)
        self._place = RemotePath(self, absolute_path(self._arguments["path"]))
        state = {"file": self._file, "directory": self._directory, "absent": self._absent}
        result.update(state[self._arguments["state"]]())
        result["path"] = self._place.path
        return result

    def _read_arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = self.validate_argument_spec(ARGUMENTS, mutually_exclusive=[_SOURCES])[1]
        state, validate = arguments["state"], arguments["validate"]
        for name in _MEANS_NOTHING[state]:
            if arguments[name] is not None:
                raise AnsibleActionFail(f"{name} means nothing with state: {state}. Leave it out.")
        if state == "file" and arguments["content"] is None and arguments["src"] is None:
            raise AnsibleActionFail("state: file needs content, or src: a file on the controller.")
        if validate is not None and "%s" not in validate:
            raise AnsibleActionFail(
                f"validate is {validate!r}. It needs a %s where the name of the new file goes."
            )
        return arguments

    def _file(self) -> dict[str, Any]:
        wanted, content = attributes(self._arguments), self._content()
        found = self._look(content_up_to=constants.MAX_FILE_SIZE_FOR_DIFF if self._shows_content() else -1)
        self._refuse_others(found, "file")
        same = found.kind == "file" and self._place.has(found, content)
        result: dict[str, Any] = {"changed": not same or not found.has_attributes(wanted)}
        if not self._sensitive:
            result["checksum"] = hashlib.sha256(content).hexdigest()
        if result["changed"]:
            result["diff"] = [] if same else self._diff_of_content(found, content)
            result["diff"] += self._diff_of_attributes(found, wanted)
            if not self._check:
                self._put(content, found.kept_attributes(wanted))
        return result

    def _put(self, content: bytes, wanted: Attributes) -> None:
        creates, validate = bool(self._arguments["create_parents"]), self._arguments["validate"]
        try:
            self._place.put(content, wanted, create_parents=creates, validate=validate)
        except HostRefused as refusal:
            if self._sensitive and refusal.status == NOT_VALID:
                raise AnsibleActionFail(
                    f"{self._place.path} was not changed, because the new content is not valid. "
                    f"It is sensitive, so what {validate!r} said of it is not shown."
                ) from None
            raise

    def _directory(self) -> dict[str, Any]:
        wanted = attributes(self._arguments)
        found = self._look()
        self._refuse_others(found, "directory")
        result: dict[str, Any] = {"changed": found.kind == "absent" or not found.has_attributes(wanted)}
        if result["changed"]:
            result["diff"] = self._diff_of_attributes(found, wanted)
            if not self._check:
                creates = self._arguments["create_parents"] is not False
                self._place.make_directory(wanted, create_parents=creates)
        return result

    def _absent(self) -> dict[str, Any]:
        found = self._look()
        if found.kind == "absent":
            return {"changed": False}
        self._refuse_link(found)
        if found.kind == "directory":
            self._refuse_too_much(found)
        if not self._check:
            self._place.remove()
        before, after = ({"path": self._place.path, "state": state} for state in (found.kind, "absent"))
        return {"changed": True, "diff": [{"before": before, "after": after}]}

    def _look(self, content_up_to: int = -1) -> Found:
        found = self._place.look(content_up_to=content_up_to, clean=not self._check)
        if found.parent == "other":
            raise AnsibleActionFail(
                f"{self._place.parent} is not a directory, so {self._place.path} cannot be in it. "
                "Move it away, or choose another path."
            )
        return found

    def _content(self) -> bytes:
        content, src = self._arguments["content"], self._arguments["src"]
        if src is not None:
            return Path(self._loader.get_real_file(self._find_needle("files", src))).read_bytes()
        if isinstance(content, bool) or not isinstance(content, str | int | float):
            kind = "a truth value" if isinstance(content, bool) else "structured"
            raise AnsibleActionFail(
                f"content is {kind}, not text. Say how to write it down, as with the filter to_json."
            )
        return str(content).encode("utf-8", "surrogateescape")

    def _refuse_others(self, found: Found, wanted: str) -> None:
        self._refuse_link(found)
        if found.kind not in ("absent", wanted):
            kind = "something else" if found.kind == "other" else f"a {found.kind}"
            raise AnsibleActionFail(
                f"{self._place.path} is {kind}, not a {wanted}. It stays as it is. "
                "Move it away, or choose another path."
            )

    def _refuse_link(self, found: Found) -> None:
        if found.kind == "link":
            raise AnsibleActionFail(
                f"{self._place.path} is a symbolic link to {found.target}. It stays as it is. "
                "Give the path that it leads to, or remove the link."
            )

    def _refuse_too_much(self, found: Found) -> None:
        path = self._place.path
        parts = path.strip("/").split("/")
        least = _LEAST_PARTS + (parts[0] in ("boot", "mnt"))
        if path in _TOO_MUCH or len(parts) < least:
            raise AnsibleActionFail(
                f"{path} is not removed, because too much may be in it that is not ours. "
                "Name a directory below it."
            )
        if found.mounts:
            raise AnsibleActionFail(
                f"{path} is not removed, because something is mounted at {found.mounts[0]}. Unmount it first."
            )

    def _shows_content(self) -> bool:
        return bool(self._task.diff) and not self._sensitive

    def _diff_of_content(self, found: Found, content: bytes) -> Diff:
        path = self._place.path
        if self._sensitive:
            return [{"prepared": f"{path}: other content, not shown, because it is sensitive\n"}]
        if not self._shows_content():
            return []
        diff: dict[str, Any] = {"before_header": path, "after_header": path}
        before = b"" if found.kind == "absent" else found.content
        for name, side, octets in (("before", "dst", before), ("after", "src", content)):
            if octets is None or len(octets) > constants.MAX_FILE_SIZE_FOR_DIFF:
                diff[f"{side}_larger"] = constants.MAX_FILE_SIZE_FOR_DIFF
            elif (text := _as_text(octets)) is None:
                diff[f"{side}_binary"] = 1
            else:
                diff[name] = text
        return [diff]

    def _diff_of_attributes(self, found: Found, wanted: Attributes) -> Diff:
        before, after = {"path": self._place.path}, {"path": self._place.path}
        if found.kind == "absent":
            before["state"], after["state"] = "absent", self._arguments["state"]
        for name, value in vars(wanted).items():
            if value is None or found.has_attributes(Attributes(**{name: value})):
                continue
            if found.kind != "absent":
                before[name] = _in_words(found, name, numeric=value.isdigit())
            after[name] = value.rjust(4, "0") if name == "mode" else value
        return [{"before": before, "after": after}] if before != after else []


def _in_words(found: Found, name: str, *, numeric: bool) -> str:
    """Return an attribute in the form that the task has it in."""
    if name == "mode":
        return found.mode.rjust(4, "0")
    number, text = found.owner if name == "owner" else found.group
    return number if numeric or text == "UNKNOWN" else text


def _as_text(octets: bytes) -> str | None:
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text
