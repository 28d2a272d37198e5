"""What Unraid's web interface makes of a container template, and whether two containers are the same.

Unraid turns a template into a `docker create` command when somebody clicks Update, Apply or Force update.
This module does the same, so that a test can find out whether the container such a click makes equals the one
that Ansible made. `filled` is the form before it: the template that Apply writes after somebody has typed.

It follows unraid/webgui at 8d40212 (7.4 beta, August 2026): xmlToVar, xmlToCommand and postToXML in
emhttp/plugins/dynamix.docker.manager/include/Helpers.php, and the form in CreateDocker.php beside it. It
keeps their peculiarities where they can bite: an empty value means the default, a network that is not there
silently becomes "none", network names are lower-cased, runs of white space shrink to one blank even inside a
value. Run under PHP, the functions of 6.12.14 to 7.3.3 make the same container of our templates.

Not followed, and refused: templates of version 1, Tailscale, and what would break the form.
"""

from __future__ import annotations

import html
import re
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from html.entities import html5, name2codepoint
from typing import Any

DOCKER = "/usr/local/emhttp/plugins/dynamix.docker.manager/scripts/docker"  # a wrapper around the real one
PATH_MODES = ("rw", "rw,slave", "rw,shared", "ro", "ro,slave", "ro,shared")
PORT_MODES = ("tcp", "udp")
DEFAULT_PIDS_LIMIT = "2048"
# The elements of a template besides Config, in the order in which Unraid writes them.
ELEMENTS = (
    *("Name", "Repository", "Registry", "Network", "ExtraNetworks", "MyIP", "MyMAC", "Shell", "Privileged"),
    *("Support", "Project", "ReadMe", "Overview", "Category", "WebUI", "TemplateURL", "Icon", "ExtraParams"),
    *("PostArgs", "CPUset", "Memory", "DateInstalled", "DonateText", "DonateLink", "Requires"),
)
ATTRIBUTES = ("Name", "Target", "Default", "Mode", "Description", "Type", "Display", "Required", "Mask")
_TRIMMED = ("Repository", "Registry", "ExtraNetworks", "WebUI", "Icon", "Memory")  # when Apply writes them


class UnsupportedTemplateError(ValueError):
    """The template uses something that this module does not follow."""


class FormError(ValueError):
    """The form does not take what was typed."""


@dataclass(frozen=True)
class Server:
    """What the command depends on besides the template: var.ini, docker.cfg and the networks there are."""

    name: str = "Tower"
    timezone: str = ""
    pids_limit: str = ""  # DOCKER_PID_LIMIT
    networks: dict[str, str] = field(
        default_factory=lambda: {"bridge": "bridge", "host": "host", "none": "null"}
    )


@dataclass(frozen=True)
class Config:
    """One <Config>: a path, port, variable, label or device, and how the form shows it."""

    type: str
    target: str
    value: str
    default: str = ""
    mode: str = ""
    name: str = ""
    description: str = ""
    display: str = ""
    """always or advanced (behind "Show more settings"), with -hide without its buttons."""
    required: str = ""
    """true: the form is not sent while the field is empty."""
    mask: str = ""
    """true: the form shows dots. The template has the value as it is."""

    @property
    def choices(self) -> list[str]:
        """What the form lets choose from instead of typing; empty if it lets type."""
        choices = self.default.split("|")
        return choices if self.type == "Variable" and len(choices) > 1 else []


@dataclass(frozen=True)
class Template:
    """A template as Unraid understands it: the texts of its elements, by name, and its Configs."""

    texts: Mapping[str, str]
    configs: tuple[Config, ...]

    def __getitem__(self, element: str) -> str:
        return self.texts[element]


_REFERENCE = re.compile(r"&(?:#[0-9]+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);")
_BLANKS = " \t\n\r\0\v"


def _resolved(text: str, names: Container[str], numbered: Callable[[str], bool]) -> str:
    """Resolve references to characters, once: those with these names, and numbers of these characters."""

    def one(match: re.Match[str]) -> str:
        reference, character = match[0], html.unescape(match[0])
        if reference[1] != "#":
            return character if reference[1:-1] in names else reference
        return character if character != "\ufffd" and numbered(character) else reference

    return _REFERENCE.sub(one, text)


def _xml_decoded(text: str) -> str:
    """PHP's html_entity_decode(ENT_XML1): no quotes. Unraid encodes twice, and so decodes twice."""
    return _resolved(text, ("lt", "gt", "amp"), lambda character: character not in "\"'")


