"""The roles' templates and variables through Ansible's Templar: settings, Unraid's template, messages."""

from __future__ import annotations

import html
import re
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.template import trust_as_template
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay_app.settings import ForeignFrom

from .dockerman import ATTRIBUTES, ELEMENTS, PATH_MODES, Server, Template, arguments, filled, read_template
from .rendering import ROLES, Role, relay_settings

CLIENT_ID = "11111111-2222-3333-4444-555555555555"
SURVEY = {"hostname": "Tower", "timezone": "Europe/Vienna"}
HOSTILE = [
    '"',
    "'",
    "\\",
    "'''",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "{# #}",
    "ü",
    "😀",
    "#",
    "]",
    "=",
    "$(id)",
    "`id`",
    "\x7f",
]


def relay(**given: Any) -> Role:
    """The role relay on Unraid, with one mailbox unless something else is given."""
    variables = {
        "relay_image": "ghcr.io/someone/smtp-relay:1.2.3",
        "relay_hostname": "smtprelay.example.org",
        "relay_mailboxes": [{"address": "me@outlook.com", "client_id": CLIENT_ID, "tenant": "consumers"}],
        "__relay_survey": SURVEY,
    }
    return Role("relay", variables | given)


# The settings.


def test_the_smallest_settings() -> None:
    assert (
        relay().template("relay.toml.j2")
        == f"""\
# Ansible managed
# Mailboxes and devices. "ansible-playbook playbooks/relay.yml" writes this file anew.

[[mailbox]]
address = "me@outlook.com"
tenant = "consumers"
client_id = "{CLIENT_ID}"

[[mailbox.device]]
name = "me@outlook.com"
password_file = "/secrets/password_me-outlook-com"
"""
    )


FULL = [
    {
        "address": "office@example.org",
        "flow": "client_credentials",
        "tenant": "example.org",
        "client_id": CLIENT_ID,
        "client_secret": "a secret",
        "secret_expires": "2027-05-31",
        "devices": [
            {
                "name": "scanner",
                "password": "pa$$ 'word\"",
                "senders": ["scanner@example.org", "*@reports.example.org"],
                "foreign_from": "rewrite",
                "hourly_messages": 60,
            },
            {"name": "gmail", "senders": [], "hourly_messages": 0, "foreign_from": None},
        ],
    },
    {"address": "me@outlook.com", "client_id": CLIENT_ID, "client_secret": None, "devices": []},
]


def test_the_fullest_settings_are_neat() -> None:
    role = relay(
        relay_mailboxes=FULL, relay_limits={"recipients": 100, "connections": 3, "data_timeout": 1.5}
    )
    assert (
        role.template("relay.toml.j2").split("\n", 2)[2]
        == f"""
[limits]
connections = 3
data_timeout = 1.5
recipients = 100

[[mailbox]]
address = "office@example.org"
flow = "client_credentials"
tenant = "example.org"
client_id = "{CLIENT_ID}"
secret_expires = "2027-05-31"
client_secret_file = "/secrets/client_secret_office-example-org"

[[mailbox.device]]
name = "scanner"
senders = ["scanner@example.org", "*@reports.example.org"]
foreign_from = "rewrite"
hourly_messages = 60
password_file = "/secrets/password_scanner"

[[mailbox.device]]
name = "gmail"
password_file = "/secrets/password_gmail"

[[mailbox]]
address = "me@outlook.com"
client_id = "{CLIENT_ID}"

[[mailbox.device]]
name = "me@outlook.com"
password_file = "/secrets/password_me-outlook-com"
"""
    )


def test_the_relay_understands_the_fullest_settings(tmp_path: Path) -> None:
    read = relay_settings(
        relay(relay_mailboxes=FULL, relay_limits={"connections": 3, "data_timeout": 1.5}), tmp_path
    )
    office, me = read.mailboxes
    assert (office.address, office.tenant) == ("office@example.org", "example.org")
    assert office.client_secret == "a secret"
    assert str(office.secret_expires) == "2027-05-31"
    assert (me.address, me.client_secret, me.flow.value) == ("me@outlook.com", "", "authorization_code")
    scanner, gmail, mine = read.devices
    assert scanner.senders == ("scanner@example.org", "*@reports.example.org")
    assert (scanner.foreign_from, scanner.hourly_messages) == (ForeignFrom.REWRITE, 60)
    assert (gmail.foreign_from, gmail.hourly_messages) == (ForeignFrom.REFUSE, 0)
    assert mine.name == "me@outlook.com"
    assert (read.limits.connections, read.limits.data_timeout) == (3, 1.5)


