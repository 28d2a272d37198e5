"""What the documents say of the code is complete, and their links lead somewhere."""

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

import relay_app
from relay_app import cli, settings
from relay_app.delivery.replies import TABLE, Row
from relay_app.errors import StoreError
from relay_app.identity import aadsts
from relay_app.resources import open_all
from relay_app.storage.store import Store

SOURCE = Path(relay_app.__file__).parent
ROOT = SOURCE.parent
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
ERRORS = (ROOT / "docs" / "errors.md").read_text("utf-8")
OPERATING = (ROOT / "docs" / "operating.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")

# How docs/errors.md writes what depends on the settings.
_NAMES = {"mailbox": "MAILBOX", "app": "APP", "tenant": "TENANT"}


def rows(document: str) -> list[list[str]]:
    """The rows of all tables of a Markdown document, as cells; without escapes."""
    lines = [line for line in document.splitlines() if line.startswith("|")]
    return [[cell.replace("\\", "").strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def plain(text: str) -> str:
    """Text of the code as a table has it: with one space between words."""
    return " ".join(text.split())


def test_tables_have_as_many_cells_as_their_head() -> None:
    for document in DOCUMENTS:
        for table in re.findall(r"(?:^\|.*\n)+", document.read_text("utf-8"), re.MULTILINE):
            assert len({len(row) for row in rows(table)}) == 1, f"{document.name}:\n{table}"


# --- docs/errors.md -------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", TABLE, ids=lambda known: known.key)
def test_each_reply_of_outlook(known: Row) -> None:
    [row] = [row for row in rows(ERRORS) if row[0] == f"`{known.key}`"]
    assert row[1]
    assert row[2:] == [known.outcome.value, plain(known.sentence), plain(known.action)]


def test_no_reply_that_is_gone() -> None:
    table = ERRORS.split("\n## Outlook refuses", 1)[1].split("\n## ", 1)[0]
    keys = [row[0].strip("`") for row in rows(table)[2:]]
    assert keys == [known.key for known in TABLE]  # in this order: the first that fits decides


def _explained() -> Iterator[tuple[str, tuple[str, str]]]:
    yield from ((f"AADSTS{number}", words) for number, words in aadsts._CODES.items())
    yield from ((f"`{name}`", words) for name, words in aadsts._SUBERRORS.items())


def test_each_error_of_the_token_service() -> None:
    described = {
        code: row[1:]
        for row in rows(ERRORS.split("\n## Microsoft refuses", 1)[1])
        for code in row[0].split(", ")
    }
    for code, (sentence, action) in _explained():
        words = [plain(text.format_map(_NAMES)) for text in (sentence, action)]
        assert described.get(code) == words, code
    numbers = {code for code in described if code.startswith("AADSTS")}
    assert numbers == {f"AADSTS{number}" for number in aadsts._CODES}


def test_each_cause_without_a_reply() -> None:
    """The keys that the code gives verdicts which are not Outlook's, and exceptions to that rule."""
    keys = {"unconfirmed", "no-token", "sign-in-needed"}
    for file in SOURCE.rglob("*.py"):
        keys.update(re.findall(r"unreached\(\s*\"([a-z-]+)\"", file.read_text("utf-8")))
    table = ERRORS.split("\n## Outlook could not be asked", 1)[1].split("\n## ", 1)[0]
    assert {row[0].strip("`") for row in rows(table)[2:]} == keys


def test_a_database_that_is_newer(tmp_path: Path) -> None:
    store = Store.open("", tmp_path)
    with store.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    with pytest.raises(StoreError) as caught:
        Store.open("", tmp_path)
    said = str(caught.value).replace(f" {tmp_path / 'relay.db'} ", " \u2026 ").partition(":")[0]
    assert said in [row[0] for row in rows(ERRORS)]


# --- docs/operating.md ----------------------------------------------------------------------------------


def _texts(node: ast.expr) -> list[str]:
    """The texts that an expression can be: a constant, or one of two."""
    if isinstance(node, ast.IfExp):
        return _texts(node.body) + _texts(node.orelse)
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def _events() -> Iterator[tuple[str, str, set[str]]]:
    """Each event that the relay logs: where, its name, the fields that are named on the spot."""
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="_log" | "log"), attr=method), args=[*arguments]
                ) if method in {"debug", "info", "warning", "error", "exception", "log"}:
                    fields = {keyword.arg for keyword in node.keywords if keyword.arg} - {"exc_info"}
                    names = _texts(arguments[-1])
                    assert names, f"{file}:{node.lineno}: an event without a name"
                    for name in names:
                        yield f"{file.name}:{node.lineno}", name, fields


