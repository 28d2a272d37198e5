"""What is missing on the machine that runs Ansible is told with the command or the click that mends it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from .playing import NO_SUCH_PLUGIN, NOT_THERE, Controller
from .rendering import REPOSITORY, ROLES, Role, read

PERMISSION_DENIED = "permission denied while trying to connect to the Docker daemon socket"
NOT_RUNNING = (
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
)
ON_THE_CONTROLLER = "--limit=localhost"


def refused(controller: Controller, *options: str, playbook: str = "playbooks/preflight.yml") -> str:
    """What it says, having changed nothing."""
    played = controller.play(playbook, *options)
    assert played.code == 2, played.output
    assert "changed=0" in played.output
    assert "not-a-real-token" not in played.output
    return played.text


def test_nothing_is_wrong_with_this_machine(controller: Controller) -> None:
    """Nor where a command has two playbooks: what the first has set is no variable that nothing reads."""
    twice = str(REPOSITORY / "playbooks/preflight.yml")
    played = controller.play("playbooks/preflight.yml", ON_THE_CONTROLLER, twice)
    assert played.code == 0, played.output


def test_no_docker_command(controller: Controller) -> None:
    controller.without_docker()
    assert "There is no docker command on this machine." in (text := refused(controller))
    assert "sudo apt-get install docker.io" in text


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (NOT_RUNNING, "Start it (sudo systemctl start docker, or Docker Desktop), or name another one in"),
        (
            f"Got {PERMISSION_DENIED}",
            "Let your user use it: sudo usermod -aG docker $USER, then log in anew.",
        ),
        (f"{PERMISSION_DENIED.capitalize()} at unix:///x", "sudo usermod -aG docker $USER"),
    ],
)
def test_an_engine_that_cannot_be_used(controller: Controller, said: str, advice: str) -> None:
    controller.answers["version"] = (1, "", said)
    text = refused(controller)
    assert f"The Docker engine at unix:///var/run/docker.sock cannot be used: {said}" in text
    assert advice in text


def test_without_a_build_no_engine_is_needed(controller: Controller) -> None:
    controller.answers["version"] = (1, "", NOT_RUNNING)
    controller.variables |= {"image_build": False, "image_tag": "1.0.0"}
    played = controller.play("playbooks/preflight.yml", ON_THE_CONTROLLER)
    assert played.code == 0, played.output


@pytest.mark.parametrize("platforms", [["linux/arm64"], ["linux/amd64", "linux/arm64"]])
def test_the_classic_builder_makes_one_platform(controller: Controller, platforms: list[str]) -> None:
    controller.answers["buildx version"] = NO_SUCH_PLUGIN
    controller.variables["image_platforms"] = platforms
    text = refused(controller)
    assert f"images for linux/amd64 only, and image_platforms asks for {', '.join(platforms)}." in text
    assert (
        "Install buildx (https://docs.docker.com/go/buildx/), or set image_platforms: [linux/amd64]" in text
    )


def test_no_buildx_where_it_is_asked_for(controller: Controller) -> None:
    controller.answers["buildx version"] = NO_SUCH_PLUGIN
    controller.variables["image_builder"] = "buildx"
    assert "Install it (https://docs.docker.com/go/buildx/), or set image_builder: auto" in refused(
        controller
    )


def test_no_build_and_no_tag(controller: Controller) -> None:
    controller.variables["image_build"] = False
    assert "image_tag must name a tag of ghcr.io/someone/smtp-relay that is in the registry" in refused(
        controller
    )


def test_no_build_and_a_tag_that_is_not_there(controller: Controller) -> None:
    controller.variables |= {"image_build": False, "image_tag": "9.9.9"}
    controller.answers["manifest inspect"] = NOT_THERE
    text = refused(controller, ON_THE_CONTROLLER, playbook="playbooks/image.yml")
    assert (
        "ghcr.io/someone/smtp-relay:9.9.9 is not in the registry, or not for the login someone to see" in text
    )
    assert "Name a tag that is there in image_tag (see the Packages page of the repository)" in text


@pytest.mark.parametrize("name", ["ghcr.io/YOUR-GITHUB-NAME/smtp-relay", "someone/smtp-relay", "smtp-relay"])
def test_a_name_that_does_not_say_where(controller: Controller, name: str) -> None:
    controller.variables["image_name"] = name
    assert f"image_name: '{name}' does not say where the image lies." in refused(controller)


MISSING = {
    "image_registry_password": "{{ vault_ghcr_token }}",
    "relay_alert_urls": "{{ vault_alert_urls }}",
    "relay_mailboxes": [{"address": "a@outlook.com", "client_secret": "{{ vault_client_secret }}"}],
}


@pytest.mark.parametrize(("name", "value"), MISSING.items())
def test_a_value_that_is_missing(controller: Controller, name: str, value: Any) -> None:
    controller.variables[name] = value
    text = refused(controller)
    assert "The inventory refers to something that is not there:" in text
    assert (
        f"{next(word for word in json.dumps(value).split() if word.startswith('vault_'))}' is undefined"
        in text
    )
    assert f"ansible-vault encrypt {controller.inventory}/group_vars/all/vault.yml" in text


def test_only_the_value_that_is_missing_is_told(controller: Controller) -> None:
    controller.variables["image_registry_password"] = "{{ vault_ghcr_token }}"
    text = refused(controller)
    assert "not there: 'vault_ghcr_token' is undefined" in text.replace("Error while resolving value: ", "")
    assert "All assertions passed" not in text.partition("refers to something")[2]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("relay_hostname", "YOUR-MAIL-HOST", "YOUR-MAIL-HOST"),
        (
            "relay_mailboxes",
            [{"address": "YOUR-OUTLOOK-ADDRESS", "x": "YOUR-OUTLOOK-ADDRESS"}],
            "YOUR-OUTLOOK-ADDRESS",
        ),
        ("relay_alert_urls", ["ntfys://ntfy.sh/YOUR-TOPIC"], "YOUR-TOPIC"),
        ("image_registry_password", "YOUR-GHCR-TOKEN", "YOUR-GHCR-TOKEN"),
    ],
)
def test_a_value_that_is_the_examples_still(controller: Controller, name: str, value: Any, said: str) -> None:
    controller.variables[name] = value
    text = refused(controller)
    assert f"{name} still has {said} from the example. Fill it in" in text


def test_a_value_that_is_missing_does_not_show_the_others(controller: Controller) -> None:
    controller.variables["relay_alert_urls"] = "{{ vault_alert_urls }}"
    controller.variables["relay_mailboxes"] = [{"address": "a@outlook.com", "client_secret": "planted"}]
    assert "planted" not in refused(controller, "-vvv")


def test_no_vault_file(controller: Controller) -> None:
    """As the example inventory is before its step 4."""
    shutil.rmtree(controller.inventory)
    shutil.copytree(REPOSITORY / "inventories/example", controller.inventory)
    controller.variables["image_name"] = "ghcr.io/someone/smtp-relay"
    del controller.variables["image_registry_password"], controller.variables["relay_mailboxes"]
    extra = f"--extra-vars={json.dumps(controller.variables)}"
    controller.variables = {}
    text = refused(controller, extra)
    assert (
        f"cp inventories/example/group_vars/all/vault.yml.example {controller.inventory}/group_vars" in text
    )


def test_an_old_ansible(controller: Controller) -> None:
    (controller.home / "sitecustomize.py").write_text(
        "import ansible.release\nansible.release.__version__ = '2.18.6'\n"
    )
    controller.environment["PYTHONPATH"] = str(controller.home)
    text = refused(controller)
    assert "This is ansible-core 2.18.6, and 2.19 or newer is needed." in text
    assert "make setup, then .venv/bin/ansible-playbook" in text


@pytest.mark.parametrize("playbook", ["playbooks/preflight.yml", "playbooks/uninstall.yml"])
def test_a_variable_that_there_is_not(controller: Controller, playbook: str) -> None:
    text = refused(controller, "--extra-vars=relay_purg=true", playbook=playbook)
    assert "relay_purg: there is no such variable. Did you mean relay_purge?" in text
    assert "One of your own, that no role shall read, needs another beginning than a role's name" in text


def test_a_variable_of_a_role_that_comes_later(tmp_path: Path) -> None:
    """Which names are ours is told by the roles that there are."""
    roles = shutil.copytree(ROLES, tmp_path / "roles")
    (roles / "tunnel/meta").mkdir(parents=True)
    (roles / "tunnel/meta/argument_specs.yml").write_text(
        "argument_specs: {main: {options: {tunnel_token: {}}}}"
    )
    names = ["tunnel_token", "tunnel_tokn", "tunnelling", *(f"{role.name}_x" for role in ROLES.iterdir())]
    check = next(task for task in read(ROLES / "preflight/tasks/check.yml") if "unknown" in str(task))
    role = Role(
        "preflight", {"role_path": str(roles / "preflight"), "hostvars": {"tower": dict.fromkeys(names)}}
    )
    unknown = role.extended({"item": "tower"}).evaluated(check["vars"]["__preflight_unknown"])
    assert [sentence.partition(":")[0] for sentence in unknown] == sorted(
        {*names} - {"tunnel_token", "tunnelling"}
    )
    assert "tunnel_tokn: there is no such variable. Did you mean tunnel_token?" in unknown


def test_to_remove_all_does_not_start_the_sandbox(controller: Controller) -> None:
    controller.variables["preflight_sandbox"] = True
    played = controller.play("playbooks/uninstall.yml", "--list-tasks")
    assert "preflight : Ensure every variable is one that a role reads" in played.output
    assert "Start the sandbox" not in played.output
