"""Files and directories on a host that has a shell but no Python, through Ansible's connection alone.

Each method of `RemotePath` is one command on the host. What is written travels over standard input, so it is
never among a process's arguments, and escalation (become) holds for it. Ansible shows at -vvv what a command
answers: digests are salted, and the salt travels over standard input, too.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

_MARK = b"---host---\n"
"""where our answer begins, after what a login shell may say of its own"""
_OUR_LINES = re.compile(r"\S*sh: (?:line )?\d+: ")
"""where in our script a shell says that it met an error"""
_UNKNOWN_FAILURE = (
    "{path}: the shell on the host did not run our command to its end (status {status}): {detail}"
)

# What differs between systems is here: GNU and busybox on Linux, BSD's programs on macOS.
_PREAMBLE = """\
export LC_ALL=C
umask 077
case "$(uname -s)" in
Linux)
  facts() { stat -c '%a %u %g %U %G %s' "$1"; }
  sum_of() { sha256sum | cut -c 1-64; }
  replace() { mv -fT "$1" "$2"; } ;;
*)
  facts() { stat -f '%Mp%Lp %u %g %Su %Sg %z' "$1"; }
  sum_of() { shasum -a 256 | cut -c 1-64; }
  replace() { mv -f "$1" "$2"; } ;;
