"""relay_app.cli: in this process where that will do, as a program for signals and exit statuses."""

import importlib.metadata
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import structlog
import trustme
from click.testing import CliRunner, Result
from cryptography.fernet import Fernet

from relay_app import app as app_module
from relay_app import login as login_module
from relay_app import memory
from relay_app.cli import main
from relay_app.errors import SignInError, VaultError
from relay_app.identity.vault import Vault, create_key_file
from relay_app.settings import HASHER, Settings
from relay_app.storage.blobs import StoredBlobs
from relay_app.storage.journal import Attempt, Entry, Journal
from relay_app.storage.store import Store
from sandbox.client import SandboxProcess

SECONDS = 60
CLIENT_ID = "00000000-0000-0000-0000-000000000001"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Settings for a relay that never reaches Microsoft: nothing listens where it looks."""
    with socket.create_server(("127.0.0.1", 0)) as free, socket.create_server(("127.0.0.1", 0)) as closed:
        port, nobody = free.getsockname()[1], closed.getsockname()[1]
    return {
        "CLIENT_ID": CLIENT_ID,
        "CLIENT_SECRET": secrets.token_urlsafe(30),
        "TENANT_ID": "consumers",
        "USER_EMAIL": "me@outlook.com",
        "RELAY_PASSWORD": secrets.token_urlsafe(15),
        "RELAY_VAULT_KEY": "",
        "RELAY_LISTEN": f"127.0.0.1:{port}",
        "RELAY_WEB_LISTEN": "127.0.0.1:0",
        "RELAY_HOSTNAME": "relay.test",
        "RELAY_DATA_DIR": str(tmp_path / "data"),
        "RELAY_UPSTREAM": f"localhost:{nobody}",
        "RELAY_AUTHORITY": f"https://localhost:{nobody}",
    }


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """`run(environ, "device", "password", input="...")`: a command in this process."""
    for name in os.environ:
        if name.startswith("RELAY_"):
            monkeypatch.delenv(name)
    config, root, mail = structlog.get_config(), logging.getLogger(), logging.getLogger("mail")
    handlers, levels = root.handlers[:], (root.level, mail.level)

    def invoke(environ: Mapping[str, str], *arguments: str, input: bytes | None = None) -> Result:
        return CliRunner().invoke(main, arguments, input=input, env=environ, prog_name="smtp-relay")

    yield invoke
    structlog.configure(**config)
    root.handlers[:] = handlers
    for logger, level in zip((root, mail), levels, strict=True):
        logger.setLevel(level)


def program(environ: Mapping[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command as a program, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "relay_app", *arguments],
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.fixture
def serving(environ: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """`smtp-relay serve`, as soon as it listens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "relay_app", "serve"],
        env={"PATH": os.environ["PATH"], **environ},
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(SECONDS, process.kill)
    watchdog.start()
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "event=started" in line:
                break
        else:
            pytest.fail(f"The relay ended with {process.wait()}.")
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
        watchdog.cancel()


# --- serve and health -----------------------------------------------------------------------------------


def test_serve_and_health(
    environ: dict[str, str], serving: "subprocess.Popen[str]", run: Callable[..., Result]
) -> None:
    asked = program(environ, "health")
    assert (asked.returncode, asked.stdout, asked.stderr) == (0, "250-relay.test\n", "")
    assert run(environ, "health").stdout == "250-relay.test\n"

    serving.send_signal(signal.SIGTERM)
    assert serving.wait(SECONDS) == 0
    assert serving.stderr is not None
    log = serving.stderr.read()
    assert "event=stopped" in log
    assert environ["RELAY_PASSWORD"] not in log
    assert environ["CLIENT_SECRET"] not in log

    asked = program(environ, "health")
    assert (asked.returncode, asked.stdout) == (1, "")
    assert asked.stderr.startswith("The relay does not answer: ")


def test_serve_with_bad_settings(environ: dict[str, str]) -> None:
    done = program(environ | {"CLIENT_ID": "not one", "RELAY_COLOUR": "green"}, "serve")
    assert (done.returncode, done.stdout) == (2, "")
    first, *problems = done.stderr.splitlines()
    assert first == "smtp-relay cannot start:"
    assert [problem[:4] for problem in problems] == ["  - ", "  - "]
    assert "RELAY_COLOUR" in done.stderr
    assert "CLIENT_ID" in done.stderr
    assert environ["RELAY_PASSWORD"] not in done.stderr
    assert environ["CLIENT_SECRET"] not in done.stderr


