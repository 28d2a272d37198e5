"""relay_app.resources: what can be opened, and everything that cannot be, at once."""

import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.fernet import Fernet
from structlog.testing import capture_logs

from relay_app.errors import SettingsError, StoreError, VaultError
from relay_app.identity.vault import Rekeyed, Vault, create_key_file, read_key_file
from relay_app.resources import check_files, open_all, open_vault, rekey_vault
from relay_app.settings import Settings, load
from relay_app.storage.blobs import StoredBlobs
from relay_app.storage.store import Store


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    environ = {
        "CLIENT_ID": "00000000-0000-0000-0000-000000000001",
        "CLIENT_SECRET": "a secret",
        "USER_EMAIL": "me@outlook.com",
        "RELAY_PASSWORD": "a password of a device",
        "RELAY_HOSTNAME": "relay.test",
        "RELAY_DATA_DIR": str(tmp_path / "data"),
    }
    return load(environ)


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with capture_logs() as log:
        yield log


@pytest.fixture
def junk(tmp_path: Path) -> Path:
    file = tmp_path / "junk.pem"
    file.write_text("not PEM")
    return file


@pytest.fixture(autouse=True)
def _no_database_stays_open(tmp_path: Path) -> Iterator[None]:
    """Whatever a test has opened, it has closed, or was told that it could not be opened."""
    yield
    for entry in Path("/proc/self/fd").iterdir():
        try:
            name = os.readlink(entry)
        except FileNotFoundError:  # that of the listing itself
            continue
        assert not name.startswith(str(tmp_path)), name


def events(log: list[Any]) -> list[str]:
    return [event["event"] for event in log]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refused(settings: Settings) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        open_all(settings)
    return caught.value.problems


# --- what can be opened ---------------------------------------------------------------------------------


def test_an_empty_place(settings: Settings, log: list[Any]) -> None:
    opened = open_all(settings)
    opened.vault.store("me@outlook.com", b"a sign-in")
    opened.store.close()
    assert events(log) == ["certificate_self_signed", "vault_key_beside_vault"]
    certificate, key = log
    assert "Gmail will refuse" in certificate["consequence"]
    assert "relay.test" in certificate["consequence"]
    assert key["file"] == str(settings.data_dir / "vault.key")
    assert mode(settings.data_dir) == 0o700
    assert mode(settings.data_dir / "relay.db") == mode(settings.data_dir / "vault.key") == 0o600
    assert opened.certificate.expires is not None
    assert opened.certificate.expires > datetime.now(UTC)
    assert opened.upstream_tls.cert_store_stats()["x509_ca"] >= 0

    again = open_all(settings)
    assert again.vault.load("me@outlook.com") == b"a sign-in"
    again.store.close()


def test_what_the_settings_name(settings: Settings, log: list[Any], tmp_path: Path) -> None:
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    issued = authority.issue_cert("relay.test", key_type=trustme.KeyType.ECDSA)
    cert, key, ca = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    issued.cert_chain_pems[0].write_to_path(str(cert))
    issued.private_key_pem.write_to_path(str(key))
    authority.cert_pem.write_to_path(str(ca))
    settings = replace(
        settings,
        tls_cert=cert,
        tls_key=key,
        upstream_ca=ca,
        vault_key=Fernet.generate_key().decode(),
        store_url=f"sqlite:///{tmp_path / 'elsewhere.db'}",
    )
    opened = open_all(settings)
    opened.store.close()
    assert log == []
    assert len(opened.upstream_tls.get_ca_certs()) == 1
    assert (tmp_path / "elsewhere.db").exists()
    assert list(settings.data_dir.iterdir()) == []


def test_a_command_beside_the_relay(settings: Settings, log: list[Any]) -> None:
    relay = open_all(settings)
    store, vault = open_vault(settings)
    vault.store("me@outlook.com", b"a sign-in")
    store.close()
    assert relay.vault.load("me@outlook.com") == b"a sign-in"
    relay.store.close()


def test_a_command_replaces_what_nobody_can_read(settings: Settings, log: list[Any]) -> None:
    """As the error tells people to do whose key is lost."""
    relay = open_all(settings)
    relay.vault.store("me@outlook.com", b"a sign-in")
    relay.store.close()
    other = replace(settings, vault_key=Fernet.generate_key().decode())
    [problem] = refused(other)
    assert "it was written with another key" in problem
    assert "smtp-relay login me@outlook.com" in problem

    store, vault = open_vault(other)
    vault.store("me@outlook.com", b"a new sign-in")
    store.close()
    relay = open_all(other)
    assert relay.vault.load("me@outlook.com") == b"a new sign-in"
    relay.store.close()


# --- what can be read without being opened ---------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A certificate and its key, in one file."""
    file = tmp_path / "pair.pem"
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    authority.issue_cert("relay.test").private_key_and_cert_chain_pem.write_to_path(str(file))
    return file


def found(settings: Settings) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        check_files(settings)
    return caught.value.problems


