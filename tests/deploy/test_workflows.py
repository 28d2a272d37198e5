"""The GitHub workflows: what zizmor and the schemas do not check; and the scripts beside them."""

import hashlib
import json
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from . import workflows
from .workflows import GITHUB, ROOT, Gh, load, read_script

PATHS = sorted((GITHUB / "workflows").iterdir())
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
NAMES = ["base", "ci", "cleanup", "image", "release", "scan"]

# Programs that look for known vulnerabilities or secrets.
SCANNERS = re.compile(
    r"pip-audit|trivy|grype|anchore|snyk|osv-scanner|codeql|scout|gitleaks|trufflehog", re.IGNORECASE
)
# Triggers that run with the repository's secrets on what a stranger wrote.
DANGEROUS = {"pull_request_target", "workflow_run", "issue_comment", "issues", "discussion"}


def triggers(workflow: dict[str, Any]) -> set[str]:
    on = workflow["on"]
    return {on} if isinstance(on, str) else set(on)


def jobs() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """For each job: where it is, its workflow, and the job."""
    for path in PATHS:
        workflow = load(path)
        for name, job in workflow["jobs"].items():
            yield f"{path.name}: {name}", workflow, job


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for where, _, job in jobs():
        for number, step in enumerate(job.get("steps", []), 1):
            yield f"{where}, step {number}", step


def privileges(job: dict[str, Any]) -> set[str]:
    """What a thief would find in the job: permissions to write, and secrets."""
    found = {name for name, access in job["permissions"].items() if access == "write"}
    return found | set(re.findall(r"secrets\.\w+|secrets: inherit", yaml.safe_dump(job)))


def for_pull_requests(workflow: dict[str, Any], job: dict[str, Any]) -> bool:
    """Whether the job can run for a pull request. To be sure of it, one form of condition is understood."""
    if "pull_request" not in triggers(workflow):
        return False
    condition = str(job.get("if", ""))
    if condition == "github.event_name == 'push'":
        return False
    if re.search(r"always|cancelled|failure", condition):
        return True  # whatever became of the jobs that it needs
    needed = job.get("needs", [])
    needed = [needed] if isinstance(needed, str) else needed
    return all(for_pull_requests(workflow, workflow["jobs"][name]) for name in needed)


def test_these_are_all() -> None:
    assert [path.name for path in PATHS] == [f"{name}.yml" for name in NAMES]
    assert len(list(steps())) > 20