esac
kind_of() {
  if [ -L "$1" ]; then echo link
  elif [ -f "$1" ]; then echo file
  elif [ -d "$1" ]; then echo directory
  elif [ -e "$1" ]; then echo other
  else echo absent; fi
}
digest_of() { { printf %s "$salt"; cat "$1"; } | sum_of; }
# Whoever still sends us content must not find us gone: it would take that for a lost connection.
fail() { cat > /dev/null; exit "$1"; }
need_unchanged() {
  case $expected in "" | "$(kind_of "$path")" | "$(digest_of "$path")") ;; *) fail 26 ;; esac
}
need_parent() {
  [ ! -d "$parent" ] || return 0
  [ "$create_parents" = yes ] || fail 20
  (umask 022; mkdir -p "$parent") || fail 29
}
differs() {
  set -- $(facts "$1")
  [ -n "$owner" ] && [ "$owner" != "$2" ] && [ "$owner" != "$4" ] && return 0
  [ -n "$group" ] && [ "$group" != "$3" ] && [ "$group" != "$5" ] && return 0
  [ -n "$mode" ] && [ "$((0$mode))" -ne "$((0$1))" ] && return 0
  return 1
}
# Touches nothing that is right already: where owners and modes cannot be set (FAT), that would fail.
set_attributes() {
  differs "$1" || return 0
  [ -z "$owner$group" ] || chown -h "$owner${group:+:$group}" "$1" || return 1
  [ -z "$mode" ] || chmod "$mode" "$1" || return 1
  differs "$1" || return 0
  echo "chown and chmod were accepted, but what is there now is: $(facts "$1")" >&2
  return 1
}
IFS= read -r salt
"""

_LOOK = """\
kind=$(kind_of "$path")
printf '%s%s\\nkind %s\\n' --- host--- "$kind"
case $kind in
file|directory) printf 'facts %s\\n' "$(facts "$path")" ;;
link) printf 'target %s\\n' "$(readlink "$path" | head -n 1)" ;;
esac
if [ -d "$parent" ]; then echo 'parent directory'
elif [ -e "$parent" ] || [ -L "$parent" ]; then echo 'parent other'
else echo 'parent absent'; fi
if [ "$clean" = yes ]; then rm -f "$leftovers"*; fi
if [ -r /proc/mounts ]; then
  while read -r _ mounted _; do
    case $mounted in "$as_mounted"|"$as_mounted"/*) printf 'mounted %s\\n' "$mounted" ;; esac
  done < /proc/mounts
fi
if [ "$kind" = file ] && [ -r "$path" ]; then
  printf 'digest %s\\n' "$(digest_of "$path")"
  set -- $(facts "$path")
  if [ "$6" -le "$limit" ]; then echo content; cat "$path"; fi
fi
exit 0
"""

_PUT = """\
need_parent
temporary=$(mktemp "${leftovers}XXXXXX") || fail 21
trap 'rm -f "$temporary"' EXIT
trap 'exit 129' HUP INT TERM PIPE
cat > "$temporary" || fail 21
set -- $(facts "$temporary")
[ "$6" = "$size" ] || fail 22
set_attributes "$temporary" || fail 23
if [ -n "$validate" ]; then
  output=$( (eval "$validate") 2>&1 < /dev/null ) || { printf '%s\\n' "$output" >&2; fail 24; }
fi
sync "$temporary" || fail 21
need_unchanged
[ ! -d "$path" ] || [ -L "$path" ] || fail 26
replace "$temporary" "$path" || fail 27
sync "$parent" || fail 25
exit 0
"""

_MAKE_DIRECTORY = """\
need_parent
if [ -d "$path" ]; then made=no; else
  [ -n "$mode" ] || umask 022
  mkdir "$path" || fail 21
  made=yes
fi
set_attributes "$path" || { [ $made = no ] || rmdir "$path"; fail 23; }
sync "$parent" || fail 25
exit 0
"""

_REMOVE = """\
need_unchanged
rm -rf "$path" || fail 28
sync "$parent" || fail 25
exit 0
"""

_FAILURES = {
    20: "{parent} is not there, and so {path} cannot be made in it. If it lies on the array or on another "
    "disk: is that started and mounted? Otherwise make it first (host_file with state: directory)",
    21: "{path} cannot be written: {detail}. Is there room, and may Ansible's user write there?",
    22: "The content for {path} did not arrive in full. Nothing was changed; run it again",
    23: "Owner, group or mode of {path} cannot be set: {detail}. A FAT file system, such as Unraid's /boot, "
    "has none: leave owner, group and mode out there. Elsewhere, see that the owner exists on the host, and "
    "that Ansible logs in as root",
    24: "{path} was not changed, because the new content is not valid: {detail}",
    25: "{path} was changed, but the host cannot tell whether that is on the disk: {detail}. "
    "Is the disk in order?",
    26: "{path} was changed by somebody else in this very moment. Nothing was written; run it again",
    27: "{path} cannot be replaced: {detail}. Nothing was changed",
    28: "{path} cannot be removed: {detail}",
    29: "{parent} cannot be made: {detail}. Is there room, and may Ansible's user write there?",
}
NOT_VALID = 24
OVERTAKEN = 26


class HostRefused(AnsibleActionFail):  # type: ignore[misc]
    """A command on the host did not do its work. `status` says at which step (see `_FAILURES`)."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Attributes:
    """Owner and group (a name or a number) and mode (octal digits); None leaves one as it is."""

    mode: str | None = None
    owner: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Found:
    """What lies at a path."""

    kind: str
    """absent, file, directory, link or other"""
    parent: str
    """absent, directory or other"""
    mode: str = ""
    owner: tuple[str, str] = ("", "")
    """number and name"""
    group: tuple[str, str] = ("", "")
    size: int = 0
    target: str = ""
    """what a link points to"""
    digest: str = ""
    """salted, of a file that can be read"""
    content: bytes | None = None
    """None if it was not asked for, or is larger than was asked for"""
    mounts: tuple[str, ...] = ()
    """where something is mounted at or below the path"""

    def has_attributes(self, wanted: Attributes) -> bool:
        """Tell whether nothing of this has to be set."""
        return (
            (wanted.owner is None or wanted.owner in self.owner)
            and (wanted.group is None or wanted.group in self.group)
            and (wanted.mode is None or int(wanted.mode, 8) == int(self.mode, 8))
        )

    def kept_attributes(self, wanted: Attributes) -> Attributes:
        """Fill in what is there already: a file that is replaced keeps what nobody asked to change."""
        if self.kind not in ("file", "directory"):
            return wanted
        return Attributes(
            wanted.mode or self.mode, wanted.owner or self.owner[0], wanted.group or self.group[0]
        )


class RemotePath:
    """One absolute path on the host that an action works on."""

    def __init__(self, action: ActionBase, path: str) -> None:
        self.path = path
        self.parent = posixpath.dirname(path)
        self._action = action
        self._salt = secrets.token_hex(16)
        name = hashlib.sha256(posixpath.basename(path).encode()).hexdigest()[:12]
        self._leftovers = f"{self.parent.rstrip('/')}/.host_file-{name}-"
        become = action._connection.become
        if become is not None and not become.pipelining:
            raise AnsibleActionFail(
                f"become_method {become.name!r} cannot pass content on to {path}. "
                "Use become_method: sudo, or log in as the user that may write there."
            )

    def look(self, *, content_up_to: int = -1, clean: bool = False) -> Found:
        """Tell what is there. `clean` removes what an interrupted `put` has left behind."""
        out = self._run(
            _LOOK,
            limit=str(content_up_to),
            clean="yes" if clean else "no",
            leftovers=self._leftovers,
            as_mounted=_as_in_proc_mounts(self.path),
        )
        said, answer = out.partition(_MARK)[1:]
        if not said:
            raise HostRefused(
                f"The host has not told what {self.path} is. It said: {_text(out)[:200].strip()!r}. "
                "Does Ansible's user get a shell there?"
            )
        return _found(answer)

    def has(self, found: Found, content: bytes) -> bool:
        """Tell whether the file that was found holds exactly this."""
        return found.digest == hashlib.sha256(self._salt.encode() + content).hexdigest()

    def put(
        self,
        content: bytes,
        attributes: Attributes,
        *,
        create_parents: bool = False,
        validate: str | None = None,
        instead_of: Found | None = None,
    ) -> None:
        """Put a file there in one step, whole and on the disk, or leave everything as it was.

        validate: a command with %s, run on the new file before it takes its place.
        instead_of: fail if the file is no longer the one that was found.
        """
        self._run(
            _PUT,
            content,
            attributes,
            create_parents=create_parents,
            leftovers=self._leftovers,
            size=str(len(content)),
            validate="" if validate is None else validate.replace("%s", '"$temporary"'),
            expected=_expected(instead_of),
        )

    def make_directory(self, attributes: Attributes, *, create_parents: bool) -> None:
        """Make a directory, or set the attributes of the one that is there."""
        self._run(_MAKE_DIRECTORY, b"", attributes, create_parents=create_parents)

    def remove(self, *, instead_of: Found | None = None) -> None:
        """Remove what is there, a directory with all that is in it; `instead_of` as for `put`."""
        self._run(_REMOVE, expected=_expected(instead_of))

    def _run(
        self,
        script: str,
        content: bytes = b"",
        attributes: Attributes | None = None,
        *,
        create_parents: bool = False,
        **variables: str,
    ) -> bytes:
        wanted = attributes or Attributes()
        variables |= {
            "path": self.path,
            "parent": self.parent,
            # Five digits, for with fewer GNU's chmod leaves a directory's set-id bits alone.
            "mode": "" if wanted.mode is None else wanted.mode.rjust(5, "0"),
            "owner": wanted.owner or "",
            "group": wanted.group or "",
            "create_parents": "yes" if create_parents else "no",
        }
        done = self._action._low_level_execute_command(
            _assignments(variables) + _PREAMBLE + script,
            in_data=f"{self._salt}\n".encode() + content,
            encoding_errors="surrogateescape",
        )
        if done["rc"] != 0:
            raise self._refusal(done)
        return _octets(done["stdout"])

    def _refusal(self, done: Mapping[str, Any]) -> HostRefused:
        status = done["rc"]
        detail = " ".join((done["stderr"] or done["stdout"]).split()) or "it said nothing"
        detail = re.sub(re.escape(self._leftovers) + "[0-9A-Za-z]{6}", self.path, detail)
        detail = _OUR_LINES.sub("", detail).rstrip(".")
        text = _FAILURES.get(status, _UNKNOWN_FAILURE)
        message = text.format(path=self.path, parent=self.parent, detail=detail, status=status)
        return HostRefused(message if message.endswith("?") else f"{message}.", status)


def _expected(found: Found | None) -> str:
    return "" if found is None else found.digest or found.kind


def _assignments(variables: Mapping[str, str]) -> str:
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())


def _as_in_proc_mounts(path: str) -> str:
    return "".join(f"\\{ord(each):03o}" if each in " \t\n\\" else each for each in path)


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")


def _found(answer: bytes) -> Found:
    head, has_content, content = answer.partition(b"\ncontent\n")
    lines = [line.partition(" ")[::2] for line in _text(head).splitlines()]
    said = dict(lines)
    mode, uid, gid, user, group, size = said.get("facts", "0 - - - - 0").split(" ")
    return Found(
        kind=said["kind"],
        parent=said["parent"],
        mode=mode,
        owner=(uid, user),
        group=(gid, group),
        size=int(size),
        target=said.get("target", ""),
        digest=said.get("digest", ""),
        content=content if has_content else None,
        mounts=tuple(where for name, where in lines if name == "mounted"),
    )
