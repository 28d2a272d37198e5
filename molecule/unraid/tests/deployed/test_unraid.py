"""The relay as Unraid sees it: template, list of containers to start, labels, variables."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from harness.programs import wait_until


@pytest.fixture(scope="module")
def template(at_tower, relay) -> str:
    return at_tower("cat", f"/boot/config/plugins/dockerMan/templates-user/my-{relay.name}.xml")


def test_the_template_is_what_the_web_interface_makes_the_container_from(template, relay) -> None:
    root = ET.fromstring(template)
    assert root.get("version") == "2"
    assert root.findtext("Name") == relay.name
    assert root.findtext("Repository") == relay.inspected["Config"]["Image"]
    assert root.findtext("WebUI") == "http://[IP]:[PORT:8025]/"
    values = {config.get("Target"): config.text for config in root.findall("Config")}
    assert values["587"] == f"127.0.0.1:{relay.port}"
    assert values["/data"] == f"{relay.directory}/data"
    assert values["RELAY_HOSTNAME"] == "smtprelay.example.org"


def test_it_lies_on_a_boot_device_that_knows_no_modes(tower, relay) -> None:
    file = tower.file(f"/boot/config/plugins/dockerMan/templates-user/my-{relay.name}.xml")
    assert (file.user, file.group, file.mode) == ("root", "root", 0o600)


def test_no_secret_is_in_it(template, at_tower, relay) -> None:
    """What is on the boot device is copied to Unraid Connect's backup."""
    files = at_tower("find", f"{relay.directory}/secrets", "-type", "f").split()
    values = [at_tower("cat", file) for file in files]
    assert len(values) == 5
    assert [value for value in values if value.strip() in template] == []


def test_no_secret_is_in_the_containers_variables(at_tower, relay) -> None:
    shown = at_tower("docker", "inspect", relay.name)
    files = at_tower("find", f"{relay.directory}/secrets", "-type", "f").split()
    assert [file for file in files if at_tower("cat", file).strip() in shown] == []


def test_it_starts_with_the_array_after_the_others(at_tower, relay) -> None:
    assert at_tower("cat", "/var/lib/docker/unraid-autostart") == f"mariadb\ntower 10\n{relay.name}\n"


def test_it_has_unraids_labels(relay) -> None:
    labels = relay.inspected["Config"]["Labels"]
    assert labels["net.unraid.docker.managed"] == "dockerman"
    assert labels["net.unraid.docker.webui"] == "http://[IP]:[PORT:8025]/"
    assert labels["net.unraid.docker.icon"].startswith("https://raw.githubusercontent.com/")
    assert labels["smtp-relay.managed"] == "ansible"


def test_it_has_unraids_variables(relay) -> None:
    variables = dict(variable.split("=", 1) for variable in relay.inspected["Config"]["Env"])
    assert variables["TZ"] == "Europe/Vienna"
    assert variables["HOST_OS"] == "Unraid"
    assert variables["HOST_HOSTNAME"] == "Tower"
    assert variables["HOST_CONTAINERNAME"] == relay.name


def test_it_is_healthy_and_confined(relay) -> None:
    wait_until(
        lambda: relay.inspected["State"]["Health"]["Status"] == "healthy", "Docker calls it healthy", 60
    )
    found = relay.inspected
    assert found["Config"]["User"] == "99:100"
    assert found["HostConfig"]["ReadonlyRootfs"]
    assert found["HostConfig"]["CapDrop"] == ["ALL"]
    assert found["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]