# --- what runs is what was looked at --------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_actions_are_pinned_to_commits_with_the_version_beside(path: Path) -> None:
    lines = [
        line.strip() for line in path.read_text("utf-8").splitlines() if re.match(r"\s*(- )?uses:", line)
    ]
    assert lines
    for line in lines:
        ours = re.fullmatch(r"(- )?uses: \$/(?P<file>\.github/workflows/\w+\.yml)", line)
        if ours:
            assert (ROOT / ours["file"]).is_file(), line
            assert "workflow_call" in triggers(load(ROOT / ours["file"])), line
        else:
            assert re.fullmatch(r"(- )?uses: [\w.-]+(/[\w.-]+)+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_no_action_is_there_in_two_versions() -> None:
    text = "".join(path.read_text("utf-8") for path in PATHS)
    pins = set(re.findall(r"uses: ([^@\s]+)@(.+)", text))
    assert len({action for action, _ in pins}) == len(pins), sorted(pins)


def test_images_are_pinned_to_digests() -> None:
    text = "".join(path.read_text("utf-8") for path in PATHS)
    images = re.findall(r"docker\.io/\S+", text)
    assert images
    for image in images:
        assert re.fullmatch(r"docker\.io/[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", image), image
    for where, _, job in jobs():
        assert not {"container", "services"} & set(job), f"{where}: pin its image, then say so here"


def test_what_builds_the_image_is_pinned_wherever_it_builds() -> None:
    inputs = [(step["uses"].partition("@")[0], step.get("with", {})) for _, step in steps() if "uses" in step]
    for action, given in inputs:
        if action == "docker/setup-qemu-action":
            assert given["image"] == "${{ env.BINFMT }}"
        if action == "docker/setup-buildx-action":
            assert given["driver-opts"] == "image=${{ env.BUILDKIT }}"
        if action == "docker/build-push-action" and "load" not in given:
            assert given["sbom"] == "generator=${{ env.SBOM }}"
            assert given["provenance"] == "mode=max"


# --- who may do what ------------------------------------------------------------------------------------


def test_nothing_is_permitted_unless_a_job_says_so() -> None:
    for path in PATHS:
        assert load(path)["permissions"] == {}, path.name
    for where, _, job in jobs():
        assert isinstance(job.get("permissions"), dict), f"{where}: which permissions?"


def test_only_these_jobs_hold_anything() -> None:
    held = {where: found for where, _, job in jobs() if (found := privileges(job))}
    assert held == {
        "base.yml: renew": {"contents", "pull-requests"},
        "cleanup.yml: commits": {"packages"},
        "image.yml: publish": {"packages", "secrets.GHCR_TOKEN"},
        "image.yml: attest": {"id-token", "attestations"},
        # What it hands to image.yml.
        "release.yml: image": {"packages", "id-token", "attestations", "secrets.GHCR_TOKEN"},
        "release.yml: release": {"contents"},
    }


def test_who_holds_something_runs_no_scanner() -> None:
    for where, _, job in jobs():
        if privileges(job):
            assert not SCANNERS.search(yaml.safe_dump(job)), where


def test_who_scans_holds_nothing() -> None:
    scanning = [(where, job) for where, _, job in jobs() if SCANNERS.search(yaml.safe_dump(job))]
    assert [where for where, _ in scanning] == ["scan.yml: python"]
    for where, job in scanning:
        assert job["permissions"] == {"contents": "read"}, where
        assert "github.token" not in yaml.safe_dump(job), where


def test_who_holds_something_does_not_run_for_pull_requests() -> None:
    for where, workflow, job in jobs():
        if privileges(job):
            assert not for_pull_requests(workflow, job), where


def test_no_trigger_hands_secrets_to_strangers() -> None:
    for path in PATHS:
        assert not triggers(load(path)) & DANGEROUS, path.name


def test_who_holds_something_runs_actions_of_github_and_docker_only() -> None:
    for where, _, job in jobs():
        if privileges(job):
            owners = {step["uses"].partition("/")[0] for step in job.get("steps", []) if "uses" in step}
            # It may delete images of this package, and has nothing else: no secret, no checkout.
            alone = {"dataaxiom"} if where == "cleanup.yml: commits" else set()
            assert owners == alone or owners <= {"actions", "docker"}, where


def test_the_checked_out_files_have_no_token() -> None:
    for where, step in steps():
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, where


# --- what they run is there -----------------------------------------------------------------------------


def test_no_expression_is_pasted_into_a_script() -> None:
    for where, step in steps():
        assert "${{" not in step.get("run", ""), f"{where}: hand it over in env"


def test_a_failure_inside_a_pipe_is_a_failure() -> None:
    """With `shell: bash` GitHub sets pipefail; without it, not."""
    for path in PATHS:
        assert load(path)["defaults"] == {"run": {"shell": "bash"}}, path.name
    for where, step in steps():
        assert "shell" not in step, where


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    called = {name for _, step in steps() for name in re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))}
    assert called
    assert called <= targets


def test_files_that_are_named_exist() -> None:
    named = {
        (where, name)
        for where, step in steps()
        for name in re.findall(
            r"(?<![\w./-])(?:\.ci|\.github|tests|requirements)/[\w./-]+", step.get("run", "")
        )
    }
    assert {".ci/run", "tests/system_packages.sh"} <= {name for _, name in named}
    for where, name in named:
        assert (ROOT / name).exists(), f"{where}: {name}"


def test_scripts_that_are_called_by_name_can_be() -> None:
    for name in (".ci/run", "tests/system_packages.sh"):
        assert os.access(ROOT / name, os.X_OK), name


def test_each_python_that_we_claim_is_tested() -> None:
    claimed = re.findall(
        r"Programming Language :: Python :: (3\.\d+)", "\n".join(PYPROJECT["project"]["classifiers"])
    )
    matrix = load(GITHUB / "workflows" / "ci.yml")["jobs"]["python"]["strategy"]["matrix"]
    assert matrix == {"python": claimed}


def test_everything_is_run_once() -> None:
    running = [where for where, step in steps() if ".ci/run" in step.get("run", "")]
    assert [where.partition(",")[0] for where in running] == ["ci.yml: everything"]


