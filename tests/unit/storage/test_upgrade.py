"""Migrations: from every older schema, never from a newer one, all or nothing."""

import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from structlog.testing import capture_logs

from relay_app.errors import StoreError
from relay_app.storage import upgrade
from relay_app.storage.blobs import StoredBlobs
from relay_app.storage.schema import VERSION, metadata, program
from relay_app.storage.store import Store

NEXT = f"{int(VERSION) + 1:04}"


def test_the_migrations_make_the_tables_of_the_schema(store: Store) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with store.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_schemas_version_is_the_last_migration() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(upgrade.MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [VERSION]
    assert all(
        script.revision.isdecimal() and len(script.revision) == 4 for script in scripts.walk_revisions()
    )


def test_an_upgrade_that_was_begun_by_nobody(url: str, tmp_path: Path) -> None:
    """Alembic's table without a version: what `alembic stamp base` leaves."""
    store = Store.open(url, tmp_path)
    with store.writing() as connection:
        metadata.drop_all(connection)
        connection.execute(text("DELETE FROM alembic_version"))
    store.close()
    again = Store.open(url, tmp_path)
    assert StoredBlobs(again).names() == []
    again.close()


def test_a_newer_schema_is_refused_and_left_alone(url: str, tmp_path: Path) -> None:
    store = Store.open(url, tmp_path)
    StoredBlobs(store).store("me", b"data")
    with store.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="is newer than this program: its schema is 9999") as caught:
        Store.open(url, tmp_path)
    assert f"smtp-relay {version('smtp-relay')} knows {VERSION}. Nothing was changed. " in str(caught.value)
    assert StoredBlobs(store).load("me") == b"data"
    store.close()


def test_the_schema_of_another_program_is_refused(url: str, tmp_path: Path) -> None:
    store = Store.open(url, tmp_path)
    with store.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'ae1027a6acf'"))
    store.close()
    with pytest.raises(StoreError, match=r"belongs to another program.* schema version ae1027a6acf"):
        Store.open(url, tmp_path)


def test_tables_of_another_program_are_left_alone(url: str, tmp_path: Path) -> None:
    store = Store.open(url, tmp_path)
    with store.writing() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
    store.close()
    with pytest.raises(StoreError, match=r"tables of another program \(attempt, blob, device"):
        Store.open(url, tmp_path)


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Gives the program one migration more, with these lines."""

    def give(lines: str) -> None:
        directory = tmp_path / "100% migrations"
        shutil.copytree(upgrade.MIGRATIONS, directory, ignore=shutil.ignore_patterns("__pycache__"))
        code = (
            f'from alembic import op\nrevision = "{NEXT}"\ndown_revision = "{VERSION}"\n'
            f"def upgrade():\n{lines}"
        )
        (directory / "versions" / f"{NEXT}_next.py").write_text(code)
        monkeypatch.setattr(upgrade, "MIGRATIONS", directory)
        monkeypatch.setattr(upgrade.schema, "VERSION", NEXT)

    return give


def test_an_older_schema_is_upgraded(url: str, tmp_path: Path, next_version: Callable[[str], None]) -> None:
    old = Store.open(url, tmp_path)
    StoredBlobs(old).store("me", b"data")
    old.close()
    next_version('    op.execute("CREATE TABLE more (name TEXT)")')
    new = Store.open(url, tmp_path)
    assert StoredBlobs(new).load("me") == b"data"
    with new.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM more")).scalar() == 0
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == NEXT
    new.close()


def test_a_failed_upgrade_leaves_the_old_schema(
    url: str, tmp_path: Path, next_version: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Store.open(url, tmp_path)
    StoredBlobs(old).store("me", b"data")
    old.close()
    next_version(
        '    op.execute("CREATE TABLE more (name TEXT)")\n'
        '    op.execute("DELETE FROM blob")\n'
        '    op.execute("CREATE TABLE blob (name TEXT)")\n'
    )
    with pytest.raises(StoreError, match="already exists"):
        Store.open(url, tmp_path)
    monkeypatch.undo()
    again = Store.open(url, tmp_path)
    assert StoredBlobs(again).load("me") == b"data"
    with pytest.raises(StoreError), again.reading() as connection:
        connection.execute(text("SELECT * FROM more"))
    again.close()


# Who used it last.


@pytest.fixture
def image_tag(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """From now on the program came in an image of this tag."""
    return lambda tag: monkeypatch.setattr("relay_app.image.tag", lambda: tag)


def notes(store: Store) -> list[dict[str, str]]:
    with store.reading() as connection:
        return [{**row} for row in connection.execute(select(program).order_by(program.c.schema)).mappings()]


def this(tag: str, schema: str = VERSION) -> dict[str, str]:
    return {"schema": schema, "version": version("smtp-relay"), "tag": tag}


RELEASE = "the image with the tag 0.3.0, which used it last, or a newer one"


@pytest.mark.parametrize(
    ("tag", "told"),
    [
        ("0.3.0", RELEASE),
        ("main", "the image with the tag main, which used it last, or a newer one"),
        ("0.1.0-1a2b3c", "the image with the tag 0.1.0-1a2b3c, which used it last, or a newer one"),
        ("", f"smtp-relay {version('smtp-relay')}, which used it last, or the image with the tag main"),
    ],
)
def test_the_refusal_names_what_to_run(
    url: str,
    tmp_path: Path,
    next_version: Callable[[str], None],
    image_tag: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    tag: str,
    told: str,
) -> None:
    image_tag("0.2.0")
    Store.open(url, tmp_path).close()
    image_tag(tag)
    next_version("    pass")
    new = Store.open(url, tmp_path)
    before = notes(new)
    monkeypatch.undo()  # the older program, as it was
    with pytest.raises(StoreError) as caught:
        Store.open(url, tmp_path)
    assert str(caught.value) == (
        f"The database {new.place} is newer than this program: its schema is {NEXT}, smtp-relay "
        f"{version('smtp-relay')} knows {VERSION}. Nothing was changed. Run {told}; or restore a backup of "
        "the database from before the upgrade."
    )
    assert notes(new) == before == [this("0.2.0"), this(tag, NEXT)]
    new.close()


@pytest.mark.parametrize("statement", ["DELETE FROM program", "DROP TABLE program"])
def test_nobody_noted_it(url: str, tmp_path: Path, statement: str) -> None:
    store = Store.open(url, tmp_path)
    with store.writing() as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{NEXT}'"))
        connection.execute(text(statement))
    store.close()
    with pytest.raises(StoreError, match="Run the image that used it last, or the one with the tag main;"):
        Store.open(url, tmp_path)


def test_the_files_of_a_refused_database_stay_as_they_are(tmp_path: Path) -> None:
    store = Store.open("", tmp_path)
    with store.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(StoreError):
        Store.open("", tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_whoever_opened_it_last_is_noted(url: str, tmp_path: Path, image_tag: Callable[[str], None]) -> None:
    for tag in ("main", "0.3.0", "0.3.0", "0.3.1"):
        image_tag(tag)
        store = Store.open(url, tmp_path)
        assert notes(store) == [this(tag)]
        store.close()


def test_a_failed_upgrade_notes_nobody(
    url: str,
    tmp_path: Path,
    next_version: Callable[[str], None],
    image_tag: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Store.open(url, tmp_path).close()
    image_tag("0.3.0")
    next_version('    op.execute("CREATE TABLE program (name TEXT)")')
    with pytest.raises(StoreError, match="already exists"):
        Store.open(url, tmp_path)
    monkeypatch.undo()
    store = Store.open(url, tmp_path)
    assert notes(store) == [this("")]
    store.close()


def test_an_upgrade_that_cannot_be_noted_is_none(
    url: str, tmp_path: Path, next_version: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the next older program would be told of one that is too old."""
    Store.open(url, tmp_path).close()
    next_version('    op.execute("DROP TABLE program")')
    with pytest.raises(StoreError, match="program"):
        Store.open(url, tmp_path)
    monkeypatch.undo()
    store = Store.open(url, tmp_path)
    assert notes(store) == [this("")]
    store.close()


