"""The ways to run the relay are one: docker-compose.yml, the role relay, and Unraid's template for people."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from .dockerman import Server, Template, read_template
from .rendering import REPOSITORY, Role

SERVER = Server("Tower")
# Compose's word for an option -> the role's. Whatever else a service has is in ELSEWHERE.
OPTIONS = {
    "user": "user",
    "init": "init",
    "read_only": "read_only",
    "cap_drop": "cap_drop",
    "security_opt": "security_opts",
    "tmpfs": "tmpfs",
    "pids_limit": "pids_limit",
    "restart": "restart_policy",
    "stop_grace_period": "stop_timeout",
}
# The log's size is the engine's own setting on Unraid (docker.cfg).
ELSEWHERE = {"image", "container_name", "ports", "environment", "volumes", "logging"}


@pytest.fixture(scope="module")
def service() -> dict[str, Any]:
    return dict(
        yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text("utf-8"))["services"]["smtp-relay"]
    )


@pytest.fixture(scope="module")
def template() -> Template:
    return read_template((REPOSITORY / "unraid/smtp-relay.xml").read_text("utf-8"), SERVER)


@pytest.fixture(scope="module")
def role() -> Role:
    given = {"relay_image": "ghcr.io/o/smtp-relay:1", "relay_hostname": "x", "relay_mailboxes": []}
    return Role("relay", {**given, "__relay_survey": {"hostname": "Tower"}})


def in_the_roles_words(service: dict[str, Any]) -> dict[str, Any]:
    options = {OPTIONS[key]: value for key, value in service.items() if key not in ELSEWHERE}
    return {**options, "stop_timeout": int(service["stop_grace_period"].removesuffix("s"))}


def test_all_three_run_it_with_the_same_options(
    service: dict[str, Any], template: Template, role: Role
) -> None:
    options = in_the_roles_words(service)
    assert options == role.value("__relay_options")
    written = role.extended({"of_compose": options}).value("of_compose | extra_params")
    assert template["ExtraParams"] == written


def test_they_mount_the_same_places(service: dict[str, Any], template: Template, role: Role) -> None:
    volumes = role.value("__relay_config | container_arguments")["volumes"]
    compose = dict(f"{volume}:rw".split(":")[1:3] for volume in service["volumes"])
    ansible = dict(volume.rsplit(":", 2)[1:] for volume in volumes)
    unraid = {config.target: config.mode for config in template.configs if config.type == "Path"}
    assert compose == ansible == {**unraid, "/config": "ro"}  # relay.toml is what fields say there


def test_what_the_form_can_set_compose_can_set(service: dict[str, Any], template: Template) -> None:
    fields = {config.target for config in template.configs if config.type == "Variable"}
    assert service["environment"].keys() - fields == {"RELAY_CONFIG", "TZ"}
    assert fields <= service["environment"].keys()


def test_they_publish_the_same_ports(service: dict[str, Any], template: Template) -> None:
    compose = {port.rpartition(":")[2] for port in service["ports"]}
    assert compose == {config.target for config in template.configs if config.type == "Port"}