# --- the image ------------------------------------------------------------------------------------------


def image() -> dict[str, Any]:
    return load(GITHUB / "workflows" / "image.yml")


def test_pull_requests_and_pushes_to_main_are_tested() -> None:
    assert "pull_request" in triggers(load(GITHUB / "workflows" / "ci.yml"))
    assert image()["on"]["push"] == {"branches": ["main"]}
    tests = image()["jobs"]["tests"]
    assert tests["uses"] == "$/.github/workflows/ci.yml"
    assert not for_pull_requests(image(), tests)  # ci.yml itself does


def test_nothing_is_published_that_was_not_tested() -> None:
    assert image()["jobs"]["publish"]["needs"] == "tests"
    assert image()["jobs"]["publish"]["if"] == "github.event_name == 'push'"  # and so: if the tests passed
    release = load(GITHUB / "workflows" / "release.yml")["jobs"]
    assert (release["image"]["needs"], release["release"]["needs"]) == ("check", "image")


def test_the_tags_move_last() -> None:
    """Pushed without a tag, looked at, started; only then do tags point to it."""
    publish = image()["jobs"]["publish"]["steps"]
    [build] = [step for step in publish if step.get("id") == "build"]
    assert build["with"]["tags"] == "${{ steps.name.outputs.name }}"
    assert "push-by-digest=true" in build["with"]["outputs"]
    assert "push" not in build["with"]
    scripts = [step.get("run", "") for step in publish[publish.index(build) :]]
    order = ["check_index.py", "docker run", "point_tags.py"]
    at = [next(number for number, script in enumerate(scripts) if part in script) for part in order]
    assert at == sorted(set(at))


def test_a_run_brings_its_own_tags_alone() -> None:
    """A release moves no sha-, and what moves from release to release is point_tags.py's to decide."""
    [meta] = [step["with"] for step in image()["jobs"]["publish"]["steps"] if step.get("id") == "meta"]
    assert meta["flavor"] == "latest=false"
    assert meta["tags"].splitlines() == [
        "type=ref,event=branch",
        "type=sha,enable=${{ github.ref_type == 'branch' }}",
        "type=semver,pattern={{version}}",
    ]


def test_publishing_can_be_made_to_ask() -> None:
    """An environment for main and one for releases; no other job holds what publishes."""
    assert (
        image()["jobs"]["publish"]["environment"] == "${{ github.ref_type == 'tag' && 'release' || 'main' }}"
    )
    for where, _, job in jobs():
        if privileges(job) & {"packages", "secrets.GHCR_TOKEN"} and "uses" not in job:
            assert "environment" in job, where


def test_both_architectures_are_built_checked_and_started() -> None:
    for name in ("build", "publish"):
        built = [
            step["with"]["platforms"]
            for step in image()["jobs"][name]["steps"]
            if "platforms" in step.get("with", {})
        ]
        assert "linux/amd64,linux/arm64" in built, name
    scripts = "\n".join(step.get("run", "") for step in image()["jobs"]["publish"]["steps"])
    assert scripts.count('check_index.py "$DIGEST" linux/amd64 linux/arm64') == 1
    assert "for platform in linux/amd64 linux/arm64; do" in scripts


def test_what_the_image_says_of_itself() -> None:
    """GitHub shows the annotations of the index; the Dockerfile has the labels, filled in by arguments."""
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    given = {step.get("id"): step["with"] for step in image()["jobs"]["publish"]["steps"] if "with" in step}
    arguments = [line.partition("=")[0] for line in given["build"]["build-args"].splitlines()]
    assert {"VERSION", "REVISION", "SOURCE"} == set(arguments)
    assert set(arguments) <= set(re.findall(r"^ARG (\w+)", dockerfile, re.MULTILINE))
    annotations = dict(line.split("=", 1) for line in given["meta"]["annotations"].splitlines())
    assert annotations == {
        f"org.opencontainers.image.{name}": PYPROJECT["project"][key]
        for name, key in [("title", "name"), ("description", "description"), ("licenses", "license")]
    }
    for name, value in annotations.items():
        assert f'{name}="{value}"' in dockerfile


def test_a_build_for_a_pull_request_is_not_pushed() -> None:
    build = yaml.safe_dump(image()["jobs"]["build"])
    assert not re.search(r"push: true|push=true|type=registry|login-action", build)


