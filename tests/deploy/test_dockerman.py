"""Unraid's reading of a template, and its form, case by case: what Helpers.php said when PHP ran it."""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import pytest

from .dockerman import (
    ATTRIBUTES,
    DOCKER,
    ELEMENTS,
    FormError,
    Server,
    UnsupportedTemplateError,
    arguments,
    command,
    differences,
    filled,
    read_template,
    server_of,
)

SERVER = Server(
    "Tower", "Europe/Vienna", networks={"bridge": "bridge", "host": "host", "none": "null", "mail": "bridge"}
)


def config(type_: str, target: str, value: str, mode: str = "", default: str = "", **more: str) -> str:
    attributes = {"Name": "n", "Target": target, "Default": default, "Mode": mode, "Type": type_, **more}
    return (
        f"<Config {' '.join(f'{k}={quoteattr(v)}' for k, v in attributes.items())}>{escape(value)}</Config>"
    )


def template(*configs: str, **elements: str) -> str:
    fields = {"Name": "relay", "Repository": "ghcr.io/o/relay:1", "Network": "mail"} | elements
    body = "".join(f"<{tag}>{escape(text)}</{tag}>" for tag, text in fields.items())
    return f'<?xml version="1.0"?><Container version="2">{body}{"".join(configs)}</Container>'


def made(*configs: str, server: Server = SERVER, **elements: str) -> list[str]:
    return arguments(read_template(template(*configs, **elements), server), server)


def test_a_bare_template() -> None:
    assert made() == [
        *("docker", "create", "--name=relay", "--net=mail", "--pids-limit", "2048"),
        *(
            "-e",
            "TZ=Europe/Vienna",
            "-e",
            "HOST_OS=Unraid",
            "-e",
            "HOST_HOSTNAME=Tower",
            "-e",
            "HOST_CONTAINERNAME=relay",
        ),
        *("-l", "net.unraid.docker.managed=dockerman", "ghcr.io/o/relay:1"),
    ]


def test_it_runs_through_unraids_wrapper() -> None:
    read = read_template(template(), SERVER)
    assert command(read, SERVER).startswith(f"{DOCKER} create --name='relay' --net='mail'")
    assert command(read, SERVER, start=True).startswith(f"{DOCKER} run -d --name='relay' --net='mail'")


def test_every_kind_of_config_on_a_bridge() -> None:
    line = made(
        config("Port", "587", "1587", "tcp"),
        config("Path", "/data", "/mnt/user/appdata/relay", "rw"),
        config("Path", "/secrets", "/mnt/user/appdata/relay/secrets", "ro"),
        config("Variable", "RELAY_HOSTNAME", "mail.example.org"),
        config("Label", "made.by", "ansible"),
        config("Device", "", "/dev/net/tun"),
    )
    assert line[line.index("made.by=ansible") + 1 : -1] == [
        *("-p", "1587:587/tcp"),
        *("-v", "/mnt/user/appdata/relay:/data:rw", "-v", "/mnt/user/appdata/relay/secrets:/secrets:ro"),
        "--device=/dev/net/tun",
    ]
    assert line[line.index("RELAY_HOSTNAME=mail.example.org") - 1] == "-e"


def test_an_empty_value_means_the_default() -> None:
    assert "A=fallback" in made(config("Variable", "A", "", default="fallback"))


def test_a_variable_may_be_empty() -> None:
    assert "A=" in made(config("Variable", "A", ""))


@pytest.mark.parametrize("kind", ["Path", "Port", "Variable", "Label"])
def test_without_a_target_there_is_nothing(kind: str) -> None:
    assert made(config(kind, "", "value", "rw")) == made()


def test_a_path_needs_a_host_side() -> None:
    assert made(config("Path", "/data", "  ", "rw")) == made()


@pytest.mark.parametrize(
    ("kind", "mode", "becomes"),
    [
        ("Path", "z", "rw"),
        ("Path", "RO", "RO"),
        ("Path", "ro,slave", "ro,slave"),
        ("Port", "sctp", "tcp"),
        ("Port", "udp", "udp"),
    ],
)
def test_modes_that_unraid_does_not_know_become_the_usual_one(kind: str, mode: str, becomes: str) -> None:
    line = made(config(kind, "/a" if kind == "Path" else "53", "/b" if kind == "Path" else "53", mode))
    assert f"/b:/a:{becomes}" in line or f"53:53/{becomes}" in line


