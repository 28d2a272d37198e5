"""What roles/relay runs on the host in its shell: with GNU's tools, and with busybox's, too."""

from __future__ import annotations

import datetime
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.programs import wait_until

SCRIPTS = Path(__file__).parents[2] / "roles/relay/files"
TOOLS = (
    *(
        "awk",
        "cat",
        "cp",
        "date",
        "df",
        "diff",
        "dirname",
        "find",
        "flock",
        "grep",
        "head",
        "ls",
        "mkdir",
        "mktemp",
    ),
    *("mountpoint", "mv", "rm", "sed", "sh", "sleep", "sort", "tail", "touch", "tr", "uname"),
)

# Of the engine, only what the scripts ask it. It notes what it was told. A container is a directory with its
# id, and with `running` while it runs. It answers if it has `answers` and the files that it needs are those
# that lie there; a start writes files, or is `refused`.
DOCKER = """#!/bin/sh
PATH=/usr/bin:/bin
echo "$*" >>"$ENGINE/calls"
# No power: whatever the script is doing ends here.
[ "$(cat "$ENGINE/cut" 2>/dev/null)" != "$(wc -l <"$ENGINE/calls")" ] || kill -KILL 0
cd "$ENGINE/containers"
for last; do :; done

there() {
    [ -d "$last" ] && return
    echo
    echo "Error: No such container: $last" >&2
    exit 1
}
answers() {
    [ -e "$1/running" ] && [ -e "$1/answers" ] || return 1
    for file in "$1"/needs/*/*; do
        [ ! -e "$file" ] || cmp -s "$file" "$ENGINE/../it's here/${file#"$1"/needs/}" || return 1
    done
}

case "$*" in
    inspect*StartedAt*) cat "$ENGINE/started" 2>/dev/null ;;
    inspect*'{{.Id}} {{'*) there && paste -d " " "$last/id" "$last/labels" ;;
    inspect*'{{.Id}}'*) there && cat "$last/id" ;;
    inspect*State.ExitCode*)
        there
        if [ -e "$last/running" ]; then echo true 0; else echo "false $(cat "$last/exit")"; fi
        ;;
    inspect*RestartCount*) there && echo 0 ;;
    inspect*State.Status*) there && if answers "$last"; then echo running; else echo exited; fi ;;
    inspect*) there ;;
    exec*) answers "$2" ;;
    start*)
        there
        [ ! -e "$last/refused" ] || { echo "Error: port is already allocated" >&2; exit 1; }
        touch "$last/running"
        cp -R "$last/writes/." "$ENGINE/../it's here/"
        ;;
    restart*) there && touch "$last/running" ;;
    stop*)
        there && rm -f "$last/running"
        touch "$ENGINE/stopping"
        while [ -e "$ENGINE/slow" ]; do sleep 0.01; done
        ;;
    rename*) [ -d "$2" ] && [ ! -e "$3" ] && mv "$2" "$3" ;;
    rm*) there && { [ ! -e "$last/running" ] || [ "$2" = --force ]; } && rm -rf "$last" ;;
    logs*) cat "$ENGINE/log" "$last/says" 2>/dev/null ;;
    info*) echo "$ENGINE" ;;
esac
"""