def _html_decoded(text: str) -> str:
    """PHP's html_entity_decode as it is by itself: all of HTML 4, which does not know &apos;."""
    return _resolved(text, name2codepoint, lambda _: True)


def _specials_decoded(text: str) -> str:
    """PHP's htmlspecialchars_decode."""
    return _resolved(text, ("lt", "gt", "amp", "quot"), lambda character: character in "<>&\"'")


def _strip_tags(text: str) -> str:
    """PHP's strip_tags: to it a tag is whatever begins with < and no ASCII blank, even without an end."""
    return re.sub(r"<(?![ \t\n\v\f\r])[^>]*>?", "", text)


def _secured(text: str) -> str:
    """Text that would change if tags were stripped loses every angle bracket (xmlSecurity)."""
    decoded = _specials_decoded(text)
    if _strip_tags(decoded).strip(_BLANKS) != decoded.strip(_BLANKS):
        return decoded.replace("<", "").replace(">", "")
    return text


def _mac(text: str) -> str:
    text = text.strip().lower()
    if re.fullmatch(r"[0-9a-f]{12}", text):
        text = ":".join(re.findall("..", text))
    text = text.replace("-", ":")
    return text if re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", text) else ""


_QUOTED = re.compile(r"\"[^\"\\]*(?:\\.[^\"\\]*)*\"|'[^']*'")
_MAC_PARAMETER = re.compile(r"(^|\s)--mac-address(?:=|\s+)([^\s'\"]+)")


def _without_quoted(params: str) -> str:
    return _QUOTED.sub('""', params)


def _names_a_network(params: str) -> bool:
    return re.search(r"(?:^|\s)--net(?:work)?(?:=|\s+)[^\s'\"]+", _without_quoted(params)) is not None


def _mac_of(mac: str, params: str) -> str:
    """The MAC address of a container: of its own field, or among the extra parameters."""
    named = _MAC_PARAMETER.search(_without_quoted(params))
    return "" if _names_a_network(params) else _mac(mac.strip() or (named[2] if named else ""))


def _without_mac(params: str) -> str:
    pieces = re.split(f"({_QUOTED.pattern})", params)
    return "".join(p if p[:1] in {'"', "'"} else _MAC_PARAMETER.sub(r"\1", p) for p in pieces).strip()


def _config(element: ET.Element) -> Config:
    attributes = {key: _xml_decoded(value) for key, value in element.attrib.items()}
    mode = attributes.get("Mode", "")
    known = {"Path": PATH_MODES, "Port": PORT_MODES}.get(attributes.get("Type", ""))
    if "Mode" in attributes and known is not None and mode.lower() not in known:
        attributes["Mode"] = known[0]
    value = _xml_decoded(element.text or "") or attributes.get("Default", "")
    attributes = {key: _strip_tags(_html_decoded(text)) for key, text in attributes.items()}
    # An attribute Value is stronger than the text.
    read = {"Value": value, **dict.fromkeys(ATTRIBUTES, ""), **attributes}
    return Config(**{key.lower(): _secured(read[key]) for key in ("Value", *ATTRIBUTES)})


def read_template(xml: str, server: Server) -> Template:
    """Read a template as Unraid does (xmlToVar)."""
    root = ET.fromstring(xml)
    if root.get("version") != "2":
        raise UnsupportedTemplateError(f"template version {root.get('version')!r}: only 2 is followed here")
    if root.findtext("TailscaleEnabled") == "true":
        raise UnsupportedTemplateError("the template turns Tailscale on, which is not followed here")
    texts = {tag: _xml_decoded(root.findtext(tag) or "") for tag in ELEMENTS}
    texts["Name"] = re.sub(r"\s+", "", texts["Name"])
    texts["Shell"] = _xml_decoded(root.findtext("Shell", "sh"))
    if not texts["Network"].startswith("container:") and texts["Network"] not in server.networks:
        texts["Network"] = "none"
    texts["MyMAC"] = _mac_of(texts["MyMAC"], texts["ExtraParams"])
    return Template(
        {tag: _secured(text) for tag, text in texts.items()},
        tuple(_config(element) for element in root.findall("Config")),
    )


def _quote(text: str) -> str:
    """PHP's escapeshellarg."""
    return "'" + text.replace("'", "'\\''") + "'"


def _addresses(template: Template) -> list[str]:
    return [ip for ip in template["MyIP"].replace(",", " ").split(" ") if ip]