@pytest.mark.parametrize("driver", ["host", "macvlan", "ipvlan"])
def test_ports_are_variables_where_nothing_is_published(driver: str) -> None:
    server = Server(networks={"br0": driver})
    line = made(config("Port", "587", "587", "tcp"), server=server, Network="br0")
    assert "TCP_PORT_587=587" in line
    assert "-p" not in line


def test_a_network_that_is_not_there_is_silently_none() -> None:
    line = made(config("Port", "587", "587", "tcp"), Network="gone")
    assert "--net=none" in line
    assert "-p" not in line
    assert not [word for word in line if word.startswith("TCP_PORT")]


def test_network_names_are_lower_cased() -> None:
    assert "--net=mail" in made(server=Server(networks={"Mail": "bridge"}), Network="Mail")


def test_another_containers_network() -> None:
    assert "--net=container:vpn" in made(Network="container:vpn")


def test_a_network_among_the_extra_parameters_wins() -> None:
    line = made(ExtraParams="--network other")
    assert "--net=mail" not in line
    assert line[line.index("--network") + 1] == "other"


def test_a_network_inside_quotes_is_only_text() -> None:
    assert "--net=mail" in made(ExtraParams="-l 'x=--network other'")


def test_addresses() -> None:
    line = made(MyIP="192.0.2.7 2001:db8::7")
    assert line[4:6] == ["--ip=192.0.2.7", "--ip6=2001:db8::7"]


def test_a_mac_address_moves_everything_into_one_option() -> None:
    line = made(MyIP="192.0.2.7", MyMAC="02-42-AC-11-00-02")
    assert "--network=name=mail,ip=192.0.2.7,mac-address=02:42:ac:11:00:02" in line
    assert not [word for word in line if word.startswith(("--ip", "--net="))]


def test_a_mac_address_is_taken_from_the_extra_parameters() -> None:
    line = made(ExtraParams="--read-only --mac-address 0242ac110002 --init")
    assert "--network=name=mail,mac-address=02:42:ac:11:00:02" in line
    assert "--mac-address" not in line
    assert {"--read-only", "--init"} <= set(line)


def test_extra_parameters_go_before_the_image_and_post_arguments_after_it() -> None:
    line = made(ExtraParams="--read-only --tmpfs /tmp:rw,size=64m", PostArgs="serve --now")
    assert line[-6:] == ["--read-only", "--tmpfs", "/tmp:rw,size=64m", "ghcr.io/o/relay:1", "serve", "--now"]


@pytest.mark.parametrize(
    ("params", "limit", "limits"),
    [
        ("", "", ["2048"]),
        ("", "512", ["512"]),
        ("--pids-limit 200", "512", ["200"]),
        ("--pids-limit=200", "", ["2048"]),  # not recognised: both are given, and Docker takes the last
    ],
)
def test_the_limit_of_processes(params: str, limit: str, limits: list[str]) -> None:
    line = made(server=Server(pids_limit=limit, networks={"mail": "bridge"}), ExtraParams=params)
    assert [line[i + 1] for i, word in enumerate(line) if word == "--pids-limit"] == limits


def test_cpus_memory_and_privileges() -> None:
    line = made(CPUset="0,2", Memory="256m", Privileged="TRUE")
    assert {"--cpuset-cpus=0,2", "--memory=256m", "--privileged=true"} <= set(line)
    assert "--privileged=true" not in made(Privileged="false")


def test_links_of_the_web_interface_are_labels() -> None:
    line = made(WebUI="http://[IP]:[PORT:8025]/", Icon="https://example.org/icon.png")
    assert "net.unraid.docker.webui=http://[IP]:[PORT:8025]/" in line
    assert "net.unraid.docker.icon=https://example.org/icon.png" in line


def test_white_space_goes_from_the_name_and_shrinks_in_values() -> None:
    line = made(config("Variable", "A", "two  blanks"), Name="my relay")
    assert "--name=myrelay" in line
    assert "A=two blanks" in line


def test_quotes_and_shell_characters_in_values_are_safe() -> None:
    assert 'A=it\'s $HOME; `x` "q"' in made(config("Variable", "A", 'it\'s $HOME; `x` "q"'))


