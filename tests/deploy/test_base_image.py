"""The digest of the base image: who may write it, and what the workflow `base` makes of it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.programs import Done

from . import registry, workflows
from .registry import Registry

base_image = workflows.read_script("base_image")
PIN = workflows.step("base", "renew", "Pin the base to what its tag means today")
PROPOSE = workflows.step("base", "renew", "Propose it")
RUN = "https://github.com/someone/smtp-relay/actions/runs/1234567890"
DIGEST = "sha256:" + "0123456789abcdef" * 4
ROLE = Path("roles/image/defaults/main.yml")


class Checkout:
    """A repository in which some files name a base, as ours do; and where it was cloned from."""

    def __init__(self, directory: Path, base: str) -> None:
        self.path, self.origin = directory / "checkout", directory / "origin"
        self.gh = workflows.Gh(directory / "home")
        self.base = base
        for each in (self.path / ".github", self.path / ROLE.parent):
            each.mkdir(parents=True)
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.origin))
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("remote", "add", "origin", str(self.origin))
        (self.path / "Dockerfile").write_text(
            f"ARG PYTHON_IMAGE={base}\n\nFROM ${{PYTHON_IMAGE}} AS runtime\n"
        )
        (self.path / ROLE).write_text(f"# Not {base}-bookworm.\nimage_base: {base}\n")
        (self.path / ".github/scripts").symlink_to(workflows.GITHUB / "scripts")
        (self.path / ".gitignore").write_text("/.github/scripts\n")
        self.commit()

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.path, check=True, capture_output=True, text=True)
        return done.stdout

    def commit(self) -> None:
        self.git("add", "--all")
        self.git(
            "-c", "user.name=Somebody", "-c", "user.email=somebody@example.org", "commit", "-qm", "A change"
        )
        self.git("push", "--quiet", "origin", "HEAD:main")

    @property
    def record(self) -> dict[str, str]:
        found = json.loads((self.path / base_image.RECORD).read_text())
        assert isinstance(found, dict)
        return found

    def write(self, file: Path | str, old: str, new: str) -> None:
        text = (self.path / file).read_text()
        assert old in text
        (self.path / file).write_text(text.replace(old, new))

    @property
    def problems(self) -> list[str]:
        found = base_image.problems(self.path)
        assert isinstance(found, list)
        return found

    def propose(self) -> Done:
        return workflows.run(PROPOSE, self.path, {"GH_TOKEN": "", "BRANCH": "main"}, self.gh.machine)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path, "docker.io/library/python:3.99-slim")


def pinned(checkout: Checkout) -> Checkout:
    """As a run leaves it."""
    index = {
        "manifests": [{"platform": {"os": "linux", "architecture": each}} for each in ("amd64", "arm64")]
    }
    base_image.pin(checkout.path, json.dumps(index).encode(), RUN)
    return checkout


def test_ours_has_no_digest_that_the_workflow_did_not_write() -> None:
    assert base_image.problems(workflows.ROOT) == []


def test_ours_is_named_once() -> None:
    """All else reads it there."""
    image = base_image.name(workflows.ROOT)
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+-slim-[a-z]+", image)
    assert [str(path) for path, _, _ in base_image.files(workflows.ROOT, image)] == ["Dockerfile"]


# --- problems -------------------------------------------------------------------------------------------


def test_until_the_workflow_has_run_the_tag_stands_alone(checkout: Checkout) -> None:
    assert checkout.problems == []


def test_a_digest_that_no_workflow_wrote_is_refused(checkout: Checkout) -> None:
    checkout.write("Dockerfile", checkout.base, f"{checkout.base}@{DIGEST}")
    [problem] = checkout.problems
    assert problem.startswith(
        f"Dockerfile has {checkout.base}@{DIGEST}, and by .github/base_image.json it should be"
    )
    assert "remove the digests and .github/base_image.json" in problem


def test_what_the_workflow_wrote_is_taken(checkout: Checkout) -> None:
    assert pinned(checkout).problems == []


@pytest.mark.parametrize("file", ["Dockerfile", ROLE])
def test_one_place_that_says_otherwise_is_refused(checkout: Checkout, file: Path | str) -> None:
    pinned(checkout).write(file, checkout.record["digest"], DIGEST)
    [problem] = checkout.problems
    assert problem.startswith(f"{file} has {checkout.base}@{DIGEST}, ")


def test_one_place_that_has_lost_it_is_refused(checkout: Checkout) -> None:
    pinned(checkout).write("Dockerfile", f"@{checkout.record['digest']}", "")
    [problem] = checkout.problems
    assert problem.startswith(f"Dockerfile has {checkout.base}, and by .github/base_image.json it should be ")


def test_the_digest_of_another_tag_is_refused(checkout: Checkout) -> None:
    pinned(checkout).write("Dockerfile", "3.99-slim", "4.0-slim")
    assert any(
        f"base_image.json is of {checkout.base}, the Dockerfile builds on docker.io/library/python:4.0-slim."
        in each
        for each in checkout.problems
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [("run", "by hand"), ("run", ""), ("digest", "sha256:0123"), ("date", "today"), ("image", "python")],
)
def test_a_record_that_no_run_writes_is_refused(checkout: Checkout, key: str, value: str) -> None:
    record = pinned(checkout).record
    (checkout.path / base_image.RECORD).write_text(json.dumps(record | {key: value}))
    assert any(
        f"base_image.json: {key} is {value!r}, which no run writes." in each for each in checkout.problems
    )


# --- the workflow ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry.running(tmp_path_factory.mktemp("registry")) as running:
        yield running


def test_the_workflow_pins_the_base_and_proposes_it(hub: Registry, tmp_path: Path) -> None:
    image = hub.name("library/python")
    checkout = Checkout(tmp_path, f"{image}:3.99-slim")

    def run() -> str:
        """The two steps, as in a run of their own. Returns what the first says."""
        checkout.git("switch", "--quiet", "main")
        checkout.git("branch", "--force", "base-image", "main")  # so that it can be removed
        checkout.git("branch", "--quiet", "--delete", "base-image")
        done = workflows.run(PIN, checkout.path, {"RUN": RUN}, hub.trust)
        assert done.status == 0, done.output
        proposed = checkout.propose()
        assert proposed.status == 0, proposed.output
        return done.output

    checkout.gh.answer("pr list", "echo 0")
    first = hub.push(image, content="this week")
    hub.point(image, "3.99-slim", first)
    assert run() == f"{checkout.base} is pinned to {first} now.\n"
    assert checkout.problems == []
    assert (
        (checkout.path / "Dockerfile").read_text().startswith(f"ARG PYTHON_IMAGE={checkout.base}@{first}\n")
    )
    assert (
        checkout.path / ROLE
    ).read_text() == f"# Not {checkout.base}-bookworm.\nimage_base: {checkout.base}@{first}\n"
    assert checkout.record.keys() == {"image", "digest", "date", "run"}
    assert (checkout.record["digest"], checkout.record["run"]) == (first, RUN)
    # Main is as it was; the branch has it, and nothing besides.
    assert checkout.git("rev-parse", "origin/main") == checkout.git("rev-parse", "base-image~")
    changed = checkout.git("diff", "--name-only", "origin/main", "origin/base-image").split()
    assert changed == [".github/base_image.json", "Dockerfile", str(ROLE)]
    assert [line.partition(" --title")[0] for line in checkout.gh.asked()] == [
        "auth setup-git",
        "pr list --head base-image --state open --json number --jq length",
        "pr create --head base-image --base main",
    ]

    # Another one while that is still open.
    second = hub.push(image, content="next week")
    hub.point(image, "3.99-slim", second)
    checkout.gh.answer("pr list", "echo 1")
    assert run() == f"{checkout.base} is pinned to {second} now.\n"
    assert not [line for line in checkout.gh.asked() if line.startswith("pr create")]
    assert second in checkout.git("show", "origin/base-image:Dockerfile")

    # Merged: nothing to do.
    checkout.git("push", "--quiet", "origin", "base-image:main")
    checkout.git("switch", "--quiet", "main")
    checkout.git("merge", "--quiet", "base-image")
    assert run() == f"{checkout.base} is pinned to {second} already.\n"
    assert checkout.gh.asked() == []


def test_a_tag_that_is_not_there_changes_nothing(hub: Registry, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, f"{hub.name('library/python')}:0.0-missing")
    done = workflows.run(PIN, checkout.path, {"RUN": RUN}, hub.trust)
    assert done.status == 1
    assert "manifest unknown" in done.output
    assert f"Nothing came of {checkout.base}." in done.output
    assert checkout.git("status", "--porcelain") == ""


def test_an_image_of_one_platform_is_no_base(checkout: Checkout) -> None:
    index = {"manifests": [{"platform": {"os": "linux", "architecture": "amd64"}}]}
    for raw in (json.dumps(index), json.dumps({"layers": []})):
        with pytest.raises(
            SystemExit, match=r"is no index with .*linux/arm64: the image could not be built on it"
        ):
            base_image.pin(checkout.path, raw.encode(), RUN)
    assert checkout.git("status", "--porcelain") == ""


def test_it_writes_no_base_of_its_own() -> None:
    """The tag is the Dockerfile's: the workflow and its script know none."""
    for file in ("workflows/base.yml", "scripts/base_image.py"):
        assert not re.search(r"python:\d|bookworm|trixie", (workflows.GITHUB / file).read_text()), file
