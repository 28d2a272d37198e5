"""What the role relay refuses before it changes anything, and what it says when something went wrong."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleError

from .rendering import Role

GIB = 1024
SURVEY = {
    "unraid": "7.3.2",
    "array": "Started",
    "share": "mounted",
    "docker_enabled": "yes",
    "docker_storage": "mounted",
    "arch": "x86_64",
    "free_mb": str(50 * GIB),
    "docker_free_mb": str(20 * GIB),
    "listening": "22 80 443",
    "addresses": "127.0.0.1 ::1 192.168.1.5 fd00::5",
    "ports": "",
    "container": "",
    "owner": "",
    "image": "",
    "foreign": "",
    "network_driver": "",
    "network_subnets": "",
}
BR0 = {"network_driver": "macvlan", "network_subnets": "192.168.1.0/24 "}


def relay(survey: dict[str, str] | None = None, **given: Any) -> Role:
    """The role on an Unraid server that is as it should be; `survey` and `given` are what differs."""
    usual = {
        "relay_image": "ghcr.io/someone/smtp-relay:1.2.3",
        "relay_hostname": "smtprelay.example.org",
        "relay_mailboxes": [{"address": "me@outlook.com", "client_id": "an-id"}],
        "__relay_survey": SURVEY | (survey or {}),
        "__relay_engine": {"can_talk_to_docker": True},
        "hostvars": {"tower": {"ansible_host": "tower"}},
    }
    return Role("relay", {**usual, **given})


@pytest.mark.parametrize(
    "role",
    [
        relay(),
        relay(relay_port="192.168.1.5:1587", relay_tls_port="[fd00::5]:465", relay_console_port=""),
        relay(relay_port="127.0.0.2:587"),
        relay({"addresses": ""}, relay_port="10.0.0.1:587"),  # what the host has is not known
        relay(BR0, relay_network="br0", relay_ip="192.168.1.50"),
        relay(BR0 | {"listening": "587 8025"}, relay_network="br0", relay_ip="192.168.1.50"),
        relay({"unraid": "6.12.0"}),
    ],
)
def test_these_are_taken(role: Role) -> None:
    """So that a refusal below is of what differs."""
    assert role.refusal("ready") == role.refusal("validate") == ""


@pytest.mark.parametrize(
    ("role", "sentence"),
    [
        (relay(relay_port=""), "relay_port ('') must be set, and relay_tls_port"),
        (relay(relay_tls_port="8025"), "relay_console_port ('8025') must be other ones."),
        (
            relay(relay_port="192.168.1.6:587"),
            "relay_port: tower has no address 192.168.1.6. It has 127.0.0.1, ::1, 192.168.1.5, fd00::5.",
        ),
        (relay(relay_console_port="[fd00::6]:8025"), "relay_console_port: tower has no address fd00::6."),
        (relay({"listening": "22 587"}), "Port 587 of tower is in use by another program"),
        (
            relay(relay_network="host"),
            "the relay cannot be in the network host of tower. Leave relay_network out",
        ),
        (
            relay({"network_driver": "overlay"}, relay_network="swarm"),
            "the relay cannot be in the network swarm of tower.",
        ),
        (
            relay(BR0, relay_network="br0"),
            "in br0 of tower each container has an address of its own. Choose a free one in 192.168.1.0/24",
        ),
        (
            relay(BR0, relay_network="br0", relay_ip="192.168.2.50"),
            "relay_ip: 192.168.2.50 is no address in 192.168.1.0/24, the network br0 of tower.",
        ),
        (
            relay(relay_ip="192.168.1.50"),
            "relay_ip: in the network smtp-relay of tower a container has no address of its own",
        ),
        (
            relay({"foreign": "smtp-relay-next"}),
            "tower has a container smtp-relay-next that these playbooks did not make, and its name is needed",
        ),
    ],
    ids=lambda value: "" if isinstance(value, Role) else value[:30],
)
def test_what_cannot_be_is_refused_with_what_to_do(role: Role, sentence: str) -> None:
    assert sentence in role.refusal("validate")


def test_a_port_that_is_none_names_its_variable() -> None:
    with pytest.raises(AnsibleError, match=r"relay_console_port: '70000' cannot be published"):
        relay(relay_console_port=70000).refusal("validate")


def test_an_unraid_that_is_too_old_is_refused() -> None:
    assert "tower has Unraid 6.11.5, and 6.12 or newer is needed." in relay({"unraid": "6.11.5"}).refusal(
        "validate"
    )


@pytest.mark.parametrize(
    ("version", "warned"),
    [
        ("6.12.15", True),
        ("7.2.7", True),
        ("7.2.8", False),
        ("7.2.9", False),
        ("7.3.0", True),
        ("7.3.0-rc.1", True),
        ("7.3.1", True),
        ("7.3.2", False),
        ("7.4.0-beta.0.3", False),
    ],
)
def test_one_with_a_known_hole_is_warned_of(version: str, warned: bool) -> None:
    role = relay({"unraid": version})
    [task] = [task for task in role.tasks("validate") if "CVE-2026-3838" in str(task)]
    assert role.holds(task["when"]) is warned
    assert f"Unraid {version} on tower has a known hole" in role.evaluated(
        task["ansible.builtin.debug"]["msg"]
    )


@pytest.mark.parametrize(
    ("survey", "given", "repositories"),
    [
        ({}, {}, ["ghcr.io/someone/smtp-relay"]),
        # To uninstall, nobody need say which image it was.
        (
            {"owner": "ansible", "image": "tower:5000/a/relay:2", "good_image": "b/relay:1"},
            {"relay_image": ""},
            ["b/relay", "tower:5000/a/relay"],
        ),
        # One that is not ours is adopted; its image is not.
        ({"owner": "", "image": "lscr.io/somebody/mariadb:11"}, {}, ["ghcr.io/someone/smtp-relay"]),
        ({"owner": "ansible", "image": "sha256:abc"}, {}, ["ghcr.io/someone/smtp-relay"]),
        ({}, {"relay_image": "c/relay@sha256:abc"}, ["c/relay"]),
    ],
)
def test_whose_images_are_removed_follows_from_the_relays_own(
    survey: dict[str, str], given: dict[str, str], repositories: list[str]
) -> None:
    assert relay(survey, **given).value("__relay_repositories") == repositories


# What is said when it went wrong.

SWAPPED = "Warning: something of ssh\r\noutcome={}\r\nthe port is in use\r\n"


def said(outcome: str, upgrade: bool = False, **given: Any) -> str:
    """The message after a swap with this outcome, or after another trouble."""
    usual = {
        "__relay_survey": SURVEY
        | {"image": "relay:1", "good_id": "old", "wanted_image": "new" if upgrade else "old"},
        "__relay_undone": {"skipped": True},
        "__relay_swap": {"stdout": SWAPPED.format(outcome)} if outcome else {},
    }
    role = relay(**{**usual, **given})
    [facts] = [
        task["ansible.builtin.set_fact"]
        for task in role.tasks("rollback")
        if "ansible.builtin.set_fact" in task
    ]
    role = role.extended(
        {"__relay_failure": given.get("failure", {"failed": True, "msg": "one of the tasks failed"})}
    )
    return role.extended({name: role.evaluated(text) for name, text in facts.items()}).template("rollback.j2")


@pytest.mark.parametrize(
    ("outcome", "sentences"),
    [
        (
            "back",
            ["What ran before, relay:1, is running again, with its settings and all data.", "relay-next"],
        ),
        ("restored", ["with its settings and the database of before the upgrade", ".failed-upgrade"]),
        ("lost", ["Neither does what ran before, relay:1."]),
        ("alone", ["and none ran before that could be brought back.", "docker logs smtp-relay\n"]),
    ],
)
@pytest.mark.parametrize("upgrade", [True, False])
def test_a_swap_says_what_became_of_it(outcome: str, sentences: list[str], upgrade: bool) -> None:
    text = said(outcome, upgrade)
    what = "with ghcr.io/someone/smtp-relay:1.2.3" if upgrade else "as it is set up now"
    assert f"The relay does not run {what}" in text
    assert "\n\nthe port is in use\n\nCorrect that and run again." in text
    for sentence in sentences:
        assert sentence in text + "\n"
    assert ("-e image_tag=TAG" in text) == (upgrade and outcome != "alone")


def test_what_fails_after_the_new_one_has_answered_takes_nothing_back() -> None:
    text = said("taken", __relay_swap={"stdout": "outcome=taken\r\n"})
    assert "The relay runs as it is set up now, but this failed after it had answered:" in text
    assert "\n\none of the tasks failed\n\n" in text
    assert "docker logs smtp-relay\n" in text + "\n"


@pytest.mark.parametrize(
    ("undone", "sentence"),
    [
        ({"skipped": True}, "The relay was not deployed:"),
        (
            {"rc": 0, "stdout": ""},
            "The relay cannot run as it is set up now. It runs as before, and its settings are those of",
        ),
        ({"rc": 1, "stdout": "I am dead"}, "does not answer: I am dead"),
        ({"rc": 2, "stdout": "no such place"}, "could not be brought back (no such place)."),
    ],
    ids=["nothing to go back to", "as before", "does not answer", "nor can it be undone"],
)
def test_another_trouble_says_how_the_relay_is(undone: dict[str, Any], sentence: str) -> None:
    text = said("", __relay_undone=undone)
    assert sentence in " ".join(text.split())
    assert "one of the tasks failed" in text


@pytest.mark.parametrize(
    "failure",
    [
        {"failed": True, "msg": "Task failed: Module failed: the words"},
        {"stdout": "the words\r\n", "msg": "non-zero return code"},
        {
            "results": [{"changed": True}, {"failed": True, "msg": "the words"}],
            "msg": "One or more items failed",
        },
    ],
    ids=["a task", "a script", "an item of a loop"],
)
def test_the_trouble_is_found_wherever_it_is_said(failure: dict[str, Any]) -> None:
    assert "\nthe words\n" in said("", failure=failure)
