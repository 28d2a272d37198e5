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


def image(**given: Any) -> Role:
    """The role image, after it has looked at an engine with buildx; `given` is what differs."""
    usual = {
        "image_name": "ghcr.io/someone/smtp-relay",
        "__image_builder": "buildx",
        "__image_buildx": {"rc": 0, "stdout": "", "stderr": ""},
        "__image_engine": {"rc": 0, "stdout": "linux/amd64\n", "stderr": ""},
    }
    return Role("image", {**usual, **given})


def test_these_images_are_taken() -> None:
    """So that a refusal below is of what differs."""
    assert image().refusal("engine") == image().refusal("validate") == ""
    assert image(image_build=False, image_tag="1.0.0").refusal("validate") == ""


def test_nothing_is_wrong_with_this_machine(controller: Controller) -> None:
    """Nor where a command has two playbooks: what the first has set is no variable that nothing reads."""
    twice = str(REPOSITORY / "playbooks/preflight.yml")
    played = controller.play("playbooks/preflight.yml", ON_THE_CONTROLLER, twice)
    assert played.code == 0, played.output
    assert "changed=0" in played.output  # and so whatever it refuses, it has changed nothing


def test_no_docker_command(controller: Controller) -> None:
    controller.without_docker()
    assert "There is no docker command on this machine." in (text := refused(controller))
    assert "sudo apt-get install docker.io" in text


def test_an_engine_that_cannot_be_used(controller: Controller) -> None:
    controller.answers["version"] = (1, "", NOT_RUNNING)
    text = refused(controller)
    assert f"The Docker engine at unix:///var/run/docker.sock cannot be used: {NOT_RUNNING}" in text
    assert "Start it (sudo systemctl start docker, or Docker Desktop), or name another one in" in text


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (
            f"Got {PERMISSION_DENIED}",
            "Let your user use it: sudo usermod -aG docker $USER, then log in anew.",
        ),
        (f"{PERMISSION_DENIED.capitalize()} at unix:///x", "sudo usermod -aG docker $USER"),
    ],
)
def test_what_is_said_of_an_engine_that_refuses(said: str, advice: str) -> None:
    engine = {"rc": 1, "stdout": "", "stderr": said}
    text = image(__image_buildx={"rc": 0}, __image_engine=engine).refusal("engine")
    assert f"The Docker engine at unix:///var/run/docker.sock cannot be used: {said}" in text
    assert advice in text


def test_without_a_build_no_engine_is_needed(controller: Controller) -> None:
    controller.answers["version"] = (1, "", NOT_RUNNING)
    controller.variables |= {"image_build": False, "image_tag": "1.0.0"}
    played = controller.play("playbooks/preflight.yml", ON_THE_CONTROLLER)
    assert played.code == 0, played.output


def test_the_classic_builder_makes_one_platform(controller: Controller) -> None:
    controller.answers["buildx version"] = NO_SUCH_PLUGIN
    controller.variables["image_platforms"] = ["linux/arm64"]
    assert "images for linux/amd64 only, and image_platforms asks for linux/arm64." in refused(controller)


@pytest.mark.parametrize("platforms", [["linux/arm64"], ["linux/amd64", "linux/arm64"]])
def test_what_is_said_of_platforms_that_the_builder_cannot_make(platforms: list[str]) -> None:
    text = image(__image_builder="classic", image_platforms=platforms).refusal("validate")
    assert f"images for linux/amd64 only, and image_platforms asks for {', '.join(platforms)}." in text
    assert (
        "Install buildx (https://docs.docker.com/go/buildx/), or set image_platforms: [linux/amd64]" in text
    )


def test_no_buildx_where_it_is_asked_for() -> None:
    status, stdout, stderr = NO_SUCH_PLUGIN
    without = {"rc": status, "stdout": stdout, "stderr": stderr}
    text = image(image_builder="buildx", __image_buildx=without).refusal("validate")
    assert "docker buildx version says: docker: unknown command: docker buildx" in text
    assert "Install it (https://docs.docker.com/go/buildx/), or set image_builder: auto" in text


def test_no_build_and_no_tag() -> None:
    text = image(image_build=False).refusal("validate")
    assert "image_tag must name a tag of ghcr.io/someone/smtp-relay that is in the registry" in text


def test_no_build_and_a_tag_that_is_not_there(controller: Controller) -> None:
    controller.variables |= {"image_build": False, "image_tag": "9.9.9"}
    controller.answers["manifest inspect"] = NOT_THERE
    text = refused(controller, ON_THE_CONTROLLER, playbook="playbooks/image.yml")
    assert (
        "ghcr.io/someone/smtp-relay:9.9.9 is not in the registry, or not for the login someone to see" in text
    )
    assert "Name a tag that is there in image_tag (see the Packages page of the repository)" in text


@pytest.mark.parametrize("name", ["ghcr.io/YOUR-GITHUB-NAME/smtp-relay", "someone/smtp-relay", "smtp-relay"])
def test_a_name_that_does_not_say_where(name: str) -> None:
    text = image(image_name=name).refusal("validate")
    assert f"image_name: '{name}' does not say where the image lies." in text


def missing(controller: Controller, name: str, *options: str) -> str:
    """What it says, once it has said that this name is not there."""
    text = refused(controller, *options)
    assert "The inventory refers to something that is not there:" in text
    assert f"{name}' is undefined" in text
    assert f"ansible-vault encrypt {controller.inventory}/group_vars/all/vault.yml" in text
    return text


def test_only_the_value_that_is_missing_is_told(controller: Controller) -> None:
    controller.variables["image_registry_password"] = "{{ vault_ghcr_token }}"
    text = missing(controller, "vault_ghcr_token")
    assert "not there: 'vault_ghcr_token' is undefined" in text.replace("Error while resolving value: ", "")
    assert "All assertions passed" not in text.partition("refers to something")[2]


def test_a_part_of_a_value_that_is_missing(controller: Controller) -> None:
    secret = "{{ vault_client_secret }}"
    controller.variables["relay_mailboxes"] = [{"address": "a@outlook.com", "client_secret": secret}]
    missing(controller, "vault_client_secret")


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
def test_a_value_that_is_the_examples_still(name: str, value: Any, said: str) -> None:
    given = {name: value}
    text = Role("preflight", {**given, "hostvars": {"tower": given}}).refusal("values")
    assert f"{name} still has {said} from the example. Fill it in" in text


def test_a_value_that_is_missing_does_not_show_the_others(controller: Controller) -> None:
    controller.variables["relay_alert_urls"] = "{{ vault_alert_urls }}"
    controller.variables["relay_mailboxes"] = [{"address": "a@outlook.com", "client_secret": "planted"}]
    assert "planted" not in missing(controller, "vault_alert_urls", "-vvv")


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


def test_an_old_ansible() -> None:
    text = Role("preflight", {"ansible_version": {"full": "2.18.6"}}).refusal("check")
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