def _network_options(template: Template) -> list[str]:
    """The network and the addresses: since 7.3 both go into one option when a MAC address is given."""
    elsewhere = _names_a_network(template["ExtraParams"])
    joined = template["Network"].startswith("container:")
    name = template["Network"] if joined else template["Network"].lower()
    mac = template["MyMAC"]
    options = []
    if not elsewhere:
        if mac and not joined and name not in {"host", "none"}:
            ends = [f"{'ip6' if ':' in ip else 'ip'}={ip}" for ip in _addresses(template)]
            options.append(f"--network={_quote(','.join([f'name={name}', *ends, f'mac-address={mac}']))}")
        else:
            options.append(f"--net={_quote(name)}")
    if not mac or joined or elsewhere:
        options += [f"--{'ip6' if ':' in ip else 'ip'}={_quote(ip)}" for ip in _addresses(template)]
    return options


def _own_variables(template: Template, server: Server) -> list[str]:
    return [
        f'TZ="{server.timezone}"',
        'HOST_OS="Unraid"',
        f'HOST_HOSTNAME="{server.name}"',
        f'HOST_CONTAINERNAME="{template["Name"]}"',
    ]


def _own_labels(template: Template) -> list[str]:
    labels = ["net.unraid.docker.managed=dockerman"]
    if template["WebUI"]:
        labels.append(f"net.unraid.docker.webui={_quote(template['WebUI'])}")
    if template["Icon"]:
        labels.append(f"net.unraid.docker.icon={_quote(template['Icon'])}")
    return labels


def _config_options(template: Template, server: Server) -> dict[str, list[str]]:
    variables = _own_variables(template, server)
    labels = _own_labels(template)
    ports: list[str] = []
    volumes: list[str] = []
    devices: list[str] = []
    driver = server.networks.get(template["Network"], "")
    for config in template.configs:
        kind, value = config.type.lower(), config.value or config.default
        if kind != "device" and not config.target:
            continue
        if kind == "path":
            if not {value.strip(), config.target.strip()} & {"", "0"}:  # PHP takes "0" for nothing
                volumes.append(":".join(_quote(part) for part in (value, config.target, config.mode)))
        elif kind == "port" and driver in {"host", "macvlan", "ipvlan"}:
            variables.append(f"{_quote(f'{config.mode}_PORT_{config.target}')}={_quote(value)}".upper())
        elif kind == "port" and driver == "bridge":
            ports.append(_quote(f"{value}:{config.target}/{config.mode}"))
        elif kind == "label":
            labels.append(f"{_quote(config.target)}={_quote(value)}")
        elif kind == "variable":
            variables.append(f"{_quote(config.target)}={_quote(value)}")
        elif kind == "device":
            devices.append(_quote(value))
    return {"-e ": variables, "-l ": labels, "-p ": ports, "-v ": volumes, "--device=": devices}


def command(template: Template, server: Server, *, start: bool = False) -> str:
    """The shell command that Unraid runs (xmlToCommand); start if the container ran before the update."""
    params = _without_mac(template["ExtraParams"]) if template["MyMAC"] else template["ExtraParams"]
    words = [
        f"{DOCKER} {'run -d' if start else 'create'}",
        f"--name={_quote(template['Name'])}" if template["Name"] else "",
        *_network_options(template),
    ]
    if template["CPUset"]:
        words.append(f"--cpuset-cpus={_quote(template['CPUset'])}")
    if template["Memory"]:
        words.append(f"--memory={_quote(template['Memory'])}")
    if not re.search(r"--pids-limit \d+", template["ExtraParams"]):
        words.append(f"--pids-limit {server.pids_limit or DEFAULT_PIDS_LIMIT}")
    if template["Privileged"].lower() == "true":
        words.append("--privileged=true")
    for option, values in _config_options(template, server).items():
        words += [f"{option}{value}" for value in values]
    words += [params, _quote(template["Repository"]), template["PostArgs"]]
    return re.sub(r"\s\s+", " ", " ".join(word for word in words if word), flags=re.ASCII).strip()


def arguments(template: Template, server: Server) -> list[str]:
    """The same command as a list, beginning with `docker create`.

    Raises UnsupportedTemplateError where a shell would do more than split words.
    """
    line = command(template, server)
    bare = re.sub(r"'[^']*'|\"[^\"$`\\]*\"|\\'", "", line)
    if special := re.search(r"[;&|<>$`*?(){}\"\\]", bare):
        raise UnsupportedTemplateError(f"a shell would act on {special[0]!r} in: {line}")
    return ["docker", *shlex.split(line)[1:]]