def test_values_are_decoded_twice() -> None:
    assert "A=a&b" in made(config("Variable", "A", "a&amp;b"))


@pytest.mark.parametrize(
    ("text", "element", "attribute"),
    [
        # What a parser reads; what becomes of it in an element or a value, and in an attribute.
        ("R&D", "R&D", "R&D"),
        ("&quot;", "&quot;", '"'),
        ("&apos;", "&apos;", "&apos;"),
        ("&#39;", "&#39;", "'"),
        ("&#228;", "ä", "ä"),
        ("&eacute;", "&eacute;", "é"),
        ("&amp;quot;", "&quot;", '"'),
        ("&amp;lt;b", "b", ""),
        ("&#0;", "&#0;", "&#0;"),
        ("&copy", "&copy", "&copy"),
    ],
)
def test_what_references_to_characters_become(text: str, element: str, attribute: str) -> None:
    read = read_template(template(config("Variable", text, text), WebUI=text), SERVER)
    assert (read["WebUI"], read.configs[0].value, read.configs[0].target) == (element, element, attribute)


@pytest.mark.parametrize(
    ("text", "value", "attribute"),
    [
        ("a <b> c", "a b c", "a  c"),
        ("1 < 2", "1 < 2", "1 < 2"),
        ("1<2", "12", "1"),
        ("a <", "a ", "a "),
        ("<", "", ""),
        ("a <\u00a0b", "a \u00a0b", "a "),
        ("<!-- b", "!-- b", ""),
        ("a > b", "a > b", "a > b"),
    ],
)
def test_what_looks_like_a_tag_loses_its_brackets(text: str, value: str, attribute: str) -> None:
    [read] = read_template(template(config("Variable", text, text)), SERVER).configs
    assert (read.value, read.target) == (value, attribute)


def test_an_attribute_value_is_stronger_than_the_text() -> None:
    assert "A=attribute" in made(config("Variable", "A", "text", Value="attribute"))


def test_blanks_are_a_value() -> None:
    assert "A= " in made(config("Variable", "A", " ", default="fallback"))


def test_a_path_called_nought_is_none() -> None:
    assert made(config("Path", "/data", "0", "rw")) == made()


def test_what_a_shell_would_act_on_is_refused() -> None:
    with pytest.raises(UnsupportedTemplateError, match="';'"):
        made(PostArgs="serve; rm -rf /")


def test_tailscale_and_version_1_are_refused() -> None:
    with pytest.raises(UnsupportedTemplateError, match="Tailscale"):
        made(TailscaleEnabled="true")
    with pytest.raises(UnsupportedTemplateError, match="version None"):
        read_template("<Container><Name>x</Name></Container>", SERVER)


def test_the_server_is_read_from_its_files() -> None:
    networks = "bridge=bridge\nhost=host\nnone=null\nbr0=ipvlan\nmail=bridge\nswarm=overlay\n"
    server = server_of('NAME="Nas"\ntimeZone="UTC"\n', 'DOCKER_PID_LIMIT="99"\n', networks)
    assert (server.name, server.timezone, server.pids_limit) == ("Nas", "UTC", "99")
    assert "swarm" not in server.networks
    assert server.networks["br0"] == "ipvlan"


# The form.


def applied(*configs: str, server: Server = SERVER, **typed: str | None) -> list[str]:
    """The command after somebody has typed and pressed Apply."""
    return arguments(read_template(filled(template(*configs), server, **typed), server), server)


def test_apply_without_typing_changes_nothing() -> None:
    configs = [
        config("Port", "587", "1587", "tcp", "587", Display="always", Required="true", Mask="false"),
        config("Path", "/data", '/mnt/user/R&D\'s "data" ü', "rw", Description="It's here"),
        config("Variable", "A", "", "", "fallback"),
        config("Variable", "B", "", Mask="true"),
        config("Device", "", "/dev/net/tun"),
    ]
    assert applied(*configs) == made(*configs)
    once = filled(template(*configs), SERVER)
    assert filled(once, SERVER) == once


def test_what_is_typed_is_what_the_container_gets() -> None:
    fields = [config("Port", "587", "587", "tcp"), config("Variable", "A", ""), config("Path", "/data", "/d")]
    line = applied(*fields, **{"587": "1587", "A": "typed", "/data": "/mnt/x", "Name": "other"})
    assert {"--name=other", "1587:587/tcp", "A=typed", "/mnt/x:/data:rw"} <= set(line)


