"""What Unraid's Community Applications read: the template, the profile, the icon.

The rules: ca.unraid.net/submit/help (repository-info-xml, xml-field-reference), and for the template what
Unraid itself reads (xmlToVar in its Helpers.php).
"""

from __future__ import annotations

import base64
import re
import struct
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from relay_app.errors import SettingsError
from relay_app.settings import HASHER, Settings, generate_password, load

from .dockerman import (
    ATTRIBUTES,
    PATH_MODES,
    PORT_MODES,
    FormError,
    Server,
    arguments,
    filled,
    read_template,
)
from .rendering import REPOSITORY, Role

TEMPLATE = REPOSITORY / "unraid/smtp-relay.xml"
PROFILE = REPOSITORY / "ca_profile.xml"
ICON = REPOSITORY / "unraid/icon.png"
RAW = "https://raw.githubusercontent.com/guggiraid/smtp-relay/main/"
PAGE = "https://github.com/guggiraid/smtp-relay"
CATEGORIES = {"Network:Other", "Tools:Utilities"}  # of those that Community Applications have
SERVER = Server("Tower", "Europe/Vienna")
# What a person must fill in, and no more.
FILLED_IN = {
    "USER_EMAIL": "someone@outlook.com",
    "CLIENT_ID": "11111111-2222-3333-4444-555555555555",
    "RELAY_HOSTNAME": "smtprelay.example.org",
    "RELAY_PASSWORD": generate_password(),
    "RELAY_WEB_PASSWORD": generate_password(),
}
# Secret -> the file that may hold it instead.
SECRETS = {
    "RELAY_PASSWORD": "relay_password",
    "RELAY_WEB_PASSWORD": "console_password",
    "CLIENT_SECRET": "client_secret",
    "RELAY_ALERT_URLS": "alert_urls",
    "RELAY_VAULT_KEY": "vault_key",
}
VAULT_KEY = base64.urlsafe_b64encode(bytes(32)).decode()


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
        assert tuple(each.attrib) == ATTRIBUTES
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
            assert not re.search(r"[<>&\[\]\\]", value) or element.tag == "WebUI", value


def test_it_is_as_hardened_as_what_ansible_makes(template: ET.Element, role: Role) -> None:
    assert text(template, "ExtraParams") == role.value("__relay_options | extra_params")
    assert text(template, "Privileged") == "false"


def test_ports_paths_and_links_are_those_of_the_role(template: ET.Element, role: Role) -> None:
    ours = ET.fromstring(role.template("unraid.xml.j2"))
    for kind in ("Port", "Path"):
        theirs = configs(ours, kind)
        for target, element in configs(template, kind).items():
            # Ansible's port has an address before it. Here nobody could type one: the field takes digits.
            value = (theirs[target].text or "").rpartition(":")[2]
            assert (element.text, element.attrib["Mode"]) == (value, theirs[target].attrib["Mode"])
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


# Each way to fill in the form, up to the settings of the relay that Unraid then starts.


def variables(**typed: str | None) -> dict[str, str]:
    """The environment of the container that Unraid makes after somebody has typed and pressed Apply."""
    words = arguments(read_template(filled(TEMPLATE.read_text("utf-8"), SERVER, **typed), SERVER), SERVER)
    return dict(word.split("=", 1) for option, word in pairwise(words) if option == "-e")


def settings(directory: Path, **typed: str | None) -> Settings:
    """The settings of that relay, with what must be filled in; /secrets and /certs are this directory."""
    environment = variables(**{**FILLED_IN, **typed})
    return load(
        {name: re.sub("^/(secrets|certs)", str(directory), value) for name, value in environment.items()}
    )


def test_it_starts_from_its_fields_alone(tmp_path: Path) -> None:
    read = settings(tmp_path)
    [mailbox], [device] = read.mailboxes, read.devices
    assert (mailbox.address, mailbox.client_id) == (FILLED_IN["USER_EMAIL"], FILLED_IN["CLIENT_ID"])
    assert (mailbox.flow.value, mailbox.tenant, mailbox.client_secret) == ("device_code", "consumers", "")
    assert read.hostname == FILLED_IN["RELAY_HOSTNAME"]
    assert HASHER.verify(device.password_hash, FILLED_IN["RELAY_PASSWORD"])
    assert HASHER.verify(read.web_password_hash, FILLED_IN["RELAY_WEB_PASSWORD"])
    # The relay makes these itself, in its data directory.
    assert (read.vault_key, read.tls_cert, read.tls_key) == ("", None, None)


@pytest.mark.parametrize("name", FILLED_IN)
def test_the_form_asks_for_what_must_be_filled_in(template: ET.Element, name: str) -> None:
    field = configs(template, "Variable")[name]
    assert (field.attrib["Display"], field.attrib["Default"], field.text) == ("always", "", None)
    with pytest.raises(FormError, match=f"{field.attrib['Name']} is required"):
        variables(**{**FILLED_IN, name: ""})