def test_each_event_of_the_log() -> None:
    described = {
        row[0].strip("`"): set(re.findall(r"`(\w+)`", row[2]))
        for row in rows(OPERATING.split("\n## The log", 1)[1])
        if row[0].startswith("`")
    }
    logged = list(_events())
    assert len(logged) > 25
    for where, name, fields in logged:
        assert name in described, f"{where}: {name} is not in docs/operating.md"
        assert fields <= described[name], f"{where}: docs/operating.md lacks fields of {name}"
    assert described.keys() == {name for _, name, _ in logged}


def _commands(group: click.Group, prefix: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name


def test_each_command_has_its_exit_status() -> None:
    table = OPERATING.split("\n| status |", 1)[1].split("\n\n", 1)[0]
    described = re.findall(r"`([^`]+)`", " ".join(row[1] for row in rows(table)))
    assert sorted(described) == sorted(_commands(cli.main))


def test_each_file_in_the_data_directory(tmp_path: Path) -> None:
    """What a relay with the fewest settings has there while it runs, and the modes."""
    environ = {
        "CLIENT_ID": "00000000-0000-0000-0000-000000000001",
        "USER_EMAIL": "me@outlook.com",
        "TENANT_ID": "consumers",
        "RELAY_PASSWORD": "a password of a device",
        "RELAY_DATA_DIR": str(tmp_path),
    }
    with capture_logs():
        opened = open_all(settings.load(environ))
    opened.vault.store("me@outlook.com", b"a sign-in")
    found = {}
    for path in tmp_path.rglob("*"):
        name = f"{path.relative_to(tmp_path)}{'/' if path.is_dir() else ''}"
        found[name] = f"{path.stat().st_mode & 0o7777:04o}"
    opened.store.close()
    table = OPERATING.split("\n## The data directory", 1)[1].split("\n\n", 2)[1]
    described = {name: row[1] for row in rows(table)[2:] for name in re.findall(r"`([^`]+)`", row[0])}
    assert described == found


# --- README.md ------------------------------------------------------------------------------------------


def _variables() -> set[str]:
    single = {
        *settings._MAILBOX.values(),
        *settings._MAILBOX_SECRETS.values(),
        *settings._DEVICE_SECRETS.values(),
    }
    return {"RELAY_CONFIG", *single, *(f"RELAY_{name.upper()}" for name in settings._RELAY)}


def test_each_setting() -> None:
    table = README.split("\n## Settings", 1)[1].split("\n### ", 1)[0]
    described = re.findall(r"`([A-Z_]+)`", " ".join(row[0] for row in rows(table)))
    assert sorted(described) == sorted(_variables())


def test_each_default() -> None:
    table = README.split("\n## Settings", 1)[1].split("\n### ", 1)[0]
    cells = {row[0].strip("`"): row[1].strip("`") for row in rows(table)}
    for name, default in settings._RELAY.items():
        variable = f"RELAY_{name.upper()}"
        if default:
            assert cells[variable] == default, variable


def test_each_limit_and_its_default() -> None:
    block = README.split("\n[limits]", 1)[1].split("```", 1)[0]
    described = dict(re.findall(r"^(\w+) = (\d+)", block, re.MULTILINE))
    limits = {
        field.name: f"{field.default:g}"
        for field in dataclasses.fields(settings.Limits)
        if field.type is float
    }
    limits |= {
        field.name: str(field.default) for field in dataclasses.fields(settings.Limits) if field.type is int
    }
    assert described == limits


@pytest.mark.parametrize("document", [README, ERRORS, OPERATING], ids=["README", "errors", "operating"])
def test_each_variable_that_is_named_exists(document: str) -> None:
    known = _variables()
    for name in re.findall(r"\bRELAY_[A-Z]+(?:_[A-Z]+)*\b", document):
        assert name in known or name.removesuffix("_FILE") in known, name


# --- links ----------------------------------------------------------------------------------------------


def _anchors(document: Path) -> set[str]:
    """The anchors that GitHub makes of headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_each_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), target
        if anchor:
            assert anchor in _anchors(file), target