@pytest.mark.parametrize("vault_key", ["", Fernet.generate_key().decode()], ids=["no key", "key"])
def test_a_check_makes_nothing(settings: Settings, log: list[Any], pair: Path, vault_key: str) -> None:
    check_files(settings)
    check_files(replace(settings, tls_cert=pair, tls_key=pair, vault_key=vault_key))
    check_files(replace(settings, store_url="postgresql+psycopg://relay:secret@192.0.2.1/relay"))
    assert log == []
    assert not settings.data_dir.exists()


def test_a_check_of_what_the_relay_has_made(settings: Settings, log: list[Any]) -> None:
    open_all(settings).store.close()
    before = {path: path.stat().st_mtime_ns for path in settings.data_dir.rglob("*")}
    check_files(settings)
    assert {path: path.stat().st_mtime_ns for path in settings.data_dir.rglob("*")} == before


def test_a_check_tells_everything_at_once(settings: Settings, log: list[Any], junk: Path, pair: Path) -> None:
    [mailbox] = settings.mailboxes
    mailbox = replace(mailbox, client_secret="", client_cert=junk, client_key=pair)
    broken = replace(
        settings,
        mailboxes=(mailbox, replace(mailbox, address="you@outlook.com")),
        upstream_ca=junk,
        tls_cert=junk,
        tls_key=junk,
        store_url="sqlite:///",
        vault_key="no key",
    )
    ca, certificate, store, key, app = found(broken)
    assert ca.startswith(f"RELAY_UPSTREAM_CA: {junk} has no PEM certificates")
    assert certificate.startswith("RELAY_TLS_CERT, RELAY_TLS_KEY: ")
    assert store.startswith("RELAY_STORE_URL is not the address of a database")
    assert key.startswith("The vault key is not a Fernet key")
    assert app.startswith(f"The app's certificate {junk} cannot be used")  # once, though two mailboxes use it
    assert not settings.data_dir.exists()


def test_a_check_of_files_that_are_no_pair(settings: Settings, log: list[Any], pair: Path) -> None:
    other = pair.with_name("other.pem")
    trustme.CA().issue_cert("relay.test").private_key_pem.write_to_path(str(other))
    [problem] = found(replace(settings, tls_cert=pair, tls_key=other))
    assert problem.startswith(f"RELAY_TLS_KEY: {other} does not belong to the certificate {pair}")


def test_a_check_of_a_vault_key_file_that_is_none(settings: Settings, log: list[Any], junk: Path) -> None:
    [problem] = found(_no_key(settings, junk))
    assert problem.startswith(f"{settings.data_dir / 'vault.key'}: The vault key is not a Fernet key")


# --- another key for the vault ---------------------------------------------------------------------------


@pytest.fixture
def new_key_file(tmp_path: Path) -> Path:
    file = tmp_path / "new.key"
    create_key_file(file)
    return file


@pytest.fixture
def signed_in(settings: Settings, log: list[Any]) -> None:
    """The key is in the data directory, and the vault has a sign-in."""
    store, vault = open_vault(settings)
    vault.store("me@outlook.com", b"a sign-in")
    store.close()


def loaded(settings: Settings) -> bytes | None:
    store, vault = open_vault(settings)
    try:
        return vault.load("me@outlook.com")
    finally:
        store.close()


def test_another_key_in_the_data_directory(settings: Settings, signed_in: None, new_key_file: Path) -> None:
    assert rekey_vault(settings, new_key_file) == Rekeyed(changed=1, kept=0)
    key_file = settings.data_dir / "vault.key"
    assert read_key_file(key_file) == read_key_file(new_key_file)
    assert mode(key_file) == 0o600
    assert loaded(settings) == b"a sign-in"
    assert rekey_vault(settings, new_key_file) == Rekeyed(changed=0, kept=1)


def test_another_key_in_the_settings(settings: Settings, signed_in: None, new_key_file: Path) -> None:
    """It is not for us to put it there, and the file in the data directory means nothing."""
    old_key = read_key_file(settings.data_dir / "vault.key").decode()
    (settings.data_dir / "vault.key").write_text("of no use")
    assert rekey_vault(replace(settings, vault_key=old_key), new_key_file) == Rekeyed(changed=1, kept=0)
    new = replace(settings, vault_key=read_key_file(new_key_file).decode())
    assert loaded(new) == b"a sign-in"
    assert rekey_vault(new, new_key_file) == Rekeyed(changed=0, kept=1)
    assert (settings.data_dir / "vault.key").read_text() == "of no use"


def test_another_key_that_is_none(settings: Settings, log: list[Any], junk: Path) -> None:
    with pytest.raises(VaultError, match=rf"{junk}: The vault key is not a Fernet key"):
        rekey_vault(settings, junk)
    assert not settings.data_dir.exists()


def test_a_key_that_does_not_open_the_vault(settings: Settings, signed_in: None, new_key_file: Path) -> None:
    other = replace(settings, vault_key=Fernet.generate_key().decode())
    with pytest.raises(VaultError, match="Neither the configured key nor the new one"):
        rekey_vault(other, new_key_file)
    assert loaded(settings) == b"a sign-in"


