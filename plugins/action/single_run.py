"""single_run: two runs at once are refused. Documented in plugins/modules/single_run.py."""

from __future__ import annotations

import datetime
import fcntl
import json
import multiprocessing
import os
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

ARGUMENTS: dict[str, Any] = {"path": {"type": "path", "required": True}}


@dataclass(frozen=True)
class Holder:
    """The process that a run is. Its number may pass to another process, its start does not."""

    pid: int
    start: str
    since: str
    """for people"""

    def is_running(self) -> bool:
        return start_of(self.pid) == self.start


class ActionModule(ActionBase):  # type: ignore[misc]
    """Takes the lock for the run that it is part of. Nobody gives it back: the end of that process does."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        path = Path(self.validate_argument_spec(ARGUMENTS)[1]["path"])
        if not path.is_absolute():
            raise AnsibleActionFail(f"path is {str(path)!r}. It must be absolute.")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        result["pid"] = take(path, main_process()).pid
        result["changed"] = False  # nothing that lasts
        return result


def main_process() -> Holder:
    """Return the process that ansible-playbook began as: tasks run in children that it forks."""
    parent = multiprocessing.parent_process()
    pid = os.getpid() if parent is None or parent.pid is None else parent.pid
    start = start_of(pid)
    if start is None:
        raise AnsibleActionFail(f"The process of this run ({pid}) has ended.")
    return Holder(pid, start, datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S"))


def take(path: Path, run: Holder) -> Holder:
    """Make `run` the holder, unless another one is alive."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # for this moment: who holds the run is written in the file
        holder = _read(file, path)
        if holder is not None and holder.is_running():
            if (holder.pid, holder.start) == (run.pid, run.start):
                return holder
            raise AnsibleActionFail(
                f"Another run is going on (pid {holder.pid}, since {holder.since}). "
                f"Wait for it, or end it: kill -INT {holder.pid}"
            )
        file.seek(0)
        file.truncate()
        json.dump(asdict(run), file)
        file.flush()
    return run


def _read(file: IO[str], path: Path) -> Holder | None:
    text = file.read()
    if not text.strip("\0"):  # new, or written in the moment the machine went down
        return None
    try:
        return Holder(**json.loads(text))
    except (ValueError, TypeError):
        raise AnsibleActionFail(
            f"{path} is no lock of ours, and stays as it is. If nobody needs it, remove it: rm {path}"
        ) from None


def start_of(pid: int) -> str | None:
    """Return when a process started, in a form that is only good for comparing; None if there is none."""
    if Path("/proc/self/stat").exists():
        return _start_from_proc(pid)
    return _start_from_ps(pid)


def _start_from_proc(pid: int) -> str | None:
    try:
        # proc(5): the name in parentheses may hold anything; state is field 3, starttime field 22.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None if fields[0] == "Z" else f"{fields[19]} {boot}"


def _start_from_ps(pid: int) -> str | None:
    environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC0"}
    command = ["ps", "-o", "lstart=", "-p", str(pid)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    return " ".join(done.stdout.split()) or None
