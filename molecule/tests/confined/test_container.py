"""The container that Ansible made: how it is confined, what it is connected with."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import testinfra


@pytest.fixture(scope="module")
def container(relay) -> dict[str, Any]:
    return relay.inspect(relay.name)


@pytest.fixture(scope="module")
def status(relay) -> dict[str, str]:
    """What the kernel says of the relay's process, which the container's init has started."""
    (process, *_) = relay.inside.file("/proc/1/task/1/children").content_string.split()
    lines = relay.inside.file(f"/proc/{process}/status").content_string.splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_it_runs_as_the_user_of_its_files(relay, container, status) -> None:
    assert container["Config"]["User"] == relay.user
    uid, gid = relay.user.split(":")
    assert set(status["Uid"].split()) == {uid}
    assert set(status["Gid"].split()) == {gid}


def test_it_has_no_capability_and_gets_none(container, status) -> None:
    assert container["HostConfig"]["CapDrop"] == ["ALL"]
    assert not container["HostConfig"]["CapAdd"]
    assert not container["HostConfig"]["Privileged"]
    assert container["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert status["NoNewPrivs"] == "1"
    assert status["Name"] != "docker-init"


def test_its_root_is_read_only(container, relay) -> None:
    assert container["HostConfig"]["ReadonlyRootfs"]
    for place in ("/", "/config", "/secrets", "/certs", "/data", "/tmp"):
        mode = "rw" if place in ("/data", "/tmp") else "ro"
        assert mode in relay.inside.mount_point(place).options, place
    root = testinfra.get_host(f"docker://root@{relay.name}")
    assert "Read-only file system" in root.run("touch /opt/smtp-relay/probe").stderr


def test_it_may_write_to_tmp_and_run_nothing_from_there(container, relay) -> None:
    assert container["HostConfig"]["Tmpfs"] == {"/tmp": "rw,noexec,nosuid,nodev,size=64m"}
    relay.inside.check_output("printf '#!/bin/sh\\n' >/tmp/probe && chmod 700 /tmp/probe")
    refused = relay.inside.run("/tmp/probe")
    relay.inside.check_output("rm /tmp/probe")
    assert refused.rc == 126
    assert "Permission denied" in refused.stderr


def test_it_cannot_fork_without_end(container, relay) -> None:
    assert container["HostConfig"]["PidsLimit"] == 256
    read = "cat /sys/fs/cgroup/pids/pids.max || cat /sys/fs/cgroup/pids.max"
    assert relay.inside.check_output(read) == "256"


def test_it_comes_back_and_may_take_its_time_to_stop(container) -> None:
    assert container["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert container["Config"]["StopTimeout"] == 75


def test_only_its_ports_are_open_and_on_ipv4_alone(container, host, places) -> None:
    smtp, console = (places[name].rpartition(":") for name in ("relay_port", "relay_console_port"))
    assert container["HostConfig"]["PortBindings"] == {
        "587/tcp": [{"HostIp": smtp[0] or "0.0.0.0", "HostPort": smtp[2]}],
        "8025/tcp": [{"HostIp": console[0] or "0.0.0.0", "HostPort": console[2]}],
    }
    for _, _, port in (smtp, console):
        with socket.create_connection(("127.0.0.1", int(port)), 30):
            pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("::1", int(port)), 30)
    assert list(container["NetworkSettings"]["Networks"]) == [places["relay_network"]]


def test_directories_are_mounted_and_only_one_can_be_written(container, relay) -> None:
    mounts = {mount["Destination"]: (mount["Source"], mount["RW"]) for mount in container["Mounts"]}
    assert mounts == {
        "/data": (f"{relay.directory}/data", True),
        "/config": (f"{relay.directory}/config", False),
        "/secrets": (f"{relay.directory}/secrets", False),
        "/certs": (f"{relay.directory}/certs", False),
    }


def test_it_says_who_made_it_and_what_it_is(container) -> None:
    labels = container["Config"]["Labels"]
    assert labels["smtp-relay.managed"] == "ansible"
    assert labels["org.opencontainers.image.title"] == "smtp-relay"
    assert labels["org.opencontainers.image.licenses"] == "MIT"
    assert labels["org.opencontainers.image.version"] == container["Config"]["Image"].rpartition(":")[2]


def test_its_environment_names_files_and_holds_no_secret(container) -> None:
    environment = dict(line.split("=", 1) for line in container["Config"]["Env"])
    for name in ("VAULT_KEY", "WEB_PASSWORD", "WEB_TOKEN", "ALERT_URLS"):
        assert environment[f"RELAY_{name}_FILE"].startswith("/secrets/")
        assert f"RELAY_{name}" not in environment