def test_two_versions_that_start_at_once(
    url: str,
    tmp_path: Path,
    next_version: Callable[[str], None],
    image_tag: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The older one has seen its own schema, and writes its note only after the newer one's upgrade."""
    older = Store.open(url, tmp_path)
    image_tag("0.3.0")
    next_version("    pass")
    Store.open(url, tmp_path).close()
    monkeypatch.undo()
    image_tag("0.2.0")
    older._note()
    assert notes(older) == [this("0.2.0"), this("0.3.0", NEXT)]
    older.close()
    with pytest.raises(StoreError, match=RELEASE):
        Store.open(url, tmp_path)


def test_the_relay_starts_though_its_note_cannot_be_written(
    tmp_path: Path, image_tag: Callable[[str], None], file_limit: Callable[[int], None]
) -> None:
    """The disk is full: what was noted before can be run as well."""
    image_tag("0.3.0")
    first = Store.open("", tmp_path)
    file_limit((tmp_path / "relay.db-wal").stat().st_size)
    image_tag("0.3.1")
    with capture_logs() as events:
        second = Store.open("", tmp_path)
    assert [(event["event"], event["log_level"]) for event in events] == [("database_not_noted", "warning")]
    assert "room" in events[0]["error"]
    assert notes(second) == [this("0.3.0")]
    file_limit(-1)
    StoredBlobs(second).store("me", b"data")
    second.close()
    first.close()


def test_the_relay_starts_though_it_may_not_note_itself(
    postgres: Any, tmp_path: Path, image_tag: Callable[[str], None]
) -> None:
    url = postgres.new_database()
    image_tag("0.3.0")
    Store.open(url, tmp_path).close()
    database = url.rsplit("/", 1)[1]
    postgres.execute("DROP ROLE IF EXISTS reader")
    postgres.execute(f"CREATE ROLE reader LOGIN PASSWORD '{postgres.password}'")
    postgres.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO reader", database)
    postgres.execute("REVOKE INSERT, UPDATE ON program FROM reader", database)
    image_tag("0.3.1")
    with capture_logs() as events:
        store = Store.open(postgres.url(database, user="reader"), tmp_path)
    assert [event["event"] for event in events] == ["database_not_noted"]
    assert "the user may not do that" in events[0]["error"]
    assert notes(store) == [this("0.3.0")]
    store.close()
