"""What Unraid's Community Applications read: the template, the profile, the icon.

The rules: ca.unraid.net/submit/help (repository-info-xml, xml-field-reference), and for the template what
Unraid itself reads (xmlToVar in its Helpers.php).
"""

from __future__ import annotations

import re
import struct
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay_app.settings import Settings, load

from .dockerman import PATH_MODES, PORT_MODES, Server, arguments, read_template
from .rendering import REPOSITORY, Role

TEMPLATE = REPOSITORY / "unraid/smtp-relay.xml"
PROFILE = REPOSITORY / "ca_profile.xml"
ICON = REPOSITORY / "unraid/icon.png"
RAW = "https://raw.githubusercontent.com/guggiraid/smtp-relay/main/"
PAGE = "https://github.com/guggiraid/smtp-relay"
CATEGORIES = {"Network:Other", "Tools:Utilities"}  # of those that Community Applications have
SERVER = Server("Tower", "Europe/Vienna")
FILLED_IN = {
    "USER_EMAIL": "someone@outlook.com",
    "CLIENT_ID": "11111111-2222-3333-4444-555555555555",
    "RELAY_HOSTNAME": "smtprelay.example.org",
}
SECRETS = {
    "relay_password": "a-password-for-gmail",
    "console_password": "a-password-for-the-console",
    "vault_key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "client_secret": "not-a-real-secret",
}


@pytest.fixture(scope="module")
def template() -> ET.Element:
    return ET.fromstring(TEMPLATE.read_bytes())


@pytest.fixture(scope="module")
def profile() -> ET.Element:
    return ET.fromstring(PROFILE.read_bytes())


@pytest.fixture(scope="module")
def role() -> Role:
    """The role relay with its defaults: what Ansible would make on Unraid."""
    given = {
        "relay_image": "ghcr.io/guggiraid/smtp-relay:latest",
        "relay_hostname": "x",
        "relay_mailboxes": [],
    }
    return Role("relay", {**given, "__relay_survey": {"hostname": "Tower"}})


def configs(template: ET.Element, *types: str) -> dict[str, ET.Element]:
    return {each.attrib["Target"]: each for each in template.iter("Config") if each.attrib["Type"] in types}


def text(root: ET.Element, tag: str) -> str:
    value = root.findtext(tag)
    assert value, tag
    assert value.strip() == value
    return value


@pytest.mark.parametrize("tag", ["Name", "Repository"])
def test_what_a_template_must_have(template: ET.Element, tag: str) -> None:
    assert (template.tag, template.attrib) == ("Container", {"version": "2"})
    assert text(template, tag)


@pytest.mark.parametrize("tag", ["Category", "Icon", "Overview", "Project", "Support", "TemplateURL"])
def test_what_a_template_should_have(template: ET.Element, tag: str) -> None:
    assert text(template, tag)


def test_elements_are_there_once_and_in_the_order_of_the_roles_template(
    template: ET.Element, role: Role
) -> None:
    tags = [element.tag for element in template if element.tag != "Config"]
    assert len(tags) == len(set(tags))
    known = [element.tag for element in ET.fromstring(role.template("unraid.xml.j2"))]
    order = [*known[: known.index("Overview")], "ReadMe", *known[known.index("Overview") :]]
    assert set(tags) <= set(order)
    assert tags == sorted(tags, key=order.index)


def test_categories_are_known(template: ET.Element) -> None:
    assert set(text(template, "Category").split()) == CATEGORIES


def test_config_attributes_are_those_that_unraid_knows(template: ET.Element) -> None:
    modes = {"Path": PATH_MODES, "Port": PORT_MODES}
    for each in template.iter("Config"):
        name = each.attrib["Name"]
        assert list(each.attrib) == [
            *("Name", "Target", "Default", "Mode", "Description", "Type", "Display", "Required", "Mask")
        ]
        assert each.attrib["Type"] in {"Path", "Port", "Variable"}, name
        assert each.attrib["Mode"] in modes.get(each.attrib["Type"], ("",)), name
        assert each.attrib["Display"] in {"always", "always-hide", "advanced", "advanced-hide"}, name
        assert {each.attrib["Required"], each.attrib["Mask"]} <= {"true", "false"}, name
        assert each.attrib["Description"].endswith("."), name
        choices = each.attrib["Default"].split("|")
        assert (each.text or "") in choices, name
        # What must be filled in is seen at once.
        if each.attrib["Required"] == "true" and not each.text:
            assert each.attrib["Display"] == "always", name


