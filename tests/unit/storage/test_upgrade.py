"""Migrations: from every older schema, never from a newer one, all or nothing."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from relay_app.errors import StoreError
from relay_app.storage import upgrade
from relay_app.storage.blobs import StoredBlobs
from relay_app.storage.schema import VERSION, metadata
from relay_app.storage.store import Store


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
    with pytest.raises(StoreError, match="newer version of this program: its schema is 9999") as caught:
        Store.open(url, tmp_path)
    assert "Run the newer version again" in str(caught.value)
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
    """Gives the program a migration 0002 with these lines."""

    def give(lines: str) -> None:
        directory = tmp_path / "100% migrations"
        shutil.copytree(upgrade.MIGRATIONS, directory, ignore=shutil.ignore_patterns("__pycache__"))
        code = (
            f'from alembic import op\nrevision = "0002"\ndown_revision = "{VERSION}"\ndef upgrade():\n{lines}'
        )
        (directory / "versions" / "0002_next.py").write_text(code)
        monkeypatch.setattr(upgrade, "MIGRATIONS", directory)
        monkeypatch.setattr(upgrade.schema, "VERSION", "0002")

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
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "0002"
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