def test_called_workflows_do_not_wait_for_themselves() -> None:
    """github.workflow is the caller's name in a called workflow: both would be in one group."""
    groups = [load(path)["concurrency"]["group"] for path in PATHS]
    assert not [group for group in groups if "github.workflow" in group]
    assert len(set(groups)) == len(groups)


# --- cleanup.yml ----------------------------------------------------------------------------------------

DELETES = re.compile(
    r"delete-package-versions|ghcr-cleanup|delete-untagged|keep-n-untagged|-X DELETE|--method DELETE"
)


def cleanup() -> dict[str, Any]:
    [step] = load(GITHUB / "workflows" / "cleanup.yml")["jobs"]["commits"]["steps"]
    assert step["uses"].startswith("dataaxiom/ghcr-cleanup-action@")
    assert isinstance(step["with"], dict)
    return step["with"]


def test_nothing_else_deletes_images() -> None:
    found = [where for where, step in steps() if DELETES.search(yaml.safe_dump(step))]
    assert found == ["cleanup.yml: commits, step 1"]


def test_what_is_untagged_is_never_deleted_for_that() -> None:
    """An index's images and attestations are untagged. Without a rule the action would delete them."""
    given = cleanup()
    assert given["delete-untagged"] is False
    assert given["delete-tags"]
    assert not [
        name for name in given if name.startswith("keep-n") or "orphaned" in name or "partial" in name
    ]


@pytest.mark.parametrize(
    ("tags", "ends"),
    [
        ("sha-0123abc", True),
        ("sha-0123abc main", False),
        ("sha-0123abc latest", False),
        ("sha-0123abc 1.2.3 1.2 1", False),
        ("1.2.3 1.2 1", False),
        ("main latest", False),
        ("0.1.0-1a2b3c", False),
        ("sha256-" + "0" * 64, False),
        ("sha256:" + "0" * 64, False),
        ("", False),
    ],
)
def test_what_ends_after_90_days(tags: str, ends: bool) -> None:
    given = cleanup()
    assert (given["use-regex"], given["older-than"]) == (True, "90 days")
    matching = [
        any(re.search(given[name], tag) for tag in tags.split()) for name in ("delete-tags", "exclude-tags")
    ]
    assert (matching == [True, False]) is ends


def test_the_action_takes_these_patterns() -> None:
    """It refuses a repetition within a repetition."""
    for name in ("delete-tags", "exclude-tags"):
        assert not re.search(r"[+*?}]\)[+*?{]", cleanup()[name]), name


@pytest.mark.parametrize(
    ("event", "variable", "chosen", "dry"),
    [
        ("schedule", "", False, True),
        ("schedule", "delete", False, False),
        ("schedule", "yes", False, True),
        ("workflow_dispatch", "", False, True),
        ("workflow_dispatch", "delete", False, True),
        ("workflow_dispatch", "", True, False),
    ],
)
def test_it_deletes_only_when_told_to(event: str, variable: str, chosen: bool, dry: bool) -> None:
    expression = re.fullmatch(r"\$\{\{ (.+) \}\}", cleanup()["dry-run"])
    assert expression
    python = expression[1].replace("!(", "not (").replace("&&", "and").replace("||", "or")
    for name, value in [("github.event_name", event), ("vars.CLEANUP", variable), ("inputs.delete", chosen)]:
        assert name in python
        python = python.replace(name, repr(value))
    assert eval(python) is dry
    [inputs] = load(GITHUB / "workflows" / "cleanup.yml")["on"]["workflow_dispatch"].values()
    assert inputs["delete"]["default"] is False


# --- docs/releasing.md ----------------------------------------------------------------------------------

RELEASING = (ROOT / "docs" / "releasing.md").read_text("utf-8")


def test_the_page_says_what_to_set_for_each_environment() -> None:
    used = set(
        re.findall(r"\b(?:release|main|cleanup)\b", str([job.get("environment") for _, _, job in jobs()]))
    )
    assert used == {"release", "main", "cleanup"}
    told = RELEASING.partition("*Settings, Environments*")[2].partition("Rulesets")[0]
    assert set(re.findall(r"^\d\. \*(\w+)\*", told, re.MULTILINE)) == used
    assert "`v*`" in told
    assert load(GITHUB / "workflows" / "release.yml")["on"]["push"]["tags"] == ["v*"]