def test_a_field_with_a_default_cannot_be_emptied() -> None:
    assert "A=fallback" in applied(config("Variable", "A", "fallback", default="fallback"), A="")


def test_a_field_without_a_default_can() -> None:
    assert "A=" in applied(config("Variable", "A", "something"), A="")


def test_a_field_can_be_removed() -> None:
    assert applied(config("Variable", "A", "x", default="fallback"), A=None) == made()


def test_an_empty_field_that_is_required_stops_the_form() -> None:
    field = config("Variable", "A", "", Required="true")
    with pytest.raises(FormError, match="n is required"):
        applied(field)
    assert "A=x" in applied(field, A="x")
    assert applied(field, A=None) == made()
    # Its default fills it in before anybody sees the form; but emptied, it is empty.
    with_a_default = config("Variable", "A", "", default="fallback", Required="true")
    assert "A=fallback" in applied(with_a_default)
    with pytest.raises(FormError, match="n is required"):
        applied(with_a_default, A="")


def test_a_default_with_bars_is_a_choice() -> None:
    field = config("Variable", "A", "two", default="one|two|three")
    assert "A=two" in applied(field)
    assert "A=three" in applied(field, A="three")
    with pytest.raises(FormError, match="n: 'four' is not one of one, two, three"):
        applied(field, A="four")


def test_an_empty_choice_is_the_first_in_the_form_and_all_of_them_without_it() -> None:
    field = config("Variable", "A", "", default="one|two")
    assert "A=one" in applied(field)
    assert "A=one|two" in made(field)


def test_a_field_that_is_not_there_cannot_be_typed_into() -> None:
    with pytest.raises(FormError, match="the form has no field B"):
        applied(config("Variable", "A", ""), B="x")


@pytest.mark.parametrize(
    ("typed", "becomes"),
    [
        ('it\'s "quoted" & $HOME', 'it\'s "quoted" & $HOME'),
        ("a<b", "ab"),
        ("a < b", "a < b"),
        ("a&amp;b", "a&b"),
        ("a&lt;b", "ab"),
        ("two  blanks", "two blanks"),
    ],
)
def test_what_becomes_of_what_is_typed(typed: str, becomes: str) -> None:
    assert f"A={becomes}" in applied(config("Variable", "A", ""), A=typed)


@pytest.mark.parametrize(("text", "becomes"), [("&copy;", "©"), ("&copy b", "© b"), ("?a=1&copy=2", "")])
def test_the_form_resolves_references_in_a_value_that_it_shows(text: str, becomes: str) -> None:
    assert f"A={becomes or text}" in applied(config("Variable", "A", text))


def test_a_quotation_mark_in_an_attribute_breaks_the_form() -> None:
    with pytest.raises(UnsupportedTemplateError, match="ends the form's attribute early"):
        filled(template(config("Variable", "A", "", Description='a "quoted" word')), SERVER)


def test_the_template_that_apply_writes_has_what_unraid_writes() -> None:
    xml = filled(template(config("Variable", "A", "x"), Privileged="yes", Overview="a [b] c\\d"), SERVER)
    root = ET.fromstring(xml)
    assert xml.startswith('<?xml version="1.0"?>\n<Container version="2">\n  <Name>relay</Name>\n')
    assert [element.tag for element in root] == [*ELEMENTS, "Config"]
    assert tuple(root.find("Config").attrib) == ATTRIBUTES  # type: ignore[union-attr]
    assert (root.findtext("Privileged"), root.findtext("Shell")) == ("false", "sh")
    assert root.findtext("Overview") == "a  cd"


def test_on_the_hosts_network_a_port_is_the_one_that_is_typed() -> None:
    line = applied(config("Port", "587", "587", "tcp"), **{"587": "1587", "Network": "host"})
    assert "TCP_PORT_1587=1587" in line


def test_an_address_is_for_networks_that_can_have_one() -> None:
    assert "--ip=192.0.2.7" in applied(MyIP="192.0.2.7")
    assert "--ip=192.0.2.7" not in applied(MyIP="192.0.2.7", Network="bridge")


# Two containers.