def test_no_target_and_no_name_is_there_twice(template: ET.Element) -> None:
    for attribute in ("Name", "Target"):
        values = [each.attrib[attribute] for each in template.iter("Config")]
        assert len(values) == len(set(values))


def test_it_keeps_what_unraid_would_strip_out_of_it(template: ET.Element) -> None:
    for element in template.iter():
        for value in (element.text or "", *element.attrib.values()):
            assert not re.search(r"[<>&]", value), value


def test_it_is_as_hardened_as_what_ansible_makes(template: ET.Element, role: Role) -> None:
    assert text(template, "ExtraParams") == role.value("__relay_options | extra_params")
    assert text(template, "Privileged") == "false"


def test_ports_paths_and_links_are_those_of_the_role(template: ET.Element, role: Role) -> None:
    ours = ET.fromstring(role.template("unraid.xml.j2"))
    for kind in ("Port", "Path"):
        theirs = configs(ours, kind)
        for target, element in configs(template, kind).items():
            assert (element.text, element.attrib["Mode"]) == (
                (theirs[target].text or "").removeprefix("0.0.0.0:"),
                theirs[target].attrib["Mode"],
            )
    assert configs(ours, "Port").keys() == configs(template, "Port").keys()
    # relay.toml is what the variables say here.
    assert configs(ours, "Path").keys() - configs(template, "Path").keys() == {"/config"}
    for tag in ("Name", "WebUI", "Icon", "Project", "Support", "Shell", "Repository"):
        assert template.findtext(tag) == ours.findtext(tag), tag


def test_unraid_makes_a_container_of_it() -> None:
    words = arguments(read_template(TEMPLATE.read_text("utf-8"), SERVER), SERVER)
    assert words[:4] == ["docker", "create", "--name=smtp-relay", "--net=bridge"]
    assert words[-1] == "ghcr.io/guggiraid/smtp-relay:latest"
    assert "/mnt/user/appdata/smtp-relay/secrets:/secrets:ro" in words
    assert "RELAY_FLOW=device_code" in words
    assert words.count("--pids-limit") == 1


# What the relay makes of it.


def settings(template: ET.Element, directory: Path, **typed: str) -> Settings:
    """The settings of a relay that was installed with the template, and these fields filled in."""
    for name, value in SECRETS.items():
        (directory / name).write_text(value)
    variables = {target: each.text or "" for target, each in configs(template, "Variable").items()}
    assert typed.keys() <= variables.keys()
    environment = variables | FILLED_IN | typed
    return load({name: value.replace("/secrets", str(directory)) for name, value in environment.items()})


def test_it_runs_with_what_must_be_filled_in_and_the_files(template: ET.Element, tmp_path: Path) -> None:
    read = settings(template, tmp_path)
    assert read.hostname == "smtprelay.example.org"
    assert (read.mailboxes[0].flow.value, read.mailboxes[0].tenant) == ("device_code", "consumers")
    assert read.vault_key == SECRETS["vault_key"]
    assert read.web_password_hash


@pytest.mark.parametrize("flow", ["authorization_code", "client_credentials"])
def test_it_runs_with_a_client_secret(template: ET.Element, tmp_path: Path, flow: str) -> None:
    tenant = "consumers" if flow == "authorization_code" else "example.org"
    address = "someone@outlook.com" if flow == "authorization_code" else "someone@example.org"
    typed = {"RELAY_FLOW": flow, "TENANT_ID": tenant, "USER_EMAIL": address}
    read = settings(template, tmp_path, **typed, CLIENT_SECRET_FILE="/secrets/client_secret")
    assert read.mailboxes[0].client_secret == SECRETS["client_secret"]