def test_the_page_says_when_images_of_single_commits_end() -> None:
    assert f"it ends after {cleanup()['older-than']}" in RELEASING
    assert f"`sha-...` tags end after {cleanup()['older-than']}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "`CLEANUP` set to `delete`" in RELEASING


def test_the_page_names_what_is_there() -> None:
    named = set(re.findall(r"`(\.github/workflows/[\w.]+)`", RELEASING))
    assert named == {f".github/workflows/{name}.yml" for name in ("release", "cleanup", "base")}
    for name in named:
        assert (ROOT / name).is_file(), name


def test_the_days_on_the_page_are_those_of_the_schedules() -> None:
    for name, day, number in [("cleanup", "Sunday", "0"), ("base", "Tuesday", "2")]:
        [schedule] = load(GITHUB / "workflows" / f"{name}.yml")["on"]["schedule"]
        assert schedule["cron"].split()[2:] == ["*", "*", number]
        assert re.search(rf"{name}\.yml`[^.]+every {day}", RELEASING)


# --- .github/scripts/check_index.py ---------------------------------------------------------------------

PLATFORMS = ["linux/amd64", "linux/arm64"]
OCI = "application/vnd.oci.image."


def entry(platform: str, attests: str = "") -> dict[str, Any]:
    """A line of an index, as BuildKit writes it."""
    system, architecture = platform.split("/")
    digest = f"sha256:{hashlib.sha256((platform + attests).encode()).hexdigest()}"
    annotations = {
        "vnd.docker.reference.digest": attests,
        "vnd.docker.reference.type": "attestation-manifest",
    }
    return {
        "mediaType": f"{OCI}manifest.v1+json",
        "digest": digest,
        "size": 1234,
        "platform": {"architecture": architecture, "os": system},
    } | ({"annotations": annotations} if attests else {})


def check_index(manifest: dict[str, Any], digest: str = "") -> list[str]:
    raw = json.dumps(manifest).encode()
    found = read_script("check_index").problems(
        raw, digest or f"sha256:{hashlib.sha256(raw).hexdigest()}", PLATFORMS
    )
    assert isinstance(found, list)
    return found


def index(*entries: dict[str, Any], media_type: str = f"{OCI}index.v1+json") -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": media_type, "manifests": list(entries)}


AMD64, ARM64 = entry("linux/amd64"), entry("linux/arm64")
ATTESTED = [entry("unknown/unknown", AMD64["digest"]), entry("unknown/unknown", ARM64["digest"])]


def test_an_index() -> None:
    assert check_index(index(AMD64, ARM64, *ATTESTED)) == []


def test_a_single_image_is_no_index() -> None:
    [problem] = check_index({"schemaVersion": 2, "mediaType": f"{OCI}manifest.v1+json", "layers": []})
    assert f"'{OCI}manifest.v1+json', not an index" in problem


def test_another_digest() -> None:
    [problem] = check_index(index(AMD64, ARM64, *ATTESTED), digest="sha256:" + "0" * 64)
    assert "not sha256:0000" in problem


def test_an_architecture_that_is_missing() -> None:
    assert check_index(index(AMD64, *ATTESTED)) == [
        "There is no image for linux/arm64, only for linux/amd64, unknown/unknown."
    ]


def test_attestations_that_are_missing() -> None:
    assert check_index(index(AMD64, ARM64, ATTESTED[0])) == [
        "The image for linux/arm64 has no attestations. Build with provenance and sbom."
    ]


# --- .github/scripts/release_notes.py -------------------------------------------------------------------

CHANGES = """# Changes

## Unreleased

- Later.

## 1.2.3 (2027-01-31)

- New.

### More

- Text.

## 1.2.2

- Old.
"""