# The form.


def _in_form(text: str) -> str:
    """What a browser makes of a text that the form puts into an HTML attribute as it is."""
    return re.sub(
        r"&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[A-Za-z][A-Za-z0-9]*(?:;|(?![A-Za-z0-9=])))",
        lambda match: html.unescape(match[0]) if match[1][0] == "#" or match[1] in html5 else match[0],
        text,
    )


def _shown(config: Config) -> Config:
    """The fields of a Config as they stand in the form before somebody types."""
    hidden = {key.lower(): getattr(config, key.lower()) for key in ATTRIBUTES}
    if broken := [text for text in hidden.values() if '"' in text]:
        raise UnsupportedTemplateError(f"a quotation mark ends the form's attribute early: {broken[0]}")
    shown = replace(
        config, value=_in_form(config.value), **{key: _in_form(text) for key, text in hidden.items()}
    )
    choices = shown.choices
    return replace(shown, value=choices[0]) if choices and shown.value not in choices else shown


def _typed(config: Config, text: str) -> Config:
    if config.choices and text not in config.choices:
        raise FormError(f"{config.name}: {text!r} is not one of {', '.join(config.choices)}")
    return replace(config, value=text)


def _sent(template: Template, typed: Mapping[str, str | None]) -> Template:
    """What the browser sends: the form as it opens, with this typed into it."""
    fields = {config.target: config for config in template.configs}
    if unknown := sorted(typed.keys() - fields.keys() - set(ELEMENTS)):
        raise FormError(f"the form has no field {', '.join(unknown)}")
    texts = {
        **template.texts,
        **{tag: text for tag, text in typed.items() if tag in ELEMENTS and text is not None},
    }
    network = texts["Network"].split(":")[0].lower()
    if network in {"bridge", "host", "none", "container"}:
        texts["MyIP"] = ""
    if network in {"host", "none", "container"}:
        texts["MyMAC"] = ""
    overview = texts["Overview"].replace("\\", "").translate(str.maketrans("[]", "<>"))
    texts["Overview"] = _strip_tags(overview.replace("<br>", "\n"))
    configs = []
    for config in map(_shown, template.configs):
        text = typed.get(config.target, config.value)
        if text is None:
            continue
        config = _typed(config, text)
        if config.required == "true" and not config.value:
            raise FormError(f"{config.name} is required")
        ports_own = network == "host" and config.type == "Port"
        configs.append(replace(config, target=config.value) if ports_own else config)
    return Template(texts, tuple(configs))


def filled(xml: str, server: Server, **typed: str | None) -> str:
    """Fill in the form that opens with a template, press Apply, and get the template that it writes.

    `typed` is by field: the Target of a Config (`RELAY_PASSWORD`, `587`, `/data`) or an element (`Name`,
    `Network`). None takes a Config away, with its button *Remove*. What is not typed stays as the form shows
    it.

    Raises:
        FormError: the form has no such field or choice, or one that is required is empty.
        UnsupportedTemplateError: as `read_template`, or the template breaks the form.
    """
    sent = _sent(read_template(xml, server), typed)
    texts = {tag: text.strip() if tag in _TRIMMED else text for tag, text in sent.texts.items()}
    texts["Name"] = re.sub(r"\s+", "", texts["Name"])
    texts["MyMAC"] = _mac_of(texts["MyMAC"], texts["ExtraParams"])
    if texts["MyMAC"]:
        texts["ExtraParams"] = _without_mac(texts["ExtraParams"])
    texts["Privileged"] = "true" if texts["Privileged"] == "true" else "false"
    texts["DateInstalled"] = "0"  # the time, which nothing reads
    root = ET.Element("Container", version="2")
    for tag, text in texts.items():
        ET.SubElement(root, tag).text = html.escape(text, quote=False)
    for config in sent.configs:
        element = ET.SubElement(root, "Config")
        element.text = config.value  # encoded once, but decoded twice: &amp; becomes &
        for key in ATTRIBUTES:
            element.set(key, html.escape(getattr(config, key.lower()), quote=False))
    ET.indent(root)
    return f'<?xml version="1.0"?>\n{ET.tostring(root, encoding="unicode")}\n'


