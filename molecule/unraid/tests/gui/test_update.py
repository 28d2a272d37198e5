"""Somebody clicks Update in Unraid's web interface: it makes the container anew from the template."""

from __future__ import annotations

import pytest

from tests.deploy.dockerman import command, differences, read_template, server_of


@pytest.fixture(scope="module")
def updated(tower, at_tower, relay) -> dict[str, dict]:
    """The container as Ansible made it, and as the web interface makes it."""
    xml = at_tower("cat", f"/boot/config/plugins/dockerMan/templates-user/my-{relay.name}.xml")
    server = server_of(
        at_tower("cat", "/var/local/emhttp/var.ini"),
        at_tower("cat", "/boot/config/docker.cfg"),
        at_tower("docker", "network", "ls", "--format", "{{.Name}}={{.Driver}}"),
    )
    ansibles = relay.inspect(relay.name)
    at_tower("docker", "stop", relay.name)
    at_tower("docker", "rm", relay.name)
    tower.check_output(command(read_template(xml, server), server, start=True))
    return {"ansible": ansibles, "gui": relay.inspect(relay.name)}


def test_its_container_is_the_one_that_ansible_made(updated) -> None:
    assert updated["ansible"]["Id"] != updated["gui"]["Id"]
    assert differences(updated["ansible"], updated["gui"]) == {}


def test_mail_goes_out_through_it(updated, relay, at_tower, goes_out) -> None:
    at_tower(
        "timeout", "60", "sh", "-c", f"until docker exec {relay.name} smtp-relay health; do sleep 0.2; done"
    )
    goes_out()


def test_a_run_after_it_changes_nothing(updated, relay, deploy) -> None:
    assert deploy("site.yml", "--limit=all").changed == []
    assert relay.inspect(relay.name)["Id"] == updated["gui"]["Id"]
