"""Which tags point where after which runs: the workflow's own step, on a registry of this machine."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from harness.programs import Done, find

from . import registry, workflows
from .registry import Registry

REVISION = "org.opencontainers.image.revision"
STEP = workflows.step("image", "publish", "Let the tags point to it")
following = workflows.read_script("point_tags").following


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    find("skopeo")
    with registry.running(tmp_path_factory.mktemp("registry")) as running:
        yield running


_numbers = itertools.count(1)


@dataclass
class GitHub:
    """A repository with a main of four commits, and its package in the registry."""

    directory: Path
    registry: Registry
    package: str = field(default_factory=lambda: f"someone{next(_numbers)}/smtp-relay")

    def __post_init__(self) -> None:
        self._git("init", "--quiet", "--initial-branch=main")
        for number in range(4):
            self.commit(str(number))
        (self.directory / ".github").symlink_to(workflows.GITHUB)
        self._builds = itertools.count(1)

    def commit(self, text: str) -> None:
        who = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
        self._git(*who, "commit", "--quiet", "--allow-empty", "--message", text)

    @property
    def commits(self) -> list[str]:
        """Main's, the oldest first."""
        return self._git("rev-list", "--reverse", "main").split()

    @property
    def tags(self) -> dict[str, str]:
        return self.registry.tags(self.registry.name(self.package))

    def main(self, number: int = -1) -> str:
        """A run for a push to main, of that commit."""
        commit = self.commits[number]
        return self.publish(commit, "main", f"sha-{commit[:7]}")

    def release(self, version: str, commit: int = -1) -> str:
        """A run for a tag."""
        return self.publish(self.commits[commit], version)

    def publish(self, commit: str, *tags: str) -> str:
        """Build, push by digest, run the step. Returns the digest."""
        digest, done = self.try_to_publish(commit, *tags)
        assert done.status == 0, done.output
        return digest

    def try_to_publish(self, commit: str, *tags: str) -> tuple[str, Done]:
        self._git("checkout", "--quiet", "--detach", commit)
        image = self.registry.name(self.package)
        # No two builds are the same, not even of one commit.
        digest = self.registry.push(
            image, content=f"build {next(self._builds)}", annotations={REVISION: commit}
        )
        given = {"IMAGE": image, "DIGEST": digest, "TAGS": "\n".join(f"{image}:{tag}" for tag in tags)}
        return digest, workflows.run(STEP, self.directory, given, self.registry.trust)

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.directory, check=True, capture_output=True, text=True
        )
        return done.stdout


@pytest.fixture
def github(tmp_path: Path, server: Registry) -> GitHub:
    return GitHub(tmp_path, server)


def test_until_there_is_a_release_latest_is_main(github: GitHub) -> None:
    first, second = github.main(0), github.main(1)
    assert github.tags == {
        "main": second,
        "latest": second,
        f"sha-{github.commits[0][:7]}": first,
        f"sha-{github.commits[1][:7]}": second,
    }


def test_from_the_first_release_on_latest_is_the_newest_and_nothing_else_moves_it(github: GitHub) -> None:
    before = github.main(0)
    github.release("1.2.3", 0)
    newest = github.release("1.10.0", 1)
    main = github.main(2)
    correction = github.release("1.2.4", 1)
    again = github.release("1.2.3", 0)
    assert (
        github.tags
        == {
            "latest": newest,
            "1": newest,
            "1.10": newest,
            "1.10.0": newest,
            "1.2": correction,
            "1.2.4": correction,
            "1.2.3": again,
            "main": main,
            f"sha-{github.commits[0][:7]}": before,  # no release moves it
            f"sha-{github.commits[2][:7]}": main,
        }
    )


def test_an_old_run_of_main_run_again_moves_nothing_back(github: GitHub) -> None:
    newest = github.main(2)
    again = github.main(1)
    assert github.tags["main"] == github.tags["latest"] == newest
    assert github.tags[f"sha-{github.commits[1][:7]}"] == again


def test_a_main_that_was_written_anew_is_taken(github: GitHub) -> None:
    image = github.registry.name(github.package)
    gone = github.registry.push(image, content="gone", annotations={REVISION: "c0ffee" * 6 + "c0ff"})
    github.registry.point(image, "main", gone)
    assert github.main() == github.tags["main"]


def test_what_somebody_else_made_of_latest_is_put_right(github: GitHub) -> None:
    image = github.registry.name(github.package)
    release, other = (github.registry.push(image, content=each) for each in ("release", "by hand"))
    github.registry.point(image, "1.2.3", release)
    for tag in ("latest", "1.3.0-rc.1", "3"):
        github.registry.point(image, tag, other)
    github.main()
    assert github.tags["latest"] == release


def test_two_runs_at_once_leave_latest_right(github: GitHub, tmp_path: Path) -> None:
    """A run of main has seen no release and is about to move latest: then the first release comes."""
    github.main(0)
    image = github.registry.name(github.package)
    release = github.registry.push(image, content="release")
    script = workflows.read_script("point_tags")

    class Slow(script.Repository):  # type: ignore[misc, name-defined]
        """Meets the release's run just before it moves latest itself."""

        def point(self, tag: str, digest: str) -> None:
            if tag == "latest":
                for each in ("1.0.0", "latest"):
                    github.registry.point(image, each, release)
            super().point(tag, digest)

    main = github.registry.push(image, content="main")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        for name, value in github.registry.trust.items():
            patch.setenv(name, value)
        script.publish(Slow(image), main, ["sha-1234567", "main"])
    assert github.tags["main"] == main
    assert github.tags["latest"] == release


def test_a_digest_that_is_not_there_moves_nothing(github: GitHub) -> None:
    before = github.main(0)
    image = github.registry.name(github.package)
    given = {"IMAGE": image, "DIGEST": "sha256:" + "0" * 64, "TAGS": f"{image}:1.2.3"}
    done = workflows.run(STEP, github.directory, given, github.registry.trust)
    assert done.status == 1
    assert "skopeo" in done.output
    assert "manifest unknown" in done.output
    assert set(github.tags.values()) == {before}


@pytest.mark.parametrize(
    ("tags", "own", "expected"),
    [
        (["main"], ["main"], {"latest": "main"}),
        (["1.0.0-rc.1", "v1.0.0", "01.0.0", "1.0.0-1a2b3c"], [], {}),
        (["0.1.0", "0.2.0-rc.1", "0.2", "1"], [], {"latest": "0.1.0"}),
        (["main", "0.9.0", "0.10.0"], ["main"], {"latest": "0.10.0"}),
        (["main"], ["0.1.0"], {"latest": "0.1.0", "0.1": "0.1.0"}),
        (["0.9.0", "0.9.1", "0.10.0"], ["0.9.1"], {"latest": "0.10.0", "0.9": "0.9.1"}),
        (["1.9.0", "1.10.0"], ["1.9.0"], {"latest": "1.10.0", "1.9": "1.9.0", "1": "1.10.0"}),
    ],
)
def test_what_follows_what(tags: list[str], own: list[str], expected: dict[str, str]) -> None:
    assert following(tags, own) == expected