def test_no_secret_is_in_the_settings() -> None:
    text = relay(relay_mailboxes=FULL).template("relay.toml.j2")
    assert "a secret" not in text
    assert "word" not in text.replace("password_file", "").replace("/secrets/password_", "")


NAMES = st.lists(st.characters(exclude_categories=["C", "Z"]) | st.sampled_from(HOSTILE), max_size=20).map(
    "".join
)


@given(NAMES, st.lists(NAMES, max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_names_come_through_as_they_are(tmp_path: Path, name: str, senders: list[str]) -> None:
    name = f"x{name}"
    addresses = [f"{sender}@example.org" for sender in senders]
    role = relay(
        relay_mailboxes=[
            {
                "address": "me@outlook.com",
                "client_id": CLIENT_ID,
                "devices": [{"name": name, "senders": addresses}],
            }
        ]
    )
    [mailbox] = tomllib.loads(role.template("relay.toml.j2"))["mailbox"]
    assert mailbox["device"][0]["name"] == name
    assert mailbox["device"][0].get("senders", []) == addresses


@pytest.mark.parametrize("hostile", HOSTILE)
def test_the_relay_gets_hostile_names_and_passwords(tmp_path: Path, hostile: str) -> None:
    name = f"scanner {hostile} 1" if hostile != "\x7f" else "scanner"
    mailboxes = [
        {
            "address": "me@outlook.com",
            "client_id": CLIENT_ID,
            "client_secret": f"secret {hostile}",
            "devices": [{"name": name, "password": f"password {hostile}"}],
        }
    ]
    read = relay_settings(relay(relay_mailboxes=mailboxes), tmp_path)
    assert read.devices[0].name == name
    assert read.mailboxes[0].client_secret == f"secret {hostile}"


def test_a_line_break_in_a_name_stays_inside_it() -> None:
    name = 'a"\n[[mailbox]]\naddress = "evil@example.org'
    devices = [{"name": name}]
    mailboxes = [{"address": "me@outlook.com", "client_id": CLIENT_ID, "devices": devices}]
    [mailbox] = tomllib.loads(relay(relay_mailboxes=mailboxes).template("relay.toml.j2"))["mailbox"]
    assert mailbox["device"][0]["name"] == name


def test_a_template_is_evaluated_only_where_the_user_wrote_it() -> None:
    mailbox = {"address": "me@outlook.com", "client_id": "{{ mine }}", "tenant": "consumers"}
    assert 'client_id = "{{ mine }}"' in relay(relay_mailboxes=[mailbox]).template("relay.toml.j2")
    trusted = mailbox | {"client_id": trust_as_template("{{ mine }}")}
    text = relay(relay_mailboxes=[trusted], mine=CLIENT_ID).template("relay.toml.j2")
    assert f'client_id = "{CLIENT_ID}"' in text


# Unraid's template.

EVERYTHING = {
    "relay_tls_port": "465",
    "relay_console_url": "https://relay.example.org/?a=1&b=2",
    "relay_alert_urls": ["ntfy://a-secret-topic"],
    "relay_tls_certificate": "/here/fullchain.pem",
    "relay_tls_private_key": "/here/privkey.pem",
    "relay_authority": "https://login.microsoftonline.us",
    "relay_upstream": "smtp.office365.us:587",
    "relay_upstream_ca": "-----BEGIN CERTIFICATE-----\nx\n",
    "relay_mailboxes": FULL,
}
VARIANTS = {
    "the default": {},
    "everything": EVERYTHING,
    "no console": {"relay_console_port": ""},
    "addresses before the ports": {"relay_port": "192.168.1.5:587", "relay_console_port": "127.0.0.1:8025"},
    "another policy": {"relay_restart_policy": "no", "relay_pids_limit": 64, "relay_stop_timeout": 30},
    "another user": {"relay_user": "1000:1000"},
    "another place": {"relay_directory": '/mnt/cache/app data/R&D\'s "mail" ü', "relay_name": "mail.relay-2"},
    "another network": {"relay_network": "br-mail_1"},
    "ports as numbers": {"relay_port": 1587, "relay_console_port": 18025},
    "an address of IPv6": {"relay_port": "[fd00::5]:587"},
    "an address of its own": {
        "relay_network": "br0",
        "relay_ip": "192.168.1.50",
        "__relay_survey": {**SURVEY, "network_driver": "macvlan"},
    },
}


def unraid(**given: Any) -> tuple[Role, str]:
    role = relay(**given)
    return role, role.template("unraid.xml.j2")


def read(xml: str, role: Role) -> tuple[Template, Server]:
    driver = "macvlan" if role.value("__relay_own_address") else "bridge"
    server = Server("Tower", "Europe/Vienna", networks={role.value("relay_network"): driver})
    return read_template(xml, server), server


@pytest.mark.parametrize("given", VARIANTS.values(), ids=VARIANTS)
def test_elements_are_those_that_unraid_writes_in_its_order(given: Mapping[str, Any]) -> None:
    root = ET.fromstring(unraid(**given)[1])
    assert (root.tag, root.get("version")) == ("Container", "2")
    tags = [element.tag for element in root]
    assert set(tags) <= {*ELEMENTS, "Config"}
    assert tags == sorted(tags, key=[*ELEMENTS, "Config"].index)
    assert len([tag for tag in tags if tag != "Config"]) == len(set(tags) - {"Config"})


@pytest.mark.parametrize("given", VARIANTS.values(), ids=VARIANTS)
def test_attributes_are_those_that_unraid_knows(given: Mapping[str, Any]) -> None:
    modes = {"Path": PATH_MODES, "Port": ("tcp", "udp")}
    for element in ET.fromstring(unraid(**given)[1]).iter("Config"):
        assert tuple(element.attrib) == ATTRIBUTES
        assert element.attrib["Type"] in {"Path", "Port", "Variable", "Label", "Device"}
        assert element.attrib["Mode"] in modes.get(element.attrib["Type"], ("",))
        assert element.attrib["Display"] in {"always", "always-hide", "advanced", "advanced-hide"}
        assert element.attrib["Required"] in {"true", "false"}
        assert element.attrib["Mask"] == "false"
        assert element.text


def test_no_secret_is_in_the_template() -> None:
    secrets = [*("a secret", "pa$$", "a-secret-topic", "BEGIN CERTIFICATE"), CLIENT_ID]
    xml = unraid(**EVERYTHING)[1]
    assert [secret for secret in secrets if secret in xml] == []


@pytest.mark.parametrize("given", [{}, EVERYTHING], ids=["the default", "everything"])
def test_secrets_are_files(given: Mapping[str, Any]) -> None:
    environment = relay(**given).value("__relay_config | container_arguments")["env"]
    for name, value in environment.items():
        if re.search("PASSWORD|SECRET|TOKEN|VAULT_KEY|ALERT", name):
            assert name.endswith("_FILE")
            assert value.startswith("/secrets/")


@pytest.fixture(scope="module")
def task() -> dict[str, Any]:
    """What tasks/create.yml gives the module docker_container, besides what is given to the task itself."""
    [step] = yaml.safe_load((ROLES / "relay/tasks/create.yml").read_text())
    return dict(step)


# How the module's arguments are written as options of `docker create`.
REPEATED = {
    "published_ports": "-p",
    "volumes": "-v",
    "cap_drop": "--cap-drop=",
    "security_opts": "--security-opt=",
    "tmpfs": "--tmpfs=",
}
SINGLE = {
    "name": "--name=",
    "image": "",
    "network_mode": "--net=",
    "user": "--user=",
    "restart_policy": "--restart=",
    "stop_timeout": "--stop-timeout=",
    "pids_limit": "--pids-limit",
}
FLAGS = {"init": "--init", "read_only": "--read-only"}
MAPPINGS = {"env": "-e", "labels": "-l"}
NOT_OF_THE_CONTAINER = {"pull", "state", "timeout", "comparisons", "recreate", "debug"}


def as_command(module: Mapping[str, Any]) -> list[str]:
    """The words of the `docker create` that makes what the module docker_container makes, sorted."""
    words = []
    for name, value in module.items():
        if name in REPEATED:
            words.extend(f"{REPEATED[name]}{each}" for each in value)
        elif name in SINGLE:
            words.append(f"{SINGLE[name]}{value}")
        elif name in MAPPINGS:
            words.extend(f"{MAPPINGS[name]}{key}={each}" for key, each in value.items())
        elif name == "networks":
            words.extend(f"--ip={network['ipv4_address']}" for network in value)
        elif name in FLAGS:
            words.extend([FLAGS[name]] if value else [])
        else:
            assert name in NOT_OF_THE_CONTAINER, f"how is {name} written as an option of docker create?"
    return sorted(words)


def of_module(role: Role, task: Mapping[str, Any]) -> list[str]:
    context = {name: trust_as_template(value) for name, value in task["vars"].items()}
    run = {"__relay_run_name": role.value("relay_name"), "__relay_run_state": "started"}
    role = role.extended(context | run | {"ansible_check_mode": False})
    given = task["community.docker.docker_container"]
    return as_command({name: role.evaluated(value) for name, value in given.items()})


def of_template(role: Role, xml: str) -> list[str]:
    with_a_value = {"-e", "-l", "-p", "-v", "--pids-limit"}
    words = iter(arguments(*read(xml, role))[2:])
    return sorted(word + next(words) if word in with_a_value else word for word in words)


@pytest.mark.parametrize("given", VARIANTS.values(), ids=VARIANTS)
def test_unraid_makes_the_container_that_ansible_makes(
    given: Mapping[str, Any], task: Mapping[str, Any]
) -> None:
    role, xml = unraid(**given)
    assert of_template(role, xml) == of_module(role, task)


@pytest.mark.parametrize("given", VARIANTS.values(), ids=VARIANTS)
def test_apply_in_the_web_interface_changes_nothing(given: Mapping[str, Any]) -> None:
    role, xml = unraid(**given)
    template, server = read(xml, role)
    assert read(filled(xml, server), role)[0].configs == template.configs
    assert of_template(role, filled(xml, server)) == of_template(role, xml)


def test_nothing_has_a_default_that_would_come_instead_of_an_empty_value() -> None:
    role, xml = unraid(**EVERYTHING)
    template, server = read(xml, role)
    assert {config.default for config in template.configs} == {""}
    emptied = filled(xml, server, RELAY_WEB_URL="")
    assert "RELAY_WEB_URL=" in arguments(*read(emptied, role))


PATHS = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"], exclude_characters=":<"), max_size=30)


@given(PATHS.filter(lambda path: html.unescape(path) == path == " ".join(path.split())))
@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_path_is_the_same_for_both(task: Mapping[str, Any], name: str) -> None:
    role, xml = unraid(relay_directory=f"/mnt/user/{name}")
    assert of_template(role, xml) == of_module(role, task)


@pytest.mark.parametrize("name", ["<b>", "a <", "R&amp;D", "two  blanks", "a\nb"])
def test_a_path_that_unraid_would_change_is_refused(name: str) -> None:
    with pytest.raises(AnsibleError, match="cannot be in Unraid's template"):
        unraid(relay_directory=f"/mnt/user/{name}")


def test_a_container_with_an_address_of_its_own_publishes_nothing_and_is_told_its_ports(
    task: Mapping[str, Any],
) -> None:
    role, xml = unraid(**VARIANTS["an address of its own"])
    words = of_module(role, task)
    assert [word for word in words if word.startswith("-p")] == []
    assert {"--net=br0", "--ip=192.168.1.50", "-eTCP_PORT_587=587", "-eTCP_PORT_8025=8025"} <= {*words}
    assert ET.fromstring(xml).findtext("MyIP") == "192.168.1.50"


def test_a_removed_option_would_be_noticed(task: Mapping[str, Any]) -> None:
    role, xml = unraid()
    options = (" --init", " --read-only", " --cap-drop=ALL", " --pids-limit 256", "unless-")
    for flaw in (*options, ' Target="/secrets"'):
        assert flaw in xml
        assert of_template(role, xml.replace(flaw, "")) != of_module(role, task), flaw


# What people read when something is wrong.

# What ssh says: what is wrong, and what the remedy begins with.
SSH = {
    "@@@ REMOTE HOST IDENTIFICATION HAS CHANGED! @@@\nHost key verification failed.": (
        "its host key is not the one that this machine knows",
        "If it was installed anew, forget the old key: ssh-keygen -R tower.lan",
    ),
    "Host key verification failed.": ("this machine does not know its host key yet", "Log in once by hand"),
    "ssh: Could not resolve hostname tower.lan: Name or service not known": (
        "there is no host of the name tower.lan",
        "Correct ansible_host",
    ),
    "root@tower.lan: Permission denied (publickey,password).": (
        "it does not accept your key",
        "On Unraid: Users, root, SSH authorized keys",
    ),
    "ssh: connect to host tower.lan port 22: Connection refused": (
        "nothing answers on port 22",
        "On Unraid: Settings, Management Access, Use SSH: Yes",
    ),
    "ssh: connect to host tower.lan port 22: Connection timed out": ("it does not answer at all", "Is it on"),
    "ssh: connect to host tower.lan port 22: No route to host": ("it does not answer at all", "Is it on"),
    "something else": ("the connection or the shell there does not work", "When this works, so does"),
}


@pytest.mark.parametrize("said", SSH)
def test_what_is_said_when_ssh_does_not_work(said: str) -> None:
    text = relay(__relay_surveyed={"msg": said}, ansible_host="tower.lan").template("ssh_trouble.j2")
    what, reported, remedy = text.strip().split("\n")
    assert what == f"tower cannot be reached: {SSH[said][0]}."
    assert reported == f"ssh said: {said.splitlines()[-1]}"
    assert remedy.startswith(SSH[said][1])
    assert remedy.endswith("try: ssh -p 22 root@tower.lan docker version")


def test_another_port_and_user_are_in_the_commands() -> None:
    given = {"ansible_host": "tower.lan", "ansible_port": 2222, "ansible_user": "admin"}
    said = {"__relay_surveyed": {"msg": "REMOTE HOST IDENTIFICATION HAS CHANGED"}}
    text = relay(**given, **said).template("ssh_trouble.j2")
    assert "ssh-keygen -R '[tower.lan]:2222'" in text
    assert "ssh -p 2222 admin@tower.lan docker version" in text


def test_a_user_whose_sudo_wants_a_password_hears_how_to_give_it() -> None:
    said = {"__relay_surveyed": {"msg": "Task failed: Missing sudo password"}}
    text = relay(ansible_user="admin", ansible_host="nas.lan", **said).template("ssh_trouble.j2")
    assert "its sudo wants the password of admin" in text
    assert "Run the playbook again with -K" in text
    assert "try: ssh -t -p 22 admin@nas.lan sudo true" in text


def test_the_command_that_ssh_gives_is_taken() -> None:
    said = (
        "Task failed: Failed to connect to the host via ssh: REMOTE HOST IDENTIFICATION HAS CHANGED!\r\n"
        'remove with:\r\n  ssh-keygen -f "/home/me/.ssh/known_hosts" -R "tower.lan"\r\n'
        "Host key verification failed.\r\n"
    )
    text = relay(__relay_surveyed={"msg": said}).template("ssh_trouble.j2")
    assert 'forget the old key: ssh-keygen -f "/home/me/.ssh/known_hosts" -R "tower.lan" - if not' in text
    assert "ssh said: Host key verification failed.\n" in text


@pytest.mark.parametrize(
    ("surveyed", "said"),
    [
        ({"rc": 1, "stderr": "sh: bad", "stdout": ""}, "sh: bad"),
        ({"rc": 1, "stderr": "", "stdout": "bad\n"}, "bad"),
        ({"rc": 1}, "nothing"),
    ],
)
def test_output_of_the_host_is_told_when_there_is_no_message(surveyed: dict[str, Any], said: str) -> None:
    text = relay(__relay_surveyed=surveyed).template("ssh_trouble.j2")
    assert text.split("\n")[1] == f"ssh said: {said}"


REGISTRY = {
    "dial tcp 127.0.0.1:15000: connect: connection refused": "It cannot be reached.",
    "dial tcp: lookup ghcr.io: no such host": "It cannot be reached.",
    "unauthorized: authentication required": "It does not accept the login someone.",
    "denied: permission_denied: The token provided does not match expected scopes.": (
        "The login someone may not do that."
    ),
    "toomanyrequests": "To see whether it works by hand: docker login ghcr.io",
}


def registry(said: str, **given: str) -> str:
    given = {"image_name": "ghcr.io/someone/smtp-relay", "image_registry_username": "someone"} | given
    return Role("image", {**given, "__image_trouble": f"{said}\n"}).template("registry_trouble.j2").strip()


@pytest.mark.parametrize(("said", "advice"), REGISTRY.items())
def test_what_is_said_when_the_registry_refuses(said: str, advice: str) -> None:
    first, second = registry(said).split("\n")
    assert first == f"The registry ghcr.io does not do what it is asked for: {said}"
    assert second.startswith(advice)
    assert ("with the scope write:packages" in second) == ("login someone" in second)


@pytest.mark.parametrize("said", ["no basic auth credentials", "denied: requested access is denied"])
def test_without_a_login_the_login_is_asked_for(said: str) -> None:
    assert "It wants a login, and image_registry_username is empty." in registry(
        said, image_registry_username=""
    )


@pytest.mark.parametrize("said", [*SSH, *REGISTRY])
def test_what_others_said_is_never_evaluated(said: str) -> None:
    hostile = f"{said.splitlines()[-1]} {{{{ 7 * 7 }}}} {{% raw %}}"
    assert hostile in relay(__relay_surveyed={"msg": hostile}).template("ssh_trouble.j2")
    assert hostile in registry(hostile)