class Host:
    """A directory as the relay's, and the tools to work in it."""

    def __init__(self, ground: Path, tools: Path) -> None:
        self.directory, self.engine, self.tools = ground / "it's here", ground / "engine", tools
        for name in ("config", "secrets", "certs", "data"):
            (self.directory / name).mkdir(parents=True)
        (self.engine / "containers").mkdir(parents=True)
        (self.engine / "log").write_text("")

    def begin(
        self, *scripts: str, upgrade: str = "no", kind: str = "docker", directory: str = ""
    ) -> subprocess.Popen[str]:
        """The scripts one after another, as one. Each is a file's name, or its text."""
        variables = (
            f"name=relay; directory={shlex.quote(directory or str(self.directory))}; kind={kind};"
            f" network=mail; wanted=an-image; seconds=3; upgrade={upgrade};"
            " reloaded='config/relay.toml secrets/password_nas'; gone=secrets/password_old\n"
        )
        text = "\n".join((SCRIPTS / each).read_text() if each.endswith(".sh") else each for each in scripts)
        return subprocess.Popen(
            [self.tools / "sh", "-c", variables + text],
            env={"PATH": str(self.tools), "ENGINE": str(self.engine)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *scripts: str, upgrade: str = "no") -> subprocess.CompletedProcess[str]:
        with self.begin(*scripts, upgrade=upgrade) as process:
            said, trouble = process.communicate(timeout=60)
        return subprocess.CompletedProcess(scripts, process.returncode, said, trouble)

    def container(
        self,
        name: str,
        *,
        answers: bool = True,
        running: bool = False,
        refused: bool = False,
        says: str = "",
        labels: str = "",
        needs: dict[str, str] | None = None,
        writes: dict[str, str] | None = None,
    ) -> str:
        """Make one that answers, if what it needs to be in its files is there; return its id."""
        place = self.engine / "containers" / name
        for kind, files in (("needs", needs), ("writes", writes)):
            for directory in ("config", "data"):
                (place / kind / directory).mkdir(parents=True)
            for file, content in (files or {}).items():
                (place / kind / file).write_text(content)
        identifier = f"{name}-{time.monotonic_ns()}"
        (place / "id").write_text(f"{identifier}\n")
        (place / "exit").write_text("0" if answers else "3")
        (place / "labels").write_text(f"{labels}\n")
        (place / "says").write_text(says and f"{says}\n")
        for fact, holds in (("answers", answers), ("refused", refused), ("running", running)):
            if holds:
                (place / fact).touch()
        return identifier

    @property
    def containers(self) -> dict[str, tuple[str, bool]]:
        """Name -> id, and whether it runs."""
        return {
            place.name: ((place / "id").read_text().strip(), (place / "running").exists())
            for place in sorted((self.engine / "containers").iterdir())
        }

    def stale(self) -> str:
        done = self.run("stale.sh")
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout.strip()

    def read(self, name: str) -> str:
        return (self.directory / name).read_text()

    def write(self, name: str, content: str = "", *, seconds_ago: float = 0) -> None:
        path = self.directory / name
        path.write_text(content or name)
        moment = time.time() - seconds_ago
        os.utime(path, (moment, moment))

    def start(self, *, seconds_ago: float) -> None:
        moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds_ago)
        (self.engine / "started").write_text(f"{moment:%Y-%m-%dT%H:%M:%S.%f}789Z\n")

    def calls(self) -> list[str]:
        calls = self.engine / "calls"
        return calls.read_text().splitlines() if calls.exists() else []