def test_every_other_field_can_be_emptied(template: ET.Element, tmp_path: Path) -> None:
    for name, field in configs(template, "Variable").items():
        if field.attrib["Required"] == "false":
            assert variables(**FILLED_IN, **{name: ""})[name] == ""
            assert settings(tmp_path, **{name: ""}).devices, name


def test_what_has_a_default_is_required_for_an_empty_field_would_get_it(template: ET.Element) -> None:
    for field in template.iter("Config"):
        assert not field.attrib["Default"] or field.attrib["Required"] == "true", field.attrib["Name"]


def test_edit_and_apply_keep_what_was_typed() -> None:
    first = filled(
        TEMPLATE.read_text("utf-8"), SERVER, **FILLED_IN, RELAY_WEB_URL="https://relay.example.org"
    )
    assert filled(first, SERVER) == first


@pytest.mark.parametrize("flow", ["authorization_code", "client_credentials"])
def test_it_runs_with_a_client_secret(tmp_path: Path, flow: str) -> None:
    personal = flow == "authorization_code"
    typed = {
        "RELAY_FLOW": flow,
        "TENANT_ID": "consumers" if personal else "example.org",
        "USER_EMAIL": "someone@outlook.com" if personal else "someone@example.org",
        "CLIENT_SECRET": generate_password(),
    }
    assert settings(tmp_path, **typed).mailboxes[0].client_secret == typed["CLIENT_SECRET"]


def test_it_runs_with_files_instead_of_fields(tmp_path: Path) -> None:
    contents = {name: generate_password() for name in SECRETS} | {"RELAY_VAULT_KEY": VAULT_KEY}
    for name, file in SECRETS.items():
        (tmp_path / file).write_text(contents[name])
    read = settings(
        tmp_path,
        **{f"{name}_FILE": f"/secrets/{file}" for name, file in SECRETS.items()},
        RELAY_PASSWORD=None,  # the button Remove
        RELAY_WEB_PASSWORD=None,
        RELAY_FLOW="authorization_code",
    )
    assert HASHER.verify(read.devices[0].password_hash, contents["RELAY_PASSWORD"])
    assert HASHER.verify(read.web_password_hash, contents["RELAY_WEB_PASSWORD"])
    assert read.mailboxes[0].client_secret == contents["CLIENT_SECRET"]
    assert read.alert_urls == (contents["RELAY_ALERT_URLS"],)
    assert read.vault_key == VAULT_KEY


@pytest.mark.parametrize("name", [name for name in SECRETS if name != "RELAY_VAULT_KEY"])
def test_a_field_and_its_file_at_once_are_told_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / SECRETS[name]).write_text(generate_password())
    both = {name: generate_password(), f"{name}_FILE": f"/secrets/{SECRETS[name]}"}
    with pytest.raises(SettingsError, match=f"{name} and {name}_FILE are both set. Keep one"):
        settings(tmp_path, RELAY_FLOW="authorization_code", **both)


def test_it_runs_with_a_certificate(tmp_path: Path) -> None:
    typed = {"RELAY_TLS_CERT": "/certs/fullchain.pem", "RELAY_TLS_KEY": "/certs/privkey.pem"}
    for name in ("fullchain.pem", "privkey.pem"):
        (tmp_path / name).touch()
    read = settings(tmp_path, **typed)
    assert (read.tls_cert, read.tls_key) == (tmp_path / "fullchain.pem", tmp_path / "privkey.pem")


def test_every_secret_has_a_masked_field_and_a_file_for_those_who_want_one(template: ET.Element) -> None:
    fields = configs(template, "Variable")
    assert {name for name, each in fields.items() if each.attrib["Mask"] == "true"} == SECRETS.keys() - {
        "RELAY_VAULT_KEY"  # whoever cares to have one keeps it in a file
    }
    assert {name for name in fields if name.endswith("_FILE")} == {f"{name}_FILE" for name in SECRETS}
    for name, file in SECRETS.items():
        assert fields[f"{name}_FILE"].attrib["Display"] == "advanced"
        assert f"/secrets/{file}" in fields[f"{name}_FILE"].attrib["Description"]
    assert "plain text on the boot device" in text(template, "Overview")
    assert "flash backup" in text(template, "Overview")


def test_the_documentation_speaks_of_the_fields_that_there_are(template: ET.Element) -> None:
    page = (REPOSITORY / "docs/unraid.md").read_text("utf-8")
    section = page.partition("## Without Ansible")[2].partition("\n## ")[0]
    names = {each.attrib["Name"] for each in template.iter("Config")}
    assert {"Relay password", "Console password", "Vault key, file"} <= names & set(
        re.findall(r"\*([^*`]+)\*", section.replace("\n", " "))
    )
    for file in SECRETS.values():
        assert f"`{file}`" in section or f"`/secrets/{file}`" in section, file


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