def test_it_runs_with_masked_fields_instead_of_files(template: ET.Element, tmp_path: Path) -> None:
    typed = {"RELAY_PASSWORD_FILE": "", "RELAY_WEB_PASSWORD_FILE": "", "RELAY_VAULT_KEY_FILE": ""}
    read = settings(template, tmp_path, **typed, RELAY_PASSWORD="x" * 20, RELAY_WEB_PASSWORD="y" * 20)
    assert read.devices[0].password_hash
    assert read.web_password_hash


def test_every_secret_has_a_file_and_a_masked_field_that_says_what_it_costs(template: ET.Element) -> None:
    variables = configs(template, "Variable")
    for name in ("RELAY_PASSWORD", "RELAY_WEB_PASSWORD", "CLIENT_SECRET"):
        assert variables[f"{name}_FILE"].attrib["Display"] == "always"
        assert variables[name].attrib["Display"] == "advanced"
        assert "plain text on the boot device" in variables[name].attrib["Description"]
        assert "flash backup" in variables[name].attrib["Description"]
        assert not variables[name].text
    masked = {name for name, each in variables.items() if each.attrib["Mask"] == "true"}
    assert masked == {"RELAY_PASSWORD", "RELAY_WEB_PASSWORD", "CLIENT_SECRET"}
    assert "plain text on the boot device" in text(template, "Overview")


# The profile, the icon, and where all of it points.


def test_the_profile(profile: ET.Element) -> None:
    assert profile.tag == "CommunityApplications"
    assert {element.tag for element in profile} == {"Profile", "Icon", "WebPage"}
    for element in profile:
        assert text(profile, element.tag)


def test_there_is_a_licence_at_the_root() -> None:
    assert "MIT License" in (REPOSITORY / "LICENSE").read_text()


def addresses(*roots: ET.Element) -> Iterator[str]:
    for root in roots:
        for element in root.iter():
            yield from re.findall(r"https://\S+[^\s.,)]", element.text or "")


def test_addresses_of_the_repository_lead_to_something(template: ET.Element, profile: ET.Element) -> None:
    ours = {url for url in addresses(template, profile) if "guggiraid" in url}
    files = {url.removeprefix(RAW) for url in ours if url.startswith(RAW)}
    files |= {url.removeprefix(f"{PAGE}/blob/main/") for url in ours if "/blob/main/" in url}
    pages = {url for url in ours if url.startswith(PAGE) and "/blob/" not in url}
    assert len(files) + len(pages) == len(ours)
    assert pages == {PAGE, f"{PAGE}/issues", f"{PAGE}/pkgs/container/smtp-relay"}
    assert {"unraid/smtp-relay.xml", "unraid/icon.png"} <= files
    for file in files:
        path, _, anchor = file.partition("#")
        assert (REPOSITORY / path).is_file(), path
        if anchor:
            titles = re.findall(r"^#+ (.+)$", (REPOSITORY / path).read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_the_template_says_where_it_is_itself(template: ET.Element) -> None:
    assert text(template, "TemplateURL") == f"{RAW}{TEMPLATE.relative_to(REPOSITORY)}"
    assert text(template, "Icon") == f"{RAW}{ICON.relative_to(REPOSITORY)}"


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at = 8
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        content = png[at + 8 : at + 8 + length]
        [checksum] = struct.unpack(">I", png[at + 8 + length : at + 12 + length])
        assert checksum == zlib.crc32(kind + content)
        yield kind, content
        at += 12 + length


def test_the_icon_is_a_square_png_with_transparency_and_small() -> None:
    parts = list(chunks(ICON.read_bytes()))
    assert (parts[0][0], parts[-1][0]) == (b"IHDR", b"IEND")
    width, height, depth, colour = struct.unpack(">IIBB", parts[0][1][:10])
    assert (width, height, depth, colour) == (256, 256, 8, 6)  # 6: red, green, blue and transparency
    pixels = zlib.decompress(b"".join(content for kind, content in parts if kind == b"IDAT"))
    assert len(pixels) == height * (1 + 4 * width)
    assert len(ICON.read_bytes()) < 50_000