@pytest.fixture(params=["gnu", "busybox"])
def host(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    # Times in the scripts are UTC, the host's are its own.
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in TOOLS:
        # Debian's busybox is built without flock.
        found = shutil.which("busybox" if request.param == "busybox" and name != "flock" else name)
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


OLD = {"config/relay.toml": "old settings"}
NEW = {"config/relay.toml": "new settings"}
ONE = {"data/relay.db": "one"}
TWO = {"data/relay.db": "two"}


class TestSwap:
    """A new container takes the old one's place, or the old one is there again as it was."""

    @pytest.fixture
    def old(self, host: Host) -> str:
        """The relay as the last run left it. It knows neither new settings nor a new database."""
        host.write("config/relay.toml", "old settings")
        host.write("secrets/password_nas")
        host.write("data/relay.db", "one")
        assert host.run("common.sh", "keep.sh").returncode == 0
        identifier = host.container("relay", running=True, needs=OLD | ONE)
        host.write("config/relay.toml", "new settings")
        host.write("secrets/password_camera")
        return identifier

    @staticmethod
    def swap(host: Host, upgrade: str = "no") -> tuple[str, str]:
        """The outcome, and what it says besides."""
        done = host.run("common.sh", "swap.sh", upgrade=upgrade)
        word, said = re.fullmatch(r"(?:outcome=(\w+)\n)?(.*)", done.stdout, re.DOTALL).groups("")  # type: ignore[union-attr]
        return word, said

    def test_the_first_one_takes_its_place(self, host: Host) -> None:
        host.write("config/relay.toml", "new settings")
        new = host.container("relay-next", needs=NEW)
        assert self.swap(host) == ("taken", "")
        assert host.containers == {"relay": (new, True)}
        assert host.read(".good/config/relay.toml") == "new settings"

    def test_the_old_one_goes_when_the_new_one_answers(self, host: Host, old: str) -> None:
        new = host.container("relay-next", needs=NEW)
        assert self.swap(host) == ("taken", "")
        assert host.containers == {"relay": (new, True)}
        assert host.read(".good/config/relay.toml") == "new settings"
        assert not (host.directory / ".swap").exists()

    @pytest.mark.parametrize(
        ("nature", "said"),
        [
            ({"answers": False, "says": "there is no such mailbox"}, "there is no such mailbox"),
            ({"refused": True}, "port is already allocated"),
        ],
        ids=["does not answer", "does not start"],
    )
    def test_the_old_one_comes_back_with_its_settings(
        self, host: Host, old: str, nature: dict[str, Any], said: str
    ) -> None:
        new = host.container("relay-next", **nature)
        outcome, text = self.swap(host)
        assert outcome == "back"
        assert said in text
        assert host.containers == {"relay": (old, True), "relay-next": (new, False)}
        assert host.read("config/relay.toml") == "old settings"
        assert sorted(path.name for path in (host.directory / "secrets").iterdir()) == ["password_nas"]
        assert not (host.directory / ".swap").exists()

    def test_an_upgrade_that_works_leaves_a_copy_of_the_database(self, host: Host, old: str) -> None:
        host.container("relay-next", writes=TWO, needs=TWO)
        assert self.swap(host, upgrade="yes")[0] == "taken"
        assert host.read("data/relay.db") == "two"
        assert host.read("data/.before-upgrade/relay.db") == "one"

    def test_the_database_comes_back_if_the_old_one_needs_it(self, host: Host, old: str) -> None:
        host.write("data/relay.db-wal", "one more")
        host.container("relay-next", writes=TWO, answers=False, says="a migration failed")
        outcome, text = self.swap(host, upgrade="yes")
        assert outcome == "restored"
        assert "a migration failed" in text
        assert host.containers["relay"] == (old, True)
        assert (host.read("data/relay.db"), host.read("data/relay.db-wal")) == ("one", "one more")
        assert host.read("data/.failed-upgrade/relay.db") == "two"
        assert not (host.directory / "data/.before-upgrade").exists()

    def test_an_upgrade_that_fails_costs_no_copy_of_before(self, host: Host, old: str) -> None:
        host.container("relay-next", needs=NEW)
        assert self.swap(host, upgrade="yes")[0] == "taken"
        host.write("data/relay.db", "one and more")
        host.container("relay-next", answers=False)
        assert self.swap(host, upgrade="yes")[0] == "back"
        assert host.read("data/.before-upgrade/relay.db") == "one"
        assert host.read("data/relay.db") == "one and more"

    def test_a_change_that_is_no_upgrade_copies_no_database(self, host: Host, old: str) -> None:
        host.container("relay-next")
        assert self.swap(host)[0] == "taken"
        assert not (host.directory / "data/.before-upgrade").exists()

    def test_without_room_for_a_copy_of_the_database_the_old_one_goes_on(self, host: Host, old: str) -> None:
        new = host.container("relay-next", writes=TWO)
        full = "cp() { echo 'No space left on device' >&2; return 1; }"
        done = host.run("common.sh", full, "swap.sh", upgrade="yes")
        assert (done.returncode, done.stdout) == (1, "No space left on device\n")
        assert host.containers == {"relay": (old, True), "relay-next": (new, False)}
        assert host.read("data/relay.db") == "one"
        assert not (host.directory / ".swap").exists()

    def test_it_says_so_if_the_old_one_does_not_come_back(self, host: Host) -> None:
        host.container("relay", answers=False, says="nor do I")
        host.container("relay-next", answers=False, says="I do not work")
        outcome, text = self.swap(host)
        assert outcome == "lost"
        assert text.index("I do not work") < text.index("nor do I")

    def test_the_first_one_that_does_not_answer_stays_to_be_looked_at(self, host: Host) -> None:
        new = host.container("relay-next", answers=False, says="I do not work")
        assert self.swap(host) == ("alone", "I do not work\n")
        assert host.containers == {"relay": (new, True)}

    def test_a_removed_relay_has_a_database_too(self, host: Host) -> None:
        host.write("data/relay.db", "one")
        host.container("relay-next")
        assert self.swap(host, upgrade="yes")[0] == "taken"
        assert host.read("data/.before-upgrade/relay.db") == "one"

    def test_without_a_new_one_nothing_is_touched(self, host: Host, old: str) -> None:
        assert self.swap(host) == ("", "There is no container relay-next.\n")
        assert host.containers == {"relay": (old, True)}

    def test_two_at_once_are_one_after_the_other(self, host: Host, old: str) -> None:
        new = host.container("relay-next")
        both = [host.begin("common.sh", "swap.sh") for _ in range(2)]
        said = sorted(process.communicate(timeout=60)[0] for process in both)
        assert said == ["There is no container relay-next.\n", "outcome=taken\n"]
        assert host.containers == {"relay": (new, True)}

    def test_it_goes_on_to_its_end_when_nobody_listens_any_more(self, host: Host, old: str) -> None:
        new = host.container("relay-next")
        (host.engine / "slow").touch()
        with host.begin("common.sh", "swap.sh") as process:
            wait_until(lambda: (host.engine / "stopping").exists(), "the old one is being stopped")
            assert process.stdout
            assert process.stderr
            process.stdout.close()
            process.stderr.close()
            for sign in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
                os.kill(process.pid, sign)
            (host.engine / "slow").unlink()
            process.wait(60)
        assert host.containers == {"relay": (new, True)}

    @pytest.mark.parametrize("host", ["gnu"], indirect=True)  # the same steps with either
    @pytest.mark.parametrize("then", ["a good one", "a bad one"])
    @pytest.mark.parametrize("first", ["a good one", "a bad one"])
    def test_wherever_it_is_cut_off_the_next_one_ends_well(
        self, host: Host, old: str, first: str, then: str, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        natures: dict[str, dict[str, Any]] = {
            "a good one": {"writes": TWO, "needs": TWO},
            "a bad one": {"writes": TWO, "answers": False},
        }
        ground, saved = host.directory.parent, tmp_path_factory.mktemp("saved") / "ground"
        shutil.copytree(ground, saved, symlinks=True)
        for call in range(1, 40):
            shutil.rmtree(ground)
            shutil.copytree(saved, ground, symlinks=True)
            once = host.container("relay-next", **natures[first])
            (host.engine / "cut").write_text(str(len(host.calls()) + call))
            done = host.run("common.sh", "swap.sh", upgrade="yes")
            (host.engine / "cut").unlink()
            if done.returncode == 0:
                break
            assert done.returncode == -signal.SIGKILL
            # As the task does that makes it anew.
            shutil.rmtree(host.engine / "containers/relay-next", ignore_errors=True)
            again = host.container("relay-next", **natures[then])
            outcome, _ = self.swap(host, upgrade="yes")
            if then == "a good one":
                assert outcome == "taken", call
                assert host.containers == {"relay": (again, True)}
            elif host.containers["relay"][0] == once:
                assert first == "a good one", call  # it had shown that it works
                assert outcome == "back", call
            else:
                assert outcome in {"back", "restored"}, call
                assert host.containers == {"relay": (old, True), "relay-next": (again, False)}
                assert host.read("data/relay.db") == "one"
                assert host.read("config/relay.toml") == "old settings"
        else:
            raise AssertionError("it never came to its end")
        assert call > 8


class TestCheck:
    """The relay looks at its settings, in a container of its own."""

    @pytest.mark.parametrize(
        ("nature", "status", "said"),
        [
            ({}, 0, ""),
            ({"answers": False, "says": "no such mailbox"}, 1, "no such mailbox\n"),
            (
                {"running": True, "says": "let me see"},
                1,
                "let me see\nIt has not said within 3 s whether it accepts its settings.\n",
            ),
        ],
        ids=["accepted", "refused", "no answer"],
    )
    def test_what_it_says_counts(self, host: Host, nature: dict[str, Any], status: int, said: str) -> None:
        host.container("relay-check", **nature)
        done = host.run("common.sh", "check.sh")
        assert (done.returncode, done.stdout) == (status, said)
        assert host.containers == {}

    def test_one_that_is_not_there_has_accepted_nothing(self, host: Host) -> None:
        assert host.run("common.sh", "check.sh").returncode == 1


class TestFiles:
    """Those that the relay works with are kept, and brought back."""

    def test_what_is_kept_is_what_there_is(self, host: Host) -> None:
        host.write("config/relay.toml", "one")
        host.write("secrets/password_nas")
        (host.directory / "secrets/password_nas").chmod(0o400)
        assert host.run("common.sh", "keep.sh").returncode == 0
        assert host.read(".good/config/relay.toml") == "one"
        assert (host.directory / ".good").stat().st_mode & 0o777 == 0o700
        assert (host.directory / ".good/secrets/password_nas").stat().st_mode & 0o777 == 0o400
        host.write("config/relay.toml", "two")
        (host.directory / "secrets/password_nas").unlink()
        assert host.run("common.sh", "keep.sh").returncode == 0
        assert host.read(".good/config/relay.toml") == "two"
        assert list((host.directory / ".good/secrets").iterdir()) == []

    def test_nothing_is_written_if_nothing_has_changed(self, host: Host) -> None:
        host.write("config/relay.toml", "one")
        assert host.run("common.sh", "keep.sh").returncode == 0
        kept = (host.directory / ".good").stat().st_ino
        assert host.run("common.sh", "keep.sh").returncode == 0
        assert (host.directory / ".good").stat().st_ino == kept

    @pytest.mark.parametrize("answers", [True, False])
    def test_they_come_back_and_a_relay_that_does_not_answer_is_restarted(
        self, host: Host, answers: bool
    ) -> None:
        host.write("config/relay.toml", "old settings")
        assert host.run("common.sh", "keep.sh").returncode == 0
        host.container("relay", running=answers, needs=OLD)
        host.write("config/relay.toml", "new settings")
        host.write("config/.more")
        done = host.run("common.sh", "undo.sh")
        assert (done.returncode, done.stdout) == (0, "")
        assert host.read("config/relay.toml") == "old settings"
        assert not (host.directory / "config/.more").exists()
        assert ("restart relay" in host.calls()) != answers

    def test_a_copy_that_was_cut_off_costs_nothing(self, host: Host) -> None:
        """The moment between two renames is the only one in which none has its name."""
        host.write("config/relay.toml", "old settings")
        assert host.run("common.sh", "keep.sh").returncode == 0
        (host.directory / ".good").rename(host.directory / ".good.old")
        host.write("config/relay.toml", "new settings")
        assert TestSurvey.said(host.run("survey.sh"))["kept"] == "yes"
        host.container("relay", running=True)
        assert host.run("common.sh", "undo.sh").returncode == 0
        assert host.read("config/relay.toml") == "old settings"

    def test_a_copy_that_is_cut_off_twice_costs_nothing_either(self, host: Host) -> None:
        host.write("config/relay.toml", "old settings")
        assert host.run("common.sh", "keep.sh").returncode == 0
        (host.directory / ".good").rename(host.directory / ".good.old")
        host.write("config/relay.toml", "new settings")
        assert host.run("common.sh", "mv() { exit 9; }", "keep.sh").returncode == 9
        assert host.read(".good.old/config/relay.toml") == "old settings"
        assert host.run("common.sh", "keep.sh").returncode == 0
        assert host.read(".good/config/relay.toml") == "new settings"
        assert not (host.directory / ".good.old").exists()

    def test_what_cannot_be_copied_is_told_and_what_was_kept_stays(self, host: Host) -> None:
        host.write("config/relay.toml", "old settings")
        assert host.run("common.sh", "keep.sh").returncode == 0
        host.write("config/relay.toml", "new settings")
        full = "cp() { echo 'No space left on device' >&2; return 1; }"  # a busybox has its own before PATH
        done = host.run("common.sh", full, "keep.sh")
        assert done.returncode == 1
        assert "No space left on device" in done.stdout
        assert "settings, secrets and certificates could not be copied to" in done.stdout
        assert host.read(".good/config/relay.toml") == "old settings"

    def test_it_is_told_if_even_that_does_not_help(self, host: Host) -> None:
        host.container("relay", answers=False, says="nothing helps")
        done = host.run("common.sh", "undo.sh")
        assert (done.returncode, done.stdout) == (1, "nothing helps\n")


# What /etc and /boot have at those versions, as unraid/webgui reads it at the tags 6.12.15, 7.0.1 and 7.3.2.
LAYOUTS = {
    "6.12.15": {
        "etc/unraid-version": 'version="6.12.15"\n',
        "boot/config/docker.cfg": 'DOCKER_ENABLED="yes"\nDOCKER_IMAGE_FILE="/mnt/user/docker.img"\n',
        "boot/config/shares/appdata.cfg": 'shareUseCache="prefer"\nshareCachePool="ssd"\n',
    },
    # A pool can be the second storage of a share, and the array may be missing.
    "7.0.1": {
        "etc/unraid-version": 'version="7.0.1"\n',
        "boot/config/docker.cfg": 'DOCKER_ENABLED="yes"\nDOCKER_CUSTOM_NETWORKS=""\n',
        "boot/config/shares/appdata.cfg": 'shareCachePool="ssd"\nshareCachePool2=""\nshareUseCache="only"\n',
    },
    "7.3.2": {
        "etc/unraid-version": 'version="7.3.2"\n',
        "boot/config/docker.cfg": 'DOCKER_ENABLED="yes"\nDOCKER_ALLOW_ACCESS=""\nDOCKER_BACKINGFS="zfs"\n',
        "boot/config/shares/appdata.cfg": 'shareCachePool2="b"\nshareCachePool="ssd"\nshareUseCache="yes"\n',
    },
}


class TestSurvey:
    """It says what the host is like."""

    @staticmethod
    def said(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
        assert done.returncode == 0, done.stderr
        return dict(line.split("=", 1) for line in done.stdout.splitlines())

    @pytest.fixture
    def unraid(self, host: Host, tmp_path: Path) -> Callable[..., dict[str, str]]:
        """What it says of an Unraid server that has these files, and these things mounted."""

        def survey(files: dict[str, str], *mounted: str) -> dict[str, str]:
            root = tmp_path / "root"
            name = 'NAME="Media"\ntimeZone="Europe/Vienna"\nfsState="Started"\n'
            for path, content in {"var/local/emhttp/var.ini": name, **files}.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(content)
            for path in (*mounted, "mnt/user/appdata"):
                (root / path).mkdir(parents=True, exist_ok=True)
            # What is mounted is what it is told, and each has as much room as its name is long.
            places = " ".join(f"{root}/{each}" for each in mounted)
            stubs = f'mountpoint() {{ case " {places} " in *" $2 "*) ;; *) return 1 ;; esac; }}\n'
            stubs += 'df() { echo; echo "- - - $((${#2} * 1024)) - -"; }\n'
            script = (SCRIPTS / "survey.sh").read_text()
            script = re.sub(r"(?<![\w}])/(etc|boot|var/l|mnt)", rf"{root}/\1", script)
            process = host.begin(stubs, script, kind="unraid", directory=f"{root}/mnt/user/appdata/relay")
            said, trouble = process.communicate(timeout=60)
            done = subprocess.CompletedProcess("survey.sh", process.returncode, said, trouble)
            return self.said(done) | {"df": str(root)}

        return survey

    @pytest.mark.parametrize("version", LAYOUTS)
    def test_of_each_unraid_it_knows_version_name_and_the_pool_of_the_share(
        self, unraid: Callable[..., dict[str, str]], version: str
    ) -> None:
        said = unraid(LAYOUTS[version], "mnt/user", "mnt/ssd", "mnt/user0", "var/lib/docker")
        assert (said["unraid"], said["hostname"], said["timezone"]) == (version, "Media", "Europe/Vienna")
        assert (said["array"], said["share"], said["docker_enabled"]) == ("Started", "mounted", "yes")
        assert said["docker_storage"] == "mounted"
        assert int(said["free_mb"]) == len(f"{said['df']}/mnt/ssd")

    @pytest.mark.parametrize(
        ("share", "mounted", "judged"),
        [
            ('shareUseCache="no"\n', ["mnt/user", "mnt/user0"], "mnt/user0"),
            ('shareUseCache="only"\nshareCachePool="gone"\n', ["mnt/user"], "mnt/user/appdata"),
            ("", ["mnt/user"], "mnt/user/appdata"),
        ],
        ids=["on the array", "a pool that is not there", "no settings"],
    )
    def test_free_is_what_a_new_file_of_the_share_can_have(
        self, unraid: Callable[..., dict[str, str]], share: str, mounted: list[str], judged: str
    ) -> None:
        said = unraid({"boot/config/shares/appdata.cfg": share}, *mounted)
        assert int(said["free_mb"]) == len(f"{said['df']}/{judged}")

    def test_there_is_an_image_that_worked(self, host: Host) -> None:
        (host.directory / "config/.image").write_text("relay:1.2.3\nsha256:abc\n")
        said = self.said(host.run("survey.sh"))
        assert (said["good_image"], said["good_id"]) == ("relay:1.2.3", "sha256:abc")
        assert int(said["free_mb"]) > 0
        assert int(said["docker_free_mb"]) > 0
        assert set(map(int, said["listening"].split())) <= set(range(65536))

    @pytest.mark.parametrize("name", ["relay-next", "relay-before", "relay-check"])
    def test_another_container_with_a_name_that_a_swap_needs_is_named(self, host: Host, name: str) -> None:
        assert self.said(host.run("survey.sh"))["foreign"] == ""
        host.container(name, labels="somebody")
        assert self.said(host.run("survey.sh"))["foreign"] == name

    def test_what_a_swap_left_is_not_another(self, host: Host) -> None:
        host.container("relay-next", labels="ansible")
        adopted = host.container("relay-before")
        (host.directory / ".swap").write_text(f"{adopted} no\n")
        assert self.said(host.run("survey.sh"))["foreign"] == ""

    def test_it_waits_for_a_swap_that_goes_on(self, host: Host) -> None:
        host.container("relay", running=True)
        host.container("relay-next", labels="ansible")
        (host.engine / "slow").touch()
        with host.begin("common.sh", "swap.sh"):
            wait_until(lambda: (host.engine / "stopping").exists(), "the old one is being stopped")
            with host.begin("survey.sh") as survey:
                with pytest.raises(subprocess.TimeoutExpired):
                    survey.wait(0.3)
                (host.engine / "slow").unlink()
                said, _ = survey.communicate(timeout=60)
        assert "\nforeign=\n" in said