def test_another_key_when_the_file_cannot_be_replaced(
    settings: Settings, signed_in: None, new_key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entries have it by then: the next run, with the old key still in the file, completes it."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "replace", full)
        with pytest.raises(VaultError, match=r"No space left .* have the new key already\. Run this again"):
            rekey_vault(settings, new_key_file)
    assert read_key_file(settings.data_dir / "vault.key") != read_key_file(new_key_file)
    assert rekey_vault(settings, new_key_file) == Rekeyed(changed=0, kept=1)
    assert loaded(settings) == b"a sign-in"


# --- what cannot ----------------------------------------------------------------------------------------


def test_everything_at_once(settings: Settings, log: list[Any], junk: Path) -> None:
    settings.data_dir.mkdir()
    store = Store.open("", settings.data_dir)
    Vault(StoredBlobs(store), Fernet.generate_key()).store("a@example.org", b"{}")
    StoredBlobs(store).store("b@example.org", b"damaged")
    store.close()
    broken = replace(
        settings,
        vault_key=Fernet.generate_key().decode(),
        tls_cert=junk,
        tls_key=junk,
        upstream_ca=junk,
    )
    ca, certificate, wrong_key, damaged = refused(broken)
    assert ca.startswith(f"RELAY_UPSTREAM_CA: {junk} has no PEM certificates")
    assert certificate.startswith("RELAY_TLS_CERT, RELAY_TLS_KEY: ")
    assert "entry a@example.org: it was written with another key" in wrong_key
    assert "entry b@example.org: it is damaged" in damaged


def test_a_data_directory_that_cannot_be_made(settings: Settings, log: list[Any], junk: Path) -> None:
    """What depends on it is not complained about; all else is."""
    broken = replace(settings, data_dir=junk / "data")
    [data] = refused(broken)
    assert data.startswith(f"RELAY_DATA_DIR: cannot write in {junk / 'data'}: Not a directory. ")
    assert f"chown {os.getuid()} {junk / 'data'}" in data
    assert data.endswith(", or choose another directory")

    broken = replace(
        broken, upstream_ca=junk, tls_cert=junk, tls_key=junk, store_url="sqlite:////no/such/directory/a.db"
    )
    problems = refused(broken)
    assert [problem.partition(":")[0] for problem in problems[:3]] == [
        "RELAY_DATA_DIR",
        "RELAY_UPSTREAM_CA",
        "RELAY_TLS_CERT, RELAY_TLS_KEY",
    ]
    assert problems[3].startswith("Cannot use the database /no/such/directory/a.db")
    assert len(problems) == 4


@pytest.mark.parametrize("vault_key", ["", Fernet.generate_key().decode()], ids=["no key", "key"])
def test_only_the_data_directory_is_unusable(
    settings: Settings, log: list[Any], junk: Path, tmp_path: Path, vault_key: str
) -> None:
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    pair = tmp_path / "pair.pem"
    authority.issue_cert("relay.test").private_key_and_cert_chain_pem.write_to_path(str(pair))
    database = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    broken = replace(
        settings,
        data_dir=junk / "data",
        tls_cert=pair,
        tls_key=pair,
        store_url=database,
        vault_key=vault_key,
    )
    [problem] = refused(broken)
    assert problem.startswith("RELAY_DATA_DIR: ")


def test_a_database_that_is_none(settings: Settings, log: list[Any]) -> None:
    settings.data_dir.mkdir()
    (settings.data_dir / "relay.db").write_text("no database" * 100)
    [problem] = refused(settings)
    assert "relay.db: it is not an SQLite database" in problem


def test_a_vault_key_file_that_is_none(settings: Settings, log: list[Any]) -> None:
    settings.data_dir.mkdir()
    (settings.data_dir / "vault.key").write_text("no key")
    [problem] = refused(settings)
    assert problem.startswith(f"{settings.data_dir / 'vault.key'}: The vault key is not a Fernet key")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "Make room"),
        (errno.EDQUOT, "Make room"),
        (errno.EROFS, "mount it for writing"),
        (errno.EACCES, "chown"),
    ],
)
def test_a_disk_that_takes_nothing(
    settings: Settings, log: list[Any], monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def full(**_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    [problem] = refused(settings)
    assert os.strerror(number) in problem
    assert remedy in problem


def _no_key(settings: Settings, junk: Path) -> Settings:
    settings.data_dir.mkdir()
    (settings.data_dir / "vault.key").write_text("no key")
    return settings


def _no_directory(settings: Settings, junk: Path) -> Settings:
    return replace(settings, data_dir=junk / "data")


def _no_database(settings: Settings, junk: Path) -> Settings:
    return replace(settings, store_url="sqlite:////no/such/directory/a.db")


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        (_no_directory, SettingsError, "RELAY_DATA_DIR: cannot write in "),
        (_no_database, StoreError, "Cannot use the database /no/such/directory/a.db"),
        (_no_key, VaultError, "is not a Fernet key"),
    ],
)
def test_a_command_that_cannot_open_the_vault(
    settings: Settings,
    log: list[Any],
    junk: Path,
    spoil: Callable[[Settings, Path], Settings],
    error: type[Exception],
    said: str,
) -> None:
    with pytest.raises(error, match=said):
        open_vault(spoil(settings, junk))
