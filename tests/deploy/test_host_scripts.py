"""What roles/relay runs on the host in its shell: with GNU's tools, and with busybox's, too."""

from __future__ import annotations

import datetime
import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "roles/relay/files"
TOOLS = (
    "awk",
    "cat",
    "cp",
    "date",
    "df",
    "dirname",
    "find",
    "grep",
    "head",
    "hostname",
    "ls",
    "mkdir",
    "mktemp",
)
TOOLS += ("mv", "rm", "sed", "sh", "sleep", "sort", "tail", "touch", "tr", "uname")

# Of the engine, only what the scripts ask it. It notes what it was told.
DOCKER = """#!/bin/sh
echo "$*" >>"$ENGINE/calls"
case "$*" in
    inspect*StartedAt*) [ -e "$ENGINE/started" ] && cat "$ENGINE/started" ;;
    inspect*) [ -e "$ENGINE/started" ] ;;
    logs*) cat "$ENGINE/log" ;;
    info*) echo "$ENGINE" ;;
esac
"""


class Host:
    """A directory as the relay's, and the tools to work in it."""

    def __init__(self, ground: Path, tools: Path) -> None:
        self.directory, self.engine, self._tools = ground / "it's here", ground / "engine", tools
        for name in ("config", "secrets", "data"):
            (self.directory / name).mkdir(parents=True)
        self.engine.mkdir()
        (self.engine / "log").write_text("")

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        variables = (
            f"name=relay; directory={shlex.quote(str(self.directory))}; kind=docker; wanted=an-image\n"
        )
        variables += (
            "reloaded='config/relay.toml secrets/password_nas'; gone=secrets/password_old; seconds=3\n"
        )
        return subprocess.run(
            [self._tools / "sh", "-c", variables + (SCRIPTS / script).read_text()],
            env={"PATH": str(self._tools), "ENGINE": str(self.engine)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def stale(self) -> str:
        done = self.run("stale.sh")
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout.strip()

    def write(self, name: str, *, seconds_ago: float = 0) -> None:
        path = self.directory / name
        path.write_text(name)
        moment = time.time() - seconds_ago
        os.utime(path, (moment, moment))

    def start(self, *, seconds_ago: float) -> None:
        moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds_ago)
        (self.engine / "started").write_text(f"{moment:%Y-%m-%dT%H:%M:%S.%f}789Z\n")

    def calls(self) -> list[str]:
        return (self.engine / "calls").read_text().splitlines()


@pytest.fixture(params=["gnu", "busybox"])
def host(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    # Times in the scripts are UTC, the host's are its own.
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in TOOLS:
        found = shutil.which("busybox" if request.param == "busybox" else name)
        assert found
        (tools / name).symlink_to(found)
    docker = tools / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    return Host(tmp_path, tools)


class TestStale:
    def test_a_relay_that_is_not_there_has_nothing_to_read(self, host: Host) -> None:
        host.write("config/relay.toml")
        assert host.stale() == ""

    def test_what_was_there_at_its_start_is_known(self, host: Host) -> None:
        host.write("config/relay.toml", seconds_ago=60)
        host.write("secrets/vault_key", seconds_ago=60)
        host.start(seconds_ago=50)
        assert host.stale() == ""

    @pytest.mark.parametrize(
        ("name", "what"),
        [
            ("config/relay.toml", "reload"),
            ("secrets/password_nas", "reload"),
            ("secrets/vault_key", "restart"),
        ],
    )
    def test_what_came_after_it_is_not(self, host: Host, name: str, what: str) -> None:
        host.start(seconds_ago=60)
        host.write(name, seconds_ago=50)
        assert host.stale() == what

    def test_what_nothing_reads_any_more_does_not_count(self, host: Host) -> None:
        host.start(seconds_ago=60)
        host.write("secrets/password_old")
        assert host.stale() == ""

    def test_a_start_is_more_than_a_reload(self, host: Host) -> None:
        host.start(seconds_ago=60)
        for name in ("config/relay.toml", "secrets/vault_key", "secrets/password_nas"):
            host.write(name)
        assert host.stale() == "restart"

    def test_after_a_reload_it_is_known(self, host: Host) -> None:
        host.start(seconds_ago=60)
        host.write("config/relay.toml", seconds_ago=50)
        (host.engine / "log").write_text("event=reloaded certificate=same\n")
        assert host.run("reload.sh").returncode == 0
        assert host.stale() == ""
        host.write("secrets/password_nas", seconds_ago=-1)
        assert host.stale() == "reload"

    def test_after_a_reload_that_was_refused_it_is_not(self, host: Host) -> None:
        host.start(seconds_ago=60)
        host.write("config/relay.toml", seconds_ago=50)
        (host.engine / "log").write_text("event=reload_refused reason=nonsense\n")
        refused = host.run("reload.sh")
        assert refused.returncode == 1
        assert "nonsense" in refused.stdout
        assert host.stale() == "reload"
        assert [path.name for path in (host.directory / "config").iterdir()] == ["relay.toml"]


def test_a_reload_asks_for_news_only(host: Host) -> None:
    (host.engine / "log").write_text("event=reloaded\n")
    assert host.run("reload.sh").returncode == 0
    signal, logs = host.calls()
    assert signal == "kill --signal HUP relay"
    since = datetime.datetime.fromisoformat(logs.split()[2])
    assert abs((datetime.datetime.now(datetime.UTC) - since).total_seconds()) < 30


class TestDatabase:
    """Copied before an upgrade, given back if that fails."""

    @staticmethod
    def copies(host: Host) -> dict[str, str]:
        data = host.directory / "data"
        return {
            str(path.relative_to(data)): path.read_text()
            for path in sorted(data.rglob("*"))
            if path.is_file()
        }

    def test_there_may_be_none(self, host: Host) -> None:
        copied = host.run("backup.sh")
        assert (copied.returncode, copied.stdout) == (0, "")
        assert not any(call.startswith("stop") for call in host.calls())

    def test_it_is_copied_while_the_relay_stands_still(self, host: Host) -> None:
        host.start(seconds_ago=60)
        (host.directory / "data/relay.db").write_text("one")
        copied = host.run("backup.sh")
        assert (copied.returncode, copied.stdout) == (0, "copied\n")
        assert host.calls()[-1] == "stop relay"
        assert self.copies(host) == {"relay.db": "one", ".before-upgrade/relay.db": "one"}

    def test_a_relay_that_was_removed_has_a_database_too(self, host: Host) -> None:
        (host.directory / "data/relay.db").write_text("one")
        assert host.run("backup.sh").stdout == "copied\n"

    def test_what_the_new_one_wrote_is_kept_apart(self, host: Host) -> None:
        data = host.directory / "data"
        (data / "relay.db").write_text("one")
        (data / "relay.db-wal").write_text("one more")
        assert host.run("backup.sh").returncode == 0
        (data / "relay.db").write_text("two")
        (data / "relay.db-wal").unlink()
        assert host.run("restore.sh").returncode == 0
        kept = self.copies(host)
        assert (kept["relay.db"], kept["relay.db-wal"]) == ("one", "one more")
        assert kept[".failed-upgrade/relay.db"] == "two"
        assert host.calls()[-1] == "start relay"

    def test_an_upgrade_that_fails_costs_no_copy_of_before(self, host: Host) -> None:
        database = host.directory / "data/relay.db"
        for version in ("one", "two"):
            database.write_text(version)
            assert host.run("backup.sh").returncode == 0
        assert host.run("discard.sh").returncode == 0
        assert self.copies(host) == {"relay.db": "two", ".before-upgrade/relay.db": "one"}
        assert host.run("discard.sh").returncode == 0
        assert self.copies(host) == {"relay.db": "two"}


def test_a_survey_says_what_there_is(host: Host) -> None:
    (host.directory / "config/.image").write_text("relay:1.2.3\nsha256:abc\n")
    surveyed = host.run("survey.sh")
    assert surveyed.returncode == 0, surveyed.stderr
    said = dict(line.split("=", 1) for line in surveyed.stdout.splitlines())
    assert (said["good_image"], said["good_id"]) == ("relay:1.2.3", "sha256:abc")
    assert int(said["free_mb"]) > 0
    assert int(said["docker_free_mb"]) > 0
    assert set(map(int, said["listening"].split())) <= set(range(65536))