def release_notes(directory: Path, tag: str, changes: str = CHANGES, version: str = "1.2.3") -> str:
    (directory / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')
    (directory / "CHANGELOG.md").write_text(changes)
    script = read_script("release_notes")
    try:
        return str(script.notes(tag, directory))
    except script.NotReady as problem:
        return f"NotReady: {problem}"


def test_the_section_of_the_release(tmp_path: Path) -> None:
    assert release_notes(tmp_path, "v1.2.3") == "- New.\n\n### More\n\n- Text."


@pytest.mark.parametrize(
    ("tag", "changes", "version", "expected"),
    [
        ("v1.2.3", CHANGES, "1.2.4", "The tag says 1.2.3, pyproject.toml says 1.2.4."),
        ("v1.2", CHANGES, "1.2", "The tag 'v1.2' is not vX.Y.Z"),
        ("v1.2.3-rc.1", CHANGES, "1.2.3rc1", "is not vX.Y.Z"),
        ("v1.2.4", CHANGES, "1.2.4", "has no sections '## 1.2.4'"),
        ("v1.2.3", CHANGES + "\n## 1.2.3\n\n- Again.\n", "1.2.3", "has 2 sections"),
        ("v1.2.3", "# Changes\n\n## 1.2.3\n\n## 1.2.2\n\n- Old.\n", "1.2.3", "is empty"),
    ],
)
def test_what_is_no_release(tmp_path: Path, tag: str, changes: str, version: str, expected: str) -> None:
    found = release_notes(tmp_path, tag, changes, version)
    assert found.startswith("NotReady: ")
    assert expected in found
    assert "tag" in found.lower()


@pytest.mark.parametrize(
    ("tag", "there", "asked"),
    [
        (
            "v1.10.0",
            False,
            "release create v1.10.0 --verify-tag --title v1.10.0 --notes-file {} --latest=true",
        ),
        ("v1.9.0", False, "release create v1.9.0 --verify-tag --title v1.9.0 --notes-file {} --latest=false"),
        ("v1.9.0", True, "release edit v1.9.0 --verify-tag --title v1.9.0 --notes-file {} --latest=false"),
    ],
)
def test_the_newest_release_is_the_latest_at_github_too(
    tmp_path: Path, tag: str, there: bool, asked: str
) -> None:
    gh = Gh(tmp_path / "home")
    gh.answer("release view", "exit 0" if there else "exit 1")
    version = tag.removeprefix("v")
    (tmp_path / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')
    (tmp_path / "CHANGELOG.md").write_text(f"# Changes\n\n## {version}\n\n- New.\n")
    (tmp_path / ".github").symlink_to(GITHUB)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "1"], check=True)
    for each in ("v1.10.0", "v1.9.0", "v1.9.1", "v2.0.0-rc.1", "vacation"):
        subprocess.run([*git, "tag", each], check=True)
    done = workflows.run(
        workflows.step("release", "release", "Release"),
        tmp_path,
        {"GH_TOKEN": "", "IMAGE": "ghcr.io/someone/smtp-relay@sha256:0123"},
        {**gh.machine, "GITHUB_REF_NAME": tag, "RUNNER_TEMP": str(tmp_path)},
    )
    assert done.status == 0, done.output
    notes = tmp_path / "notes.md"
    assert gh.asked() == [f"release view {tag}", asked.format(notes)]
    assert notes.read_text() == "- New.\n\n`ghcr.io/someone/smtp-relay@sha256:0123`\n"


def test_our_change_log_is_written_so() -> None:
    headings = re.findall(r"^## +(.+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings
    for heading in headings:
        assert re.fullmatch(r"Unreleased|\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", heading), heading


# --- dependabot.yml -------------------------------------------------------------------------------------


def updates() -> list[dict[str, Any]]:
    found = load(GITHUB / "dependabot.yml")["updates"]
    assert isinstance(found, list)
    return found


def test_updates_wait_and_come_together() -> None:
    assert {update["package-ecosystem"] for update in updates()} == {"github-actions", "pip", "docker"}
    for update in updates():
        assert update["cooldown"] == {"default-days": 7}, update
        assert update["groups"], update


def test_updates_look_where_something_is() -> None:
    wanted = {
        "github-actions": ".github/workflows/*.yml",
        "pip": "**/requirements*/*.txt",
        "docker": "Dockerfile",
    }
    for update in updates():
        directory = ROOT / update["directory"].lstrip("/")
        pattern = "requirements.txt" if directory != ROOT else wanted[update["package-ecosystem"]]
        assert next(directory.glob(pattern), None), update


def test_what_is_pinned_twice_is_not_updated() -> None:
    pins = re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / "dev.txt").read_text("utf-8"), re.MULTILINE)
    twice = {name for name in pins if pins.count(name) > 1}
    ignored = {rule["dependency-name"] for update in updates() for rule in update.get("ignore", [])}
    assert ignored == twice
