"""The tag that an image's content gives it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from ansible.errors import AnsibleLookupError
from ansible.plugins.loader import lookup_loader

REPOSITORY = Path(__file__).resolve().parents[3]
ALLOWLIST = (
    "# What is built\n*\n!Dockerfile\n!pyproject.toml\n!app\n!requirements/app.txt\n**/__pycache__\n**/.*\n"
)


@pytest.fixture(scope="session")
def tag() -> Callable[..., str]:
    lookup_loader.add_directory(str(REPOSITORY / "plugins/lookup"))

    def of(context: Path, *arguments: str) -> str:
        [found] = lookup_loader.get("image_tag").run([str(context)], arguments=list(arguments))
        return str(found)

    return of


@pytest.fixture
def context(tmp_path: Path) -> Path:
    for name, content in {
        ".dockerignore": ALLOWLIST,
        "Dockerfile": "FROM scratch\n",
        "pyproject.toml": '[project]\nversion = "1.2.3"\n',
        "app/__init__.py": "",
        "app/deep/module.py": "x = 1\n",
        "requirements/app.txt": "flask\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path


def test_it_is_the_version_and_a_digest(tag: Callable[..., str], context: Path) -> None:
    assert re.fullmatch(r"1\.2\.3-[0-9a-f]{12}", tag(context))
    assert tag(context) == tag(context)


def test_the_same_content_elsewhere_has_the_same_tag(
    tag: Callable[..., str], context: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("copy") / "deeper"
    context.rename(other)
    before = tag(other)
    for path in sorted(other.rglob("*"), reverse=True):
        path.touch()
    other.rename(context)
    assert tag(context) == before


@pytest.mark.parametrize(
    "file", ["Dockerfile", "pyproject.toml", "app/__init__.py", "app/deep/module.py", "requirements/app.txt"]
)
def test_each_file_of_the_context_counts(tag: Callable[..., str], context: Path, file: str) -> None:
    before = tag(context)
    path = context / file
    path.write_text(path.read_text() + "\n")
    assert tag(context) != before


def test_names_count_too_and_new_files_and_the_executable_bit(tag: Callable[..., str], context: Path) -> None:
    tags = [tag(context)]
    (context / "app/new").touch()
    tags.append(tag(context))
    (context / "app/new").rename(context / "app/newer")
    tags.append(tag(context))
    (context / "app/newer").chmod(0o755)
    tags.append(tag(context))
    (context / "app/newer").unlink()
    assert len(set(tags)) == 4
    assert tag(context) == tags[0]


def test_content_does_not_move_from_one_file_into_the_next(tag: Callable[..., str], context: Path) -> None:
    (context / "app/a").write_text("12")
    (context / "app/b").write_text("3")
    before = tag(context)
    (context / "app/a").write_text("1")
    (context / "app/b").write_text("23")
    assert tag(context) != before


@pytest.mark.parametrize(
    "file",
    [
        "README.md",
        "requirements/dev.txt",
        "tests/test.py",
        "app/__pycache__/module.pyc",
        "app/deep/__pycache__/module.pyc",
        "app/.module.swp",
        "app/.cache/x",
        ".env",
    ],
)
def test_what_the_image_does_not_get_does_not_count(
    tag: Callable[..., str], context: Path, file: str
) -> None:
    before = tag(context)
    path = context / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    assert tag(context) == before


def test_what_it_is_built_with_counts(tag: Callable[..., str], context: Path) -> None:
    tags = {tag(context), tag(context, "python:3.13"), tag(context, "python:3.14"), tag(context, "a", "b")}
    assert len(tags | {tag(context, "ab")}) == 5


@pytest.mark.parametrize("rules", ["*\n!app\nREADME.md\n", "!app\n", "", "*\n!app\nbuild/\n"])
def test_only_an_allowlist_is_understood(tag: Callable[..., str], context: Path, rules: str) -> None:
    (context / ".dockerignore").write_text(rules)
    with pytest.raises(AnsibleLookupError, match="must be an allowlist"):
        tag(context)


@pytest.mark.parametrize("missing", ["pyproject.toml", ".dockerignore"])
def test_a_context_that_is_not_whole_is_named(tag: Callable[..., str], context: Path, missing: str) -> None:
    (context / missing).unlink()
    with pytest.raises(AnsibleLookupError, match=f"Cannot read the build context .*{re.escape(missing)}"):
        tag(context)


def test_the_repositorys_allowlist_is_what_its_dockerfile_copies() -> None:
    copied = set()
    for line in (REPOSITORY / "Dockerfile").read_text().splitlines():
        if match := re.match(r"COPY (?!--from)(.+) \S+$", line):
            copied |= set(match[1].split())
    rules = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert {rule[1:] for rule in rules if rule.startswith("!")} == {"Dockerfile", *copied}


def test_the_repositorys_context_has_the_code_and_nothing_that_was_left_over(
    plugin: Callable[[str], ModuleType],
) -> None:
    context = plugin("lookup/image_tag")._context(REPOSITORY)
    files = {path.relative_to(REPOSITORY).as_posix() for path in context}
    assert {"Dockerfile", "relay_app/cli.py", "sandbox/__main__.py", "requirements/relay.txt"} <= files
    assert not [name for name in files if "__pycache__" in name or "/." in name]
    assert not [name for name in files if name.startswith(("tests/", "inventories/", "roles/"))]


def test_the_repository_has_a_tag(tag: Callable[..., str]) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+-[0-9a-f]{12}", tag(REPOSITORY))
