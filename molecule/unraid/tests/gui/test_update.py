"""Somebody clicks Update in Unraid's web interface: it makes the container anew from the template."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from harness.programs import wait_until

from tests.deploy.dockerman import Server, command, differences, filled, read_template, server_of

TEMPLATES = "/boot/config/plugins/dockerMan/templates-user"


@pytest.fixture(scope="module")
def server(at_tower) -> Server:
    """What the web interface knows of the tower."""
    return server_of(
        at_tower("cat", "/var/local/emhttp/var.ini"),
        at_tower("cat", "/boot/config/docker.cfg"),
        at_tower("docker", "network", "ls", "--format", "{{.Name}}={{.Driver}}"),
    )


@pytest.fixture(scope="module")
def update(server, tower, at_tower, relay) -> Callable[[str], None]:
    """What Unraid does with a template."""

    def make(xml: str) -> None:
        at_tower("docker", "stop", relay.name)
        at_tower("docker", "rm", relay.name)
        tower.check_output(command(read_template(xml, server), server, start=True))
        wait_until(relay.answers, "the relay answers", timeout=60)

    return make


@pytest.fixture(scope="module")
def updated(at_tower, relay, update) -> dict[str, dict]:
    """The container as Ansible made it, and as the web interface makes it."""
    ansibles = relay.inspect(relay.name)
    update(at_tower("cat", f"{TEMPLATES}/my-{relay.name}.xml"))
    return {"ansible": ansibles, "gui": relay.inspect(relay.name)}


def test_its_container_is_the_one_that_ansible_made(updated) -> None:
    assert updated["ansible"]["Id"] != updated["gui"]["Id"]
    assert differences(updated["ansible"], updated["gui"]) == {}


def test_mail_goes_out_through_it(updated, goes_out) -> None:
    goes_out()


def test_a_run_after_it_changes_nothing(updated, relay, deploy) -> None:
    assert deploy("site.yml", "--limit=all").changed == []
    assert relay.inspect(relay.name)["Id"] == updated["gui"]["Id"]


def test_what_somebody_types_holds_until_ansible_runs_again(
    updated, server, update, relay, at_tower, deploy, goes_out
) -> None:
    template = at_tower("cat", f"{TEMPLATES}/my-{relay.name}.xml")
    typed = filled(template, server, RELAY_HOSTNAME="mail.example.org")
    update(typed)
    assert "RELAY_HOSTNAME=mail.example.org" in relay.inspect(relay.name)["Config"]["Env"]

    assert deploy().refusal() == ""
    assert differences(updated["ansible"], relay.inspect(relay.name)) == {}
    assert at_tower("cat", f"{TEMPLATES}/my-{relay.name}.xml") == template
    goes_out()
