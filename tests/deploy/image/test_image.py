"""What the image promises to whoever runs it."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from docker import DockerClient
from harness.clients import swaks
from harness.letters import letter
from harness.planted import Planted

from .. import layers
from .conftest import Images, Microsoft, Relay
from .containers import KILLED, ROOT, SECONDS_TO_BUILD, output

# Whichever test comes first has the build in its time.
pytestmark = [pytest.mark.timeout(SECONDS_TO_BUILD), pytest.mark.xdist_group("engine")]


def test_it_knows_its_tag(run_python: Callable[..., str]) -> None:
    """Which it leaves in the database, for an older one that meets it."""
    assert run_python("from relay_app import image; print(image.tag())").strip() == "1.2.3"


def test_a_mail_goes_out(relay: Relay, microsoft: Microsoft, planted: Planted) -> None:
    microsoft.control.reset()
    mail = letter(planted, relay.settings["USER_EMAIL"])
    sent = swaks(relay.account, mail)
    assert sent.status == 0, sent.transcript
    (arrived,) = microsoft.control.messages()
    assert arrived.recipients == list(mail.recipients)
    assert mail.content.rpartition(b"\r\n\r\n")[2] in arrived.content


def test_it_is_healthy_with_nothing_that_it_does_not_need(relay: Relay) -> None:
    host = relay.container.found.attrs["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["Privileged"]
    status = dict(re.findall(r"(?m)^(\w+):\t(.*)$", relay.container.run("cat", "/proc/1/status")))
    assert status["Uid"].split() == ["99"] * 4
    assert status["Gid"].split() == ["100"] * 4
    assert status["CapPrm"] == status["CapEff"] == status["CapBnd"] == "0" * 16
    assert status["NoNewPrivs"] == "1"
    assert relay.container.state["Health"]["Status"] == "healthy"


def test_it_runs_on_the_base_that_the_dockerfile_names(run_python: Callable[..., str]) -> None:
    program = """
import platform, sqlite3, sys
system = platform.freedesktop_os_release()
print("%d.%d" % sys.version_info[:2], system["VERSION_CODENAME"], system["VERSION_ID"])
print(sqlite3.sqlite_version)
"""
    python, release, debian, sqlite = run_python(program).split()
    tag = re.escape(f"python:{python}-slim-{release}")
    assert re.search(rf"(?m)^ARG PYTHON_IMAGE=.*/{tag}(@.*)?$", (ROOT / "Dockerfile").read_text())
    assert f"Debian {debian}'s {sqlite}," in (ROOT / "docs/operating.md").read_text()


def test_it_listens_on_587_without_root(relay: Relay) -> None:
    with socket.create_connection(("127.0.0.1", relay.account.port), timeout=10) as connection:
        assert connection.recv(512).startswith(b"220 relay.test ")
    assert relay.container.run(
        "python", "-c", "import socket; print(socket.create_connection(('127.0.0.1', 587)))"
    )


def test_what_it_is_started_with(engine: DockerClient, images: Images) -> None:
    config = engine.images.get(images.relay).attrs["Config"]
    assert config["User"] == "99:100"
    assert config["Entrypoint"] == ["smtp-relay"]
    assert config["Cmd"] == ["serve"]
    assert config["StopSignal"] == "SIGTERM"
    assert set(config["ExposedPorts"]) == {"587/tcp", "8025/tcp"}
    assert config["Healthcheck"]["Test"] == ["CMD", "smtp-relay", "health"]
    assert not config.get("Volumes"), "an unnamed volume would be made for each container"
    labels = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in config["Labels"].items()
        if name.startswith("org.opencontainers.image.")
    }
    assert labels.pop("description")
    assert labels == {
        "title": "smtp-relay",
        "licenses": "MIT",
        "version": "1.2.3",
        "revision": "c0ffee",
        "source": "https://example.org/smtp-relay",
        "url": "https://example.org/smtp-relay",
    }


def test_the_mount_points(engine: DockerClient, images: Images) -> None:
    places = ("/data", "/config", "/secrets", "/certs")
    listed = output(engine, images.relay, "-c%n %u:%g %a", *places, entrypoint="stat")
    assert listed.splitlines() == [
        "/data 99:100 700",
        "/config 0:0 755",
        "/secrets 0:0 755",
        "/certs 0:0 755",
    ]


def test_only_the_relay_is_in_it(run_python: Callable[..., str]) -> None:
    program = """
import importlib.util, pathlib, shutil, sys
print(*[name for name in ("pip", "setuptools", "sandbox", "pytest") if importlib.util.find_spec(name)])
print(*[name for name in ("pip", "pip3", "gcc", "cc", "make", "git", "curl") if shutil.which(name)])
here = pathlib.Path(sys.prefix)
print(*[path for path in here.rglob("*") if path.name in {"tests", "testing"} or path.suffix in {".h", ".c"}])
print(*sorted(path.name for path in (here / "bin").iterdir() if not path.name.startswith("python")))
print(*[name for name in ("/src", "/pip", "/package", "/bytecode") if pathlib.Path(name).exists()])
"""
    modules, programs, files, commands, rest = run_python(program).splitlines()
    assert (modules, programs, files, commands, rest) == ("", "", "", "smtp-relay", "")


def test_its_user_can_write_its_data_and_nothing_else(engine: DockerClient, images: Images) -> None:
    # Without --read-only: what the file modes alone allow.
    wanted = "/ -xdev -type d ! -readable -prune -o -writable ! -type l -print"
    found = output(engine, images.relay, *wanted.split(), entrypoint="find").split()
    # Sticky directories for everybody are Debian's.
    assert set(found) <= {"/data", "/tmp", "/var/tmp", "/run/lock"}


class TestStops:
    def test_sigterm_ends_it_well(self, start: Callable[..., Relay]) -> None:
        relay = start()
        relay.container.wait_for_log("event=started")
        assert relay.container.stop() == 0
        assert "event=stopped" in relay.container.log

    def test_with_an_init_a_stop_is_heard_before_it_has_started(self, start: Callable[..., Relay]) -> None:
        relay = start(init=True)
        assert relay.container.stop() != KILLED


class TestRefusesToStart:
    def test_a_wrong_setting(self, start: Callable[..., Relay]) -> None:
        container = start(RELAY_LISTEN="0.0.0.0:25", RELAY_FLOW="basic").container
        assert container.wait() == 2
        assert "smtp-relay cannot start:" in container.log
        assert "RELAY_LISTEN" in container.log
        assert "RELAY_FLOW" in container.log

    def test_a_data_directory_that_it_cannot_write(self, start: Callable[..., Relay]) -> None:
        container = start(RELAY_DATA_DIR="/config").container
        assert container.wait() == 2
        assert "/config" in container.log
        assert "Traceback" not in container.log


def test_no_secret_of_the_checkout_is_in_it(engine: DockerClient, images: Images, tmp_path: Path) -> None:
    for image in map(engine.images.get, (images.relay, images.sandbox)):
        assert images.content not in str(image.history())
        assert images.content not in str(image.attrs)
        with (tmp_path / "image.tar").open("wb") as saved:
            saved.writelines(image.save())
        contents = list(layers.files(tmp_path / "image.tar"))
        assert [name for name, content in contents if images.content.encode() in content] == []
        assert len(contents) > 1000
