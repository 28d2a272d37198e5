"""host_file: a file or directory on a host without Python. Its documentation: plugins/modules/host_file.py."""

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
    "src": {"type": "str"},
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

# Whoever removes one of these meant something below it.
_TOO_MUCH = frozenset(
    (
        "/boot/config/plugins",
        "/boot/config/plugins/dockerMan",
        "/boot/config/plugins/dockerMan/templates-user",
        "/boot/config/shares",
        "/boot/config/ssh",
        "/mnt/cache/appdata",
        "/mnt/user/appdata",
        "/mnt/user/domains",
        "/mnt/user/isos",
        "/mnt/user/system",
        "/usr/local/bin",
        "/usr/local/emhttp",
        "/var/lib/docker",
    )
)
_LEAST_PARTS = 3


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
        arguments: dict[str, Any] = self.validate_argument_spec(
            ARGUMENTS, mutually_exclusive=[("content", "src")]
        )[1]
        state = arguments["state"]
        foreign = {"file": (), "directory": _ONLY_FILES, "absent": _ONLY_FILES + _ONLY_PRESENT}[state]
        for name in foreign:
            if arguments[name] is not None:
                raise AnsibleActionFail(f"{name} means nothing with state: {state}. Leave it out.")
        if state == "file" and arguments["content"] is None and arguments["src"] is None:
            raise AnsibleActionFail("state: file needs content, or src: a file on the controller.")
        if arguments["validate"] is not None and "%s" not in arguments["validate"]:
            raise AnsibleActionFail(
                f"validate is {arguments['validate']!r}. It needs a %s where the name of the new file goes."
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
            result["diff"] = self._diff_of_content(found, content, same) + self._diff_of_attributes(
                found, wanted
            )
            if not self._check:
                self._put(content, found.kept_attributes(wanted))
        return result

    def _put(self, content: bytes, wanted: Attributes) -> None:
        try:
            self._place.put(
                content,
                wanted,
                create_parents=bool(self._arguments["create_parents"]),
                validate=self._arguments["validate"],
            )
        except HostRefused as refusal:
            if self._sensitive and refusal.status == NOT_VALID:
                raise AnsibleActionFail(
                    f"{self._place.path} was not changed, because the new content is not valid. The content is "
                    f"sensitive, so what {self._arguments['validate']!r} said of it is not shown."
                ) from None
            raise

    def _directory(self) -> dict[str, Any]:
        wanted = attributes(self._arguments)
        found = self._look()
        self._refuse_others(found, "directory")
        creates = self._arguments["create_parents"] is not False
        changed = found.kind == "absent" or not found.has_attributes(wanted)
        result: dict[str, Any] = {"changed": changed}
        if changed:
            result["diff"] = self._diff_of_attributes(found, wanted, "directory")
            if not self._check:
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
        before, after = (
            {"path": self._place.path, "state": found.kind},
            {"path": self._place.path, "state": "absent"},
        )
        return {"changed": True, "diff": [{"before": before, "after": after}]}

    def _look(self, content_up_to: int = -1) -> Found:
        found = self._place.look(content_up_to=content_up_to, clean=not self._check)
        if found.parent == "other":
            raise AnsibleActionFail(
                f"{self._place.parent} is not a directory, so {self._place.path} cannot be in it."
            )
        return found

    def _content(self) -> bytes:
        content, src = self._arguments["content"], self._arguments["src"]
        if src is not None:
            return Path(self._loader.get_real_file(self._find_needle("files", src))).read_bytes()
        if isinstance(content, bool) or not isinstance(content, str | int | float):
            raise AnsibleActionFail(
                f"content is {'a truth value' if isinstance(content, bool) else 'structured'}, not text. "
                "Say how to write it down, for instance with the filter to_json or to_nice_yaml."
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
        least = _LEAST_PARTS + (parts[0] in ("mnt", "boot"))
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

    def _diff_of_content(self, found: Found, content: bytes, same: bool) -> list[dict[str, Any]]:
        if same:
            return []
        if self._sensitive:
            return [
                {
                    "prepared": f"{self._place.path}: the content differs, and is not shown, because it is sensitive\n"
                }
            ]
        if not self._shows_content():
            return []
        diff: dict[str, Any] = {"before_header": self._place.path, "after_header": self._place.path}
        before = b"" if found.kind == "absent" else found.content
        for name, side, octets in (("before", "dst", before), ("after", "src", content)):
            if octets is None or len(octets) > constants.MAX_FILE_SIZE_FOR_DIFF:
                diff[f"{side}_larger"] = constants.MAX_FILE_SIZE_FOR_DIFF
            elif (text := _as_text(octets)) is None:
                diff[f"{side}_binary"] = 1
            else:
                diff[name] = text
        return [diff]

    def _diff_of_attributes(
        self, found: Found, wanted: Attributes, kind: str = "file"
    ) -> list[dict[str, Any]]:
        before: dict[str, str] = {"path": self._place.path}
        after: dict[str, str] = {"path": self._place.path}
        if found.kind == "absent":
            before["state"], after["state"] = "absent", kind
        was = {"mode": found.mode, "owner": found.owner, "group": found.group}
        for name, value in vars(wanted).items():
            if value is None or found.has_attributes(Attributes(**{name: value})):
                continue
            if found.kind != "absent":
                now = was[name]
                before[name] = now.rjust(4, "0") if isinstance(now, str) else _same_form(now, value)
            after[name] = value.rjust(4, "0") if name == "mode" else value
        return [{"before": before, "after": after}] if before != after else []


def _same_form(now: tuple[str, str], wanted: str) -> str:
    number, name = now
    return number if wanted.isdigit() or name == "UNKNOWN" else name


def _as_text(octets: bytes) -> str | None:
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text
