"""The parts that every scenario uses. See harness/ for what they are."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.certificates import Authority, Pair
from harness.config import Config, ConfiguredRelay, Device
from harness.dovecot import Dovecot
from harness.planted import Planted
from harness.ports import free_port
from harness.relay import Relay
from harness.smtp_sink import SmtpSink

from sandbox.client import Control, SandboxProcess


@contextlib.contextmanager
def _open_directory() -> Iterator[Path]:
    """A directory with a short path that other users may read, which pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="scenario-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The certificate authority of this test run."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def pair(authority: Authority) -> Pair:
    """A certificate for this machine, good for the whole run."""
    return authority.issue()


@pytest.fixture(scope="session")
def planted() -> Planted:
    """The secrets of this run. Whoever makes one plants it here, and no log may hold it."""
    return Planted()


@pytest.fixture(scope="session")
def _sink() -> Iterator[SmtpSink]:
    with _open_directory() as directory:
        sink = SmtpSink(directory)
        yield sink
        sink.stop()


@pytest.fixture
def sink(_sink: SmtpSink) -> SmtpSink:
    """Postfix's smtp-sink, empty: the place where Dovecot relays to."""
    _sink.clear()
    return _sink


@pytest.fixture(scope="session")
def dovecot(pair: Pair, _sink: SmtpSink) -> Iterator[Dovecot]:
    """Dovecot's submission service with XOAUTH2, relaying to `sink`."""
    with _open_directory() as directory:
        dovecot = Dovecot(directory, pair, _sink.host, _sink.port)
        yield dovecot
        dovecot.stop()


@pytest.fixture(scope="session")
def _sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess(tmp_path_factory.mktemp("sandbox")) as process:
        yield process


@pytest.fixture
def sandbox(_sandbox: SandboxProcess) -> Control:
    """The stand-in for Microsoft, as new."""
    _sandbox.control.reset()
    return _sandbox.control


@pytest.fixture(scope="session")
def make_settings(
    _sandbox: SandboxProcess, pair: Pair, planted: Planted, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], dict[str, str]]:
    """Make settings for a relay of its own: a new port, password and data directory, and the sandbox."""

    def make() -> dict[str, str]:
        world = _sandbox.control.world()
        return {
            "CLIENT_ID": world.client_id,
            "CLIENT_SECRET": planted.add("client secret", world.client_secret),
            "TENANT_ID": world.tenant,
            "USER_EMAIL": world.work,
            "RELAY_FLOW": "client_credentials",
            "RELAY_PASSWORD": planted.make("password"),
            "RELAY_LISTEN": f"127.0.0.1:{free_port()}",
            "RELAY_HOSTNAME": "relay.test",
            "RELAY_TLS_CERT": str(pair.cert),
            "RELAY_TLS_KEY": str(pair.key),
            "RELAY_DATA_DIR": str(tmp_path_factory.mktemp("data")),
            "RELAY_UPSTREAM": _sandbox.smtp,
            "RELAY_UPSTREAM_CA": _sandbox.ca,
            "RELAY_AUTHORITY": _sandbox.authority,
            "RELAY_WEB_LISTEN": "",
        }

    return make


@pytest.fixture
def settings(make_settings: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Settings for this test's relay; change them before it starts."""
    return make_settings()


@pytest.fixture
def start_relay(
    sandbox: Control, settings: dict[str, str], authority: Authority, planted: Planted
) -> Iterator[Callable[..., Relay]]:
    """Start a relay with `settings`, some of them changed. Each is stopped and examined at the end."""
    with contextlib.ExitStack() as stop_all:

        def start(**changes: str) -> Relay:
            relay = Relay({**settings, **changes}, authority.bundle, planted)
            stop_all.callback(relay.stop)
            return relay

        yield start


@pytest.fixture
def relay(start_relay: Callable[..., Relay]) -> Relay:
    """A relay with a device for the work mailbox, signing in with client credentials."""
    return start_relay()


@pytest.fixture
def start_configured(
    start_relay: Callable[..., Relay], settings: dict[str, str], tmp_path: Path
) -> Callable[..., ConfiguredRelay]:
    """Start a relay with these devices, and limits, in the file that RELAY_CONFIG names."""

    def start(*devices: Device, **limits: float) -> ConfiguredRelay:
        return ConfiguredRelay(Config(tmp_path / "relay.toml", settings, devices, limits), start_relay)

    return start


@pytest.fixture(scope="module")
def _shared_relay(
    make_settings: Callable[[], dict[str, str]], authority: Authority, planted: Planted
) -> Iterator[Relay]:
    relay = Relay(make_settings(), authority.bundle, planted)
    yield relay
    relay.stop()


@pytest.fixture
def shared_relay(_shared_relay: Relay, sandbox: Control) -> Relay:
    """One relay for all tests of a module: for those that leave it as they found it."""
    return _shared_relay
