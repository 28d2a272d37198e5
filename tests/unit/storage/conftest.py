"""Both databases: every test that asks for `store` or `url` runs on SQLite and on a real PostgreSQL."""

import os
import pwd
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from relay_app.storage.journal import Attempt, Entry
from relay_app.storage.store import Store

NOW = datetime(2030, 1, 2, 15, 30, tzinfo=UTC)


class Postgres:
    """A PostgreSQL server of the test run's own. It refuses to run as root: root runs it as another user."""

    def __init__(self) -> None:
        installed = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
        if not installed:
            pytest.fail("PostgreSQL is not installed. Run: tests/system_packages.sh")
        self._programs = max(installed, key=lambda path: float(path.parent.name))
        self._user = _other_user() if os.geteuid() == 0 else None
        # Not below pytest's directory, which no other user may enter.
        self._directory = Path(tempfile.mkdtemp(prefix="relay-pg-"))
        self.password = secrets.token_urlsafe(12)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[str] | None = None
        self._databases = 0

    def create(self) -> None:
        password_file = self._directory / "password"
        password_file.write_text(self.password)
        if self._user:
            for path in (self._directory, password_file):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        arguments = ["--username=relay", "--auth=scram-sha-256", f"--pwfile={password_file}", "--no-sync"]
        command = self._as_user(
            "initdb", "-D", self._directory / "db", *arguments, "--locale=C", "-E", "UTF8"
        )
        subprocess.run(command, cwd="/", check=True, capture_output=True, timeout=300)

    def start(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self._directory,
            "fsync": "off",  # the server may be killed here, the machine is not
            "shared_buffers": "16MB",
            "max_connections": 40,
            "timezone": "Asia/Kolkata",  # not ours, and not a whole number of hours away
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._process = subprocess.Popen(
            self._as_user("postgres", "-D", self._directory / "db", *options),
            cwd="/",
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "LC_ALL": "C"},
        )
        ready = threading.Event()
        log: list[str] = []
        threading.Thread(target=_follow, args=(self._process, log, ready), daemon=True).start()
        assert ready.wait(30), log
        assert self._process.poll() is None, log

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """SIGQUIT: without goodbye to the clients, and with recovery at the next start."""
        if self._process:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        self.stop(signal.SIGINT)
        shutil.rmtree(self._directory)

    def url(self, database: str, *, user: str = "relay", password: str | None = None) -> str:
        secret = self.password if password is None else password
        return f"postgresql+psycopg://{user}:{secret}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        self._databases += 1
        name = f"test{self._databases}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> None:
        plain = self.url(database).replace("+psycopg", "")
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(statement)

    def _as_user(self, program: str, *arguments: Any) -> list[str]:
        # Should the test run be killed, the server goes with it.
        command = ["setpriv", "--pdeathsig", "INT"]
        if self._user:
            command += [
                "--reuid",
                str(self._user.pw_uid),
                "--regid",
                str(self._user.pw_gid),
                "--clear-groups",
            ]
        return [*command, str(self._programs / program), *map(str, arguments)]


def _other_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _follow(process: "subprocess.Popen[str]", log: list[str], ready: threading.Event) -> None:
    assert process.stderr is not None
    with process.stderr:
        for line in process.stderr:
            log.append(line)
            if "ready to accept connections" in line:
                ready.set()
    ready.set()  # it has ended: nobody need wait any longer


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """RELAY_STORE_URL of an empty database; SQLite's is in `tmp_path`."""
    if request.param == "sqlite":
        return ""
    return str(request.getfixturevalue("postgres").new_database())


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(url, tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that every user may enter; those of pytest are its own."""
    directory = Path(tempfile.mkdtemp(prefix="relay-store-"))
    directory.chmod(0o755)
    yield directory
    directory.chmod(0o700)
    shutil.rmtree(directory)


@pytest.fixture
def unprivileged() -> Iterator[Callable[[], None]]:
    """When called, takes the rights of root from this process, if it has them."""
    root = os.geteuid() == 0
    yield lambda: os.seteuid(65534) if root else None
    if root:
        os.seteuid(0)


@pytest.fixture
def file_limit() -> Iterator[Callable[[int], None]]:
    """Stops files from growing beyond a size (-1: no more): a "no more room" that needs no privilege."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (soft if size < 0 else size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def entry(id: str = "id1", **changes: Any) -> Entry:
    """An entry of the journal with one attempt; `changes` are to the entry, or to the attempt."""
    received = changes.pop("received", NOW)
    names = set(Attempt.__slots__) & changes.keys()
    attempt = {
        "at": received + timedelta(seconds=1),
        "seconds": 0.5,
        "outcome": "accepted",
        "reply": "250 OK",
    }
    attempt.update({name: changes.pop(name) for name in names})
    values: dict[str, Any] = {
        "id": id,
        "received": received,
        "device": "gmail",
        "mailbox": "me@outlook.com",
        "client": "192.0.2.1",
        "sender": "me@outlook.com",
        "recipients": ("you@example.org",),
        "size": 1234,
        "message_id": f"<{id}@mail.example>",
        "attempts": (Attempt(**attempt),),
    }
    return Entry(**{**values, **changes})