CONTAINER: dict[str, Any] = {
    "Id": "0123456789abcdef",
    "Name": "/relay",
    "Config": {
        "Hostname": "0123456789ab",
        "Image": "relay:1",
        "User": "99:100",
        "Env": ["TZ=UTC", "A=1"],
        "Labels": {"a": "b"},
        "ExposedPorts": {"587/tcp": {}},
        "StopTimeout": 75,
    },
    "HostConfig": {
        "NetworkMode": "mail",
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": 256,
        "Tmpfs": {"/tmp": "rw,size=64m"},
        "PortBindings": {"587/tcp": [{"HostIp": "", "HostPort": "587"}]},
        "RestartPolicy": {"Name": "", "MaximumRetryCount": 0},
    },
    "Mounts": [
        {
            "Type": "bind",
            "Source": "/s",
            "Destination": "/data",
            "RW": True,
            "Mode": "rw",
            "Propagation": "rprivate",
        }
    ],
    "NetworkSettings": {"Networks": {"mail": {"Aliases": ["0123456789ab"], "IPAMConfig": None}}},
}


def changed(*path: str | int, to: Any) -> dict[str, Any]:
    other = copy.deepcopy(CONTAINER)
    place: Any = other
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return other


@pytest.mark.parametrize(
    "other",
    [
        changed("Config", "Env", to=["A=1", "TZ=UTC"]),
        changed("HostConfig", "CapDrop", to=["all"]),
        changed("HostConfig", "SecurityOpt", to=["no-new-privileges:true"]),
        changed("HostConfig", "Tmpfs", to={"/tmp": "size=64m,rw"}),
        changed("HostConfig", "RestartPolicy", to={"Name": "no", "MaximumRetryCount": 0}),
        changed("HostConfig", "CapAdd", to=[]),
        changed("Mounts", 0, "Mode", to=""),
        changed("Id", to="0123456789abffff"),
        changed("NetworkSettings", "Networks", "mail", "Aliases", to=["relay"]),
    ],
)
def test_another_spelling_is_no_difference(other: dict[str, Any]) -> None:
    assert differences(CONTAINER, other) == {}


@pytest.mark.parametrize(
    ("other", "facet"),
    [
        (changed("Config", "Image", to="relay:2"), "Image"),
        (changed("Config", "User", to=""), "User"),
        (changed("Config", "Env", to=["TZ=UTC"]), "Env A"),
        (changed("Config", "Env", to=["TZ=UTC", "A=1", "B="]), "Env B"),
        (changed("Config", "Env", to=["TZ=CET", "A=1"]), "Env TZ"),
        (changed("Config", "Labels", to={}), "Labels"),
        (changed("Config", "Hostname", to="mail"), "Hostname"),
        (changed("Config", "StopTimeout", to=10), "StopTimeout"),
        (changed("Config", "Healthcheck", to={"Test": ["NONE"]}), "Healthcheck"),
        (changed("Config", "ExposedPorts", to={}), "ExposedPorts"),
        (changed("HostConfig", "ReadonlyRootfs", to=False), "ReadonlyRootfs"),
        (changed("HostConfig", "CapDrop", to=None), "CapDrop"),
        (changed("HostConfig", "CapAdd", to=["NET_ADMIN"]), "CapAdd"),
        (changed("HostConfig", "SecurityOpt", to=None), "SecurityOpt"),
        (changed("HostConfig", "PidsLimit", to=2048), "PidsLimit"),
        (changed("HostConfig", "Tmpfs", to={"/tmp": "rw"}), "Tmpfs /tmp"),
        (changed("HostConfig", "PortBindings", to={}), "PortBindings"),
        # IPv4 alone, and both families.
        (
            changed("HostConfig", "PortBindings", to={"587/tcp": [{"HostIp": "0.0.0.0", "HostPort": "587"}]}),
            "PortBindings",
        ),
        (
            changed("HostConfig", "RestartPolicy", to={"Name": "always", "MaximumRetryCount": 0}),
            "RestartPolicy",
        ),
        (changed("HostConfig", "NetworkMode", to="none"), "NetworkMode"),
        (changed("Mounts", 0, "RW", to=False), "Mount /data"),
        (changed("Mounts", to=[]), "Mount /data"),
        (changed("NetworkSettings", "Networks", "mail", "Aliases", to=["smtp"]), "Network mail"),
    ],
)
def test_each_difference_is_found(other: dict[str, Any], facet: str) -> None:
    assert list(differences(CONTAINER, other)) == [facet]
