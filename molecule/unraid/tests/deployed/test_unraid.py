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
    assert root.findtext("Repository") == relay.inspect(relay.name)["Config"]["Image"]
    assert root.findtext("WebUI") == "http://[IP]:[PORT:8025]/"
    values = {config.get("Target"): config.text for config in root.findall("Config")}
    assert values["587"] == f"0.0.0.0:{relay.port}"
    assert values["/data"] == f"{relay.directory}/data"
    assert values["RELAY_HOSTNAME"] == "smtprelay.example.org"


def test_it_lies_on_a_boot_device_that_knows_no_modes(tower, relay) -> None:
    file = tower.file(f"/boot/config/plugins/dockerMan/templates-user/my-{relay.name}.xml")
    assert (file.user, file.group, file.mode) == ("root", "root", 0o600)


def test_it_starts_with_the_array_after_the_others(at_tower, relay) -> None:
    assert at_tower("cat", "/var/lib/docker/unraid-autostart") == f"mariadb\ntower 10\n{relay.name}\n"


def test_it_has_unraids_labels(relay) -> None:
    labels = relay.inspect(relay.name)["Config"]["Labels"]
    assert labels["net.unraid.docker.managed"] == "dockerman"
    assert labels["net.unraid.docker.webui"] == "http://[IP]:[PORT:8025]/"
    assert labels["net.unraid.docker.icon"].startswith("https://raw.githubusercontent.com/")
    assert labels["smtp-relay.managed"] == "ansible"


def test_it_has_unraids_variables(relay) -> None:
    variables = dict(variable.split("=", 1) for variable in relay.inspect(relay.name)["Config"]["Env"])
    assert variables["TZ"] == "Europe/Vienna"
    assert variables["HOST_OS"] == "Unraid"
    assert variables["HOST_HOSTNAME"] == "Tower"
    assert variables["HOST_CONTAINERNAME"] == relay.name


def test_it_is_healthy(relay) -> None:
    wait_until(
        lambda: relay.inspect(relay.name)["State"]["Health"]["Status"] == "healthy",
        "Docker calls it healthy",
        60,
    )