# What is compared of `docker inspect`, and where it lies there.
_CONFIG = (
    "Image",
    "User",
    "Entrypoint",
    "Cmd",
    "WorkingDir",
    "Labels",
    "Healthcheck",
    "StopSignal",
    "StopTimeout",
    "Tty",
)
_HOST_CONFIG = (
    *(
        "NetworkMode",
        "ReadonlyRootfs",
        "Privileged",
        "PidsLimit",
        "Init",
        "Memory",
        "MemorySwap",
        "NanoCpus",
        "CpusetCpus",
    ),
    *(
        "Ulimits",
        "Devices",
        "Sysctls",
        "ExtraHosts",
        "Dns",
        "GroupAdd",
        "UsernsMode",
        "IpcMode",
        "PidMode",
        "ShmSize",
    ),
    *("LogConfig", "OomScoreAdj", "AutoRemove", "CapAdd"),
)


def _capabilities(names: list[str] | None) -> list[str]:
    return sorted(name.upper().removeprefix("CAP_") for name in names or [])


def _bindings(ports: dict[str, list[dict[str, str]] | None] | None) -> dict[str, list[str]]:
    return {
        port: sorted(f"{binding['HostIp']}:{binding['HostPort']}" for binding in bindings or [])
        for port, bindings in (ports or {}).items()
    }


def facets(inspected: dict[str, Any]) -> dict[str, Any]:
    """All of a container (one element of `docker inspect`) that whoever made it decided, in one spelling."""
    config, host = inspected["Config"], inspected["HostConfig"]
    found: dict[str, Any] = {key: config.get(key) for key in _CONFIG} | {
        key: host.get(key) for key in _HOST_CONFIG
    }
    for name, value in (variable.split("=", 1) for variable in config.get("Env") or []):
        found[f"Env {name}"] = value
    for mount in inspected["Mounts"]:
        kept = {key: mount.get(key) for key in ("Type", "Source", "RW", "Propagation")}
        found[f"Mount {mount['Destination']}"] = kept
    for path, options in (host.get("Tmpfs") or {}).items():
        found[f"Tmpfs {path}"] = sorted(filter(None, options.split(",")))
    found["CapAdd"], found["CapDrop"] = _capabilities(host.get("CapAdd")), _capabilities(host.get("CapDrop"))
    found["SecurityOpt"] = sorted(option.removesuffix(":true") for option in host.get("SecurityOpt") or [])
    found["PortBindings"] = _bindings(host.get("PortBindings"))
    found["ExposedPorts"] = sorted(config.get("ExposedPorts") or {})
    policy = host.get("RestartPolicy") or {}
    found["RestartPolicy"] = (policy.get("Name") or "no", policy.get("MaximumRetryCount") or 0)
    hostname = config.get("Hostname", "")
    found["Hostname"] = "" if inspected["Id"].startswith(hostname) else hostname
    for network, end in (inspected.get("NetworkSettings", {}).get("Networks") or {}).items():
        own = {inspected["Id"][:12], inspected["Name"].removeprefix("/")}
        found[f"Network {network}"] = {
            "aliases": sorted(set(end.get("Aliases") or []) - own),
            "address": {key: value for key, value in (end.get("IPAMConfig") or {}).items() if value},
        }
    # An unset field and an empty one are the same; a variable may be empty, and a tmpfs without options.
    return {k: v for k, v in found.items() if " " in k or v not in (None, [], {}, "", 0, False)}


def differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Where two inspected containers were made differently: facet, one's, other's. Empty if alike."""
    left, right = facets(one), facets(other)
    return {
        key: (left.get(key), right.get(key))
        for key in sorted(left | right)
        if left.get(key) != right.get(key)
    }


def server_of(var_ini: str, docker_cfg: str, networks: str) -> Server:
    """A Server from the texts of var.ini and docker.cfg, and lines of name=driver for the networks."""

    def value(text: str, key: str) -> str:
        found = re.search(rf'^{key}="?([^"\n]*)"?', text, re.MULTILINE)
        return found[1] if found else ""

    drivers = dict(line.split("=", 1) for line in networks.split())
    usable = {
        name: driver
        for name, driver in drivers.items()
        if name in {"bridge", "host", "none"} or driver in {"bridge", "macvlan", "ipvlan"}
    }
    return Server(
        value(var_ini, "NAME"), value(var_ini, "timeZone"), value(docker_cfg, "DOCKER_PID_LIMIT"), usable
    )