def test_serve_on_a_port_in_use(environ: dict[str, str]) -> None:
    host, _, port = environ["RELAY_LISTEN"].rpartition(":")
    with socket.create_server((host, int(port))):
        done = program(environ, "serve")
    assert done.returncode == 2
    assert f"  - cannot listen on {environ['RELAY_LISTEN']}: another program" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("options", [(), ("--verbose",)])
def test_serve_runs_the_app(
    environ: dict[str, str],
    run: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
) -> None:
    memory_returned = []
    monkeypatch.setattr(memory, "return_large_blocks", lambda: memory_returned.append(True))

    class FakeApp:
        def __init__(self, settings: Settings, load: Callable[[], Settings]) -> None:
            assert load() == settings

        async def run(self) -> None:
            structlog.get_logger().debug("client_gone")
            structlog.get_logger().info("started")

    monkeypatch.setattr(app_module, "App", FakeApp)
    result = run(environ, "serve", *options)
    assert (result.exit_code, result.stdout, memory_returned) == (0, "", [True])
    assert "event=started" in result.stderr
    assert ("event=client_gone" in result.stderr) == bool(options)


def test_each_line_of_an_error_is_a_problem(
    environ: dict[str, str], run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise VaultError("one\nanother")

    monkeypatch.setattr(app_module, "App", broken)
    monkeypatch.setattr(memory, "return_large_blocks", lambda: True)
    result = run(environ, "serve")
    assert result.exit_code == 2
    assert result.stderr == "smtp-relay cannot start:\n  - one\n  - another\n"


def test_health_of_something_else(environ: dict[str, str], run: Callable[..., Result]) -> None:
    host, _, port = environ["RELAY_LISTEN"].rpartition(":")
    with socket.create_server((host, int(port))) as other:

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.sendall(b"SSH-2.0-other\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        result = run(environ, "health", "--timeout", str(SECONDS))
        thread.join()
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("The relay does not answer: it said b'SSH")


def test_health_with_bad_settings(environ: dict[str, str], run: Callable[..., Result]) -> None:
    result = run(environ | {"USER_EMAIL": "nobody"}, "health")
    assert result.exit_code == 2
    assert result.stderr.startswith("smtp-relay cannot check the relay:\n  - USER_EMAIL: 'nobody' ")


@pytest.mark.parametrize(
    "command", [[sys.executable, "-m", "relay_app"], [str(Path(sys.executable).with_name("smtp-relay"))]]
)
def test_the_program(command: list[str]) -> None:
    done = subprocess.run(
        [*command, "--version"], capture_output=True, text=True, timeout=SECONDS, check=True
    )
    assert done.stdout == f"smtp-relay, version {importlib.metadata.version('smtp-relay')}\n"
    usage = subprocess.run(
        [*command, "-h"], capture_output=True, text=True, timeout=SECONDS, check=True
    ).stdout
    assert usage.startswith("Usage: ")
    for name in ("serve", "check", "health", "device", "login", "vault", "alert", "trace"):
        assert f"\n  {name} " in usage


# --- check ----------------------------------------------------------------------------------------------


def test_settings_that_can_be_used(
    environ: dict[str, str], run: Callable[..., Result], tmp_path: Path
) -> None:
    result = run(environ, "check")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "The settings can be used: 1 mailbox, 1 device.\n"
    assert list(tmp_path.iterdir()) == []

    config = tmp_path / "relay.toml"
    config.write_text(
        '[[mailbox]]\naddress = "you@outlook.com"\n'
        f'client_id = "{CLIENT_ID}"\n'
        '[[mailbox.device]]\nname = "scanner"\npassword = "correct horse"\n'
        '[[mailbox.device]]\nname = "nas"\npassword = "correct horse"\n'
    )
    result = run(environ | {"RELAY_CONFIG": str(config)}, "check")
    assert result.stdout == "The settings can be used: 2 mailboxes, 3 devices.\n"


def test_settings_that_cannot_be_used(
    environ: dict[str, str], run: Callable[..., Result], tmp_path: Path
) -> None:
    """Said as `serve` says it."""
    wrong = environ | {"CLIENT_ID": "not one", "RELAY_COLOUR": "green"}
    said = program(wrong, "serve").stderr
    assert said.count("\n") == 3
    result = run(wrong, "check")
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", said)

    junk = tmp_path / "junk.pem"
    junk.write_text("not PEM")
    files = {"RELAY_TLS_CERT": str(junk), "RELAY_TLS_KEY": str(junk), "RELAY_UPSTREAM_CA": str(junk)}
    said = program(environ | files, "serve").stderr.split("smtp-relay cannot start:")[1]  # after the log
    result = run(environ | files, "check")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"smtp-relay cannot start:{said}"
    assert said.count("\n") == 3


def test_a_check_tells_of_a_certificate_that_has_run_out(
    environ: dict[str, str], run: Callable[..., Result], tmp_path: Path
) -> None:
    """It can be served, and so it is no error."""
    pair = tmp_path / "pair.pem"
    then = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=1)
    issued = trustme.CA().issue_cert("relay.test", not_before=then - timedelta(days=90), not_after=then)
    issued.private_key_and_cert_chain_pem.write_to_path(str(pair))
    result = run(environ | {"RELAY_TLS_CERT": str(pair), "RELAY_TLS_KEY": str(pair)}, "check")
    assert result.exit_code == 0
    assert "event=certificate_expired" in result.stderr


# --- vault rekey ----------------------------------------------------------------------------------------


@pytest.fixture
def new_key_file(tmp_path: Path) -> Path:
    file = tmp_path / "new.key"
    create_key_file(file)
    return file


def test_another_key_for_the_vault(
    environ: dict[str, str], run: Callable[..., Result], new_key_file: Path
) -> None:
    old, new = Fernet.generate_key().decode(), new_key_file.read_text().strip()
    data = Path(environ["RELAY_DATA_DIR"])
    data.mkdir()
    store = Store.open("", data)
    for address in ("me@outlook.com", "you@outlook.com"):
        Vault(StoredBlobs(store), old.encode()).store(address, b"a sign-in")
    environ["RELAY_VAULT_KEY"] = old

    result = run(environ, "vault", "rekey", "--new-key-file", str(new_key_file))
    assert (result.exit_code, result.stderr) == (0, "")
    done, todo = result.stdout.splitlines()
    assert done == "2 entries encrypted with the new key."
    assert todo == "Put the new key where RELAY_VAULT_KEY or RELAY_VAULT_KEY_FILE has the old one."
    assert Vault(StoredBlobs(store), new.encode()).load("you@outlook.com") == b"a sign-in"

    Vault(StoredBlobs(store), old.encode()).store("you@outlook.com", b"stored meanwhile")
    result = run(environ, "vault", "rekey", "--new-key-file", str(new_key_file))
    assert result.stdout.splitlines()[0] == "1 entry encrypted with the new key, 1 had it already."
    store.close()
    for key in (old, new):
        assert key not in result.output


def test_another_key_in_the_data_directory(
    environ: dict[str, str], run: Callable[..., Result], new_key_file: Path
) -> None:
    result = run(environ, "vault", "rekey", "--new-key-file", str(new_key_file))
    assert (result.exit_code, result.stdout) == (0, "0 entries encrypted with the new key.\n")
    assert (Path(environ["RELAY_DATA_DIR"]) / "vault.key").read_text() == new_key_file.read_text()


def test_no_other_key(environ: dict[str, str], run: Callable[..., Result], tmp_path: Path) -> None:
    result = run(environ, "vault", "rekey", "--new-key-file", str(tmp_path / "missing"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(
        f"smtp-relay cannot change the vault's key:\n  - Cannot read {tmp_path / 'missing'}: No such file"
    )


def test_the_help_says_to_stop_the_relay(run: Callable[..., Result]) -> None:
    assert "Stop the relay first." in run({}, "vault", "rekey", "--help").stdout


# --- device password ------------------------------------------------------------------------------------


def test_a_made_password(run: Callable[..., Result]) -> None:
    made = set()
    for _ in range(2):
        result = run({}, "device", "password")
        assert result.exit_code == 0
        first, second = result.stdout.splitlines()
        password, hashed = first.removeprefix("Password: "), second.removeprefix("Hash:     ")
        assert len(password) == 20
        assert HASHER.verify(hashed, password)
        made.add(password)
    assert len(made) == 2


@pytest.mark.parametrize(
    ("typed", "password"),
    [(b"a good one\n", b"a good one"), (b" spaces \r\nmore", b" spaces "), (b"gr\xfcn\n", b"gr\xfcn")],
)
def test_a_password_of_ones_own(run: Callable[..., Result], typed: bytes, password: bytes) -> None:
    result = run({}, "device", "password", "--stdin", input=typed)
    assert result.exit_code == 0
    [line] = result.stdout.splitlines()
    assert HASHER.verify(line.removeprefix("Hash:     "), password)


@pytest.mark.parametrize("typed", [b"", b"\n"])
def test_no_password(run: Callable[..., Result], typed: bytes) -> None:
    result = run({}, "device", "password", "--stdin", input=typed)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Nothing came on standard input." in result.stderr


# --- login ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess(tmp_path_factory.mktemp("sandbox")) as process:
        yield process


@pytest.fixture
def microsoft(environ: dict[str, str], sandbox: SandboxProcess) -> dict[str, str]:
    """Settings for the sandbox's personal account."""
    world = sandbox.control.world()
    return environ | {
        "CLIENT_ID": world.client_id,
        "CLIENT_SECRET": world.client_secret,
        "USER_EMAIL": world.personal,
        "RELAY_AUTHORITY": sandbox.authority,
        "RELAY_UPSTREAM_CA": sandbox.ca,
    }


@pytest.mark.parametrize("source", ["file", "standard input"])
def test_login(
    microsoft: dict[str, str],
    sandbox: SandboxProcess,
    run: Callable[..., Result],
    tmp_path: Path,
    source: str,
) -> None:
    account = microsoft["USER_EMAIL"]
    refresh_token = sandbox.control.refresh_token(account, microsoft["CLIENT_ID"])
    file = tmp_path / "token.txt"
    file.write_text(f"\n{refresh_token}\n")
    if source == "file":
        result = run(microsoft, "login", "--refresh-token", str(file))
    else:
        result = run(microsoft, "login", account, "--refresh-token", "-", input=file.read_bytes())
    assert (result.exit_code, result.stdout) == (0, f"Signed in as {account}. The relay can send.\n")
    assert refresh_token not in result.stderr

    data = Path(microsoft["RELAY_DATA_DIR"])
    store = Store.open("", data)
    blobs = StoredBlobs(store)
    assert Vault(blobs, create_key_file(data / "vault.key")).load(account) is not None
    assert refresh_token.encode() not in (blobs.load(account) or b"")
    store.close()


@pytest.mark.parametrize("token", [b"0.no-such-token", bytes(range(128, 256))], ids=["unknown", "not text"])
def test_a_login_that_microsoft_refuses(
    microsoft: dict[str, str], run: Callable[..., Result], token: bytes
) -> None:
    result = run(microsoft, "login", "--refresh-token", "-", input=token)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "smtp-relay cannot sign in:\n  - " in result.stderr
    assert "AADSTS" in result.stderr
    assert "no-such-token" not in result.stderr


def test_a_login_without_a_token(environ: dict[str, str], run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    result = run(environ, "login", "--refresh-token", str(tmp_path / "empty"))
    assert result.exit_code == 2
    assert f"There is no refresh token in {tmp_path / 'empty'}." in result.stderr

    result = run(environ, "login", "--refresh-token", str(tmp_path / "missing"))
    assert result.exit_code == 2
    assert "No such file" in result.stderr


def test_a_login_of_an_unknown_mailbox(environ: dict[str, str], run: Callable[..., Result]) -> None:
    result = run(environ, "login", "you@outlook.com", "--refresh-token", "-", input=b"0.token")
    assert result.exit_code == 2
    assert "  - you@outlook.com is not one of them. Name one of me@outlook.com\n" in result.stderr


@pytest.mark.parametrize("named", [True, False])
def test_a_login_at_the_terminal(
    environ: dict[str, str], run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    def sign_in(settings: Settings, mailbox: str | None) -> str:
        assert settings.mailboxes[0].address == "me@outlook.com"
        assert mailbox == ("me@outlook.com" if named else None)
        return "me@outlook.com"

    monkeypatch.setattr(login_module, "sign_in", sign_in)
    result = run(environ, "login", *(["me@outlook.com"] if named else []))
    assert (result.exit_code, result.stdout) == (0, "Signed in as me@outlook.com. The relay can send.\n")


def test_a_login_at_the_terminal_that_fails(
    environ: dict[str, str], run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def sign_in(*_: object) -> str:
        raise SignInError("The sign-in was declined. Sign in again.")

    monkeypatch.setattr(login_module, "sign_in", sign_in)
    result = run(environ, "login")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "smtp-relay cannot sign in:\n  - The sign-in was declined. Sign in again.\n"


def test_a_login_that_is_given_up(microsoft: dict[str, str], sandbox: SandboxProcess) -> None:
    """As a program, with nothing to paste: what a person reads, and the exit status."""
    done = subprocess.run(
        [sys.executable, "-m", "relay_app", "login"],
        env={"PATH": os.environ["PATH"], **microsoft},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 1
    first, _, url, *_ = done.stdout.splitlines()
    assert first == "To sign in me@outlook.com, open this address in a browser, on any device:"
    assert url.startswith(f"{sandbox.authority}/consumers/oauth2/v2.0/authorize?")
    assert "Paste it here" in done.stdout
    assert "Aborted!" in done.stderr
    assert "Traceback" not in done.stderr
    assert microsoft["CLIENT_SECRET"] not in done.stdout + done.stderr


# --- alert test -----------------------------------------------------------------------------------------


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[bytes]]]:
    """A service that takes alerts: its Apprise URL, and what it was sent."""
    taken: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing to standard error."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"json://127.0.0.1:{server.server_port}/topic", taken
        server.shutdown()
        thread.join()


def test_an_alert(
    environ: dict[str, str], run: Callable[..., Result], webhook: tuple[str, list[bytes]]
) -> None:
    url, taken = webhook
    result = run(environ | {"RELAY_ALERT_URLS": url}, "alert", "test")
    assert (result.exit_code, result.stdout) == (0, "1 (json): sent\n")
    assert len(taken) == 1
    assert b"relay.test" in taken[0]


def test_an_alert_that_nobody_takes(
    environ: dict[str, str], run: Callable[..., Result], webhook: tuple[str, list[bytes]]
) -> None:
    """One is taken, the other is not; no URL is shown, as it may hold a password."""
    url, taken = webhook
    password = secrets.token_urlsafe(12)
    nobody = environ["RELAY_UPSTREAM"].removeprefix("localhost")
    broken = f"json://user:{password}@127.0.0.1{nobody}/"
    result = run(environ | {"RELAY_ALERT_URLS": f"{broken} {url}"}, "alert", "test")
    assert result.exit_code == 1
    first, second = result.stdout.splitlines()
    assert first.startswith("1 (json): the service could not be reached")
    assert second == "2 (json): sent"
    assert password not in result.output
    assert len(taken) == 1


def test_nowhere_to_send_an_alert(environ: dict[str, str], run: Callable[..., Result]) -> None:
    result = run(environ, "alert", "test")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "smtp-relay cannot send a test message:\n  - RELAY_ALERT_URLS is not set: nobody is told anything\n"
    )


# --- trace ----------------------------------------------------------------------------------------------


@pytest.fixture
def journal(environ: dict[str, str]) -> Iterator[Journal]:
    data = Path(environ["RELAY_DATA_DIR"])
    data.mkdir()
    store = Store.open("", data)
    yield Journal(store)
    store.close()


def _entry(id: str, received: datetime) -> Entry:
    attempt = Attempt(received, 0.5, "refused", "550 5.7.60 no", "Why.", "What to do.", "send-as-denied")
    return Entry(
        id,
        received,
        "scanner",
        "me@outlook.com",
        "192.0.2.1",
        "me@outlook.com",
        ("you@example.net",),
        1234,
        f"<{id}@mail.example>",
        (attempt,),
    )


@pytest.mark.parametrize("text", ["two", "<two@mail.example>", "you@example.net"])
def test_the_story_of_a_message(
    environ: dict[str, str], run: Callable[..., Result], journal: Journal, text: str
) -> None:
    now = datetime.now(UTC)
    journal.record(_entry("one", now - timedelta(hours=1)), _entry("two", now))
    result = run(environ, "trace", text, "--limit", "1")
    assert result.exit_code == 0
    assert result.stdout.startswith("Message two\n")
    assert "550 5.7.60 no" in result.stdout
    assert "Message one" not in result.stdout


def test_no_message_to_tell_of(environ: dict[str, str], run: Callable[..., Result], journal: Journal) -> None:
    result = run(environ, "trace", "nobody@example.net")
    assert result.exit_code == 0
    assert result.stdout.startswith("No message is known with the id, Message-ID or address nobody@")


def test_no_journal_to_look_into(environ: dict[str, str], run: Callable[..., Result]) -> None:
    result = run(environ, "trace", "x")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("smtp-relay cannot look into the journal:\n  - Cannot use the database ")
