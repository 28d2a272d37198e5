"""What Unraid's web interface makes of a container template, and whether two containers are the same.

Unraid turns a template into a `docker create` command when somebody clicks Update, Apply or Force update.
This module does the same, so that a test can find out whether the container such a click makes equals the one
that Ansible made. It follows unraid/webgui at 8d40212 (7.4 beta, August 2026): the functions xmlToVar and
xmlToCommand in emhttp/plugins/dynamix.docker.manager/include/Helpers.php. It keeps their peculiarities where
they can bite: a network that is not there silently becomes "none", network names are lower-cased, runs of
white space shrink to one blank even inside a value.

Not followed, and refused: templates of version 1, and Tailscale.
"""

from __future__ import annotations

import html
import re
import shlex
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from typing import Any

DOCKER = "/usr/local/emhttp/plugins/dynamix.docker.manager/scripts/docker"  # a wrapper around the real one
PATH_MODES = ("rw", "rw,slave", "rw,shared", "ro", "ro,slave", "ro,shared")
PORT_MODES = ("tcp", "udp")
DEFAULT_PIDS_LIMIT = "2048"


class UnsupportedTemplateError(ValueError):
    """The template uses something that this module does not follow."""


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
    """One <Config>: a path, port, variable, label or device."""

    type: str
    target: str
    value: str
    default: str
    mode: str


@dataclass(frozen=True)
class Template:
    """A template as Unraid understands it."""

    name: str
    repository: str
    network: str
    extra_networks: str
    ip: str
    mac: str
    privileged: str
    webui: str
    icon: str
    extra_params: str
    post_args: str
    cpuset: str
    memory: str
    configs: tuple[Config, ...]


def _entities(text: str) -> str:
    """Resolve XML's entities once more: Unraid encodes twice in writing, and decodes twice in reading."""
    named = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'", "&amp;": "&"}
    pattern = re.compile(r"&(?:lt|gt|quot|apos|amp);|&#(?:\d+|x[0-9a-fA-F]+);")
    return pattern.sub(lambda match: named.get(match[0]) or html.unescape(match[0]), text)


def _strip_tags(text: str) -> str:
    return re.sub(r"<[^\s>][^>]*(?:>|$)", "", text)


def _secured(text: str) -> str:
    """Text that would change if tags were stripped loses every angle bracket."""
    decoded = html.unescape(text)
    if _strip_tags(decoded).strip() != decoded.strip():
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


def _without_mac(params: str) -> str:
    pieces = re.split(f"({_QUOTED.pattern})", params)
    return "".join(p if p[:1] in {'"', "'"} else _MAC_PARAMETER.sub(r"\1", p) for p in pieces).strip()


def _config(element: ET.Element) -> Config:
    attributes = {key: _entities(value) for key, value in element.attrib.items()}
    mode = attributes.get("Mode", "")
    if "Mode" in attributes:
        known = {"Path": PATH_MODES, "Port": PORT_MODES}.get(attributes.get("Type", ""))
        if known is not None and mode.lower() not in known:
            mode = known[0]
    value = _entities(element.text or "") or attributes.get("Default", "")

    def attribute(text: str) -> str:
        return _secured(_strip_tags(html.unescape(text)))

    return Config(
        type=attribute(attributes.get("Type", "")).lower(),
        target=attribute(attributes.get("Target", "")),
        value=_secured(value),
        default=attribute(attributes.get("Default", "")),
        mode=attribute(mode),
    )


def read_template(xml: str, server: Server) -> Template:
    """Read a template as Unraid does (xmlToVar)."""
    root = ET.fromstring(xml)
    if root.get("version") != "2":
        raise UnsupportedTemplateError(f"template version {root.get('version')!r}: only 2 is followed here")

    def text(tag: str) -> str:
        return _entities(root.findtext(tag) or "")

    if text("TailscaleEnabled") == "true":
        raise UnsupportedTemplateError("the template turns Tailscale on, which is not followed here")
    network = text("Network")
    if not network.startswith("container:") and network not in server.networks:
        network = "none"
    params = text("ExtraParams")
    named = _MAC_PARAMETER.search(_without_quoted(params))
    mac = "" if _names_a_network(params) else _mac(text("MyMAC") or (named[2] if named else ""))
    return Template(
        name=_secured(re.sub(r"\s+", "", text("Name"))),
        repository=_secured(text("Repository")),
        network=_secured(network),
        extra_networks=_secured(text("ExtraNetworks")),
        ip=_secured(text("MyIP")),
        mac=mac,
        privileged=_secured(text("Privileged")),
        webui=_secured(text("WebUI")),
        icon=_secured(text("Icon")),
        extra_params=_secured(params),
        post_args=_secured(text("PostArgs")),
        cpuset=_secured(text("CPUset")),
        memory=_secured(text("Memory")),
        configs=tuple(_config(element) for element in root.findall("Config")),
    )


def _quote(text: str) -> str:
    """PHP's escapeshellarg."""
    return "'" + text.replace("'", "'\\''") + "'"


def _addresses(template: Template) -> list[str]:
    return [ip for ip in template.ip.replace(",", " ").split(" ") if ip]


def _network_options(template: Template) -> list[str]:
    """The network and the addresses: since 7.3 both go into one option when a MAC address is given."""
    elsewhere = _names_a_network(template.extra_params)
    joined = template.network.startswith("container:")
    name = template.network if joined else template.network.lower()
    options = []
    if not elsewhere:
        if template.mac and not joined and name not in {"host", "none"}:
            ends = [f"{'ip6' if ':' in ip else 'ip'}={ip}" for ip in _addresses(template)]
            options.append(
                f"--network={_quote(','.join([f'name={name}', *ends, f'mac-address={template.mac}']))}"
            )
        else:
            options.append(f"--net={_quote(name)}")
    if not template.mac or joined or elsewhere:
        options += [f"--{'ip6' if ':' in ip else 'ip'}={_quote(ip)}" for ip in _addresses(template)]
    return options


def _own_variables(template: Template, server: Server) -> list[str]:
    return [
        f'TZ="{server.timezone}"',
        'HOST_OS="Unraid"',
        f'HOST_HOSTNAME="{server.name}"',
        f'HOST_CONTAINERNAME="{template.name}"',
    ]


def _own_labels(template: Template) -> list[str]:
    labels = ["net.unraid.docker.managed=dockerman"]
    if template.webui:
        labels.append(f"net.unraid.docker.webui={_quote(template.webui)}")
    if template.icon:
        labels.append(f"net.unraid.docker.icon={_quote(template.icon)}")
    return labels


def _config_options(template: Template, server: Server) -> dict[str, list[str]]:
    variables = _own_variables(template, server)
    labels = _own_labels(template)
    ports: list[str] = []
    volumes: list[str] = []
    devices: list[str] = []
    driver = server.networks.get(template.network, "")
    for config in template.configs:
        value = config.value or config.default
        if config.type != "device" and not config.target:
            continue
        if config.type == "path":
            if value.strip() and config.target.strip():
                volumes.append(":".join(_quote(part) for part in (value, config.target, config.mode)))
        elif config.type == "port" and driver in {"host", "macvlan", "ipvlan"}:
            variables.append(f"{_quote(f'{config.mode}_PORT_{config.target}')}={_quote(value)}".upper())
        elif config.type == "port" and driver == "bridge":
            ports.append(_quote(f"{value}:{config.target}/{config.mode}"))
        elif config.type == "label":
            labels.append(f"{_quote(config.target)}={_quote(value)}")
        elif config.type == "variable":
            variables.append(f"{_quote(config.target)}={_quote(value)}")
        elif config.type == "device":
            devices.append(_quote(value))
    return {"-e ": variables, "-l ": labels, "-p ": ports, "-v ": volumes, "--device=": devices}


def command(template: Template, server: Server, *, start: bool = False) -> str:
    """The shell command that Unraid runs (xmlToCommand); start if the container ran before the update."""
    params = _without_mac(template.extra_params) if template.mac else template.extra_params
    words = [
        f"{DOCKER} {'run -d' if start else 'create'}",
        f"--name={_quote(template.name)}" if template.name else "",
        *_network_options(template),
    ]
    if template.cpuset:
        words.append(f"--cpuset-cpus={_quote(template.cpuset)}")
    if template.memory:
        words.append(f"--memory={_quote(template.memory)}")
    if not re.search(r"--pids-limit \d+", template.extra_params):
        words.append(f"--pids-limit {server.pids_limit or DEFAULT_PIDS_LIMIT}")
    if template.privileged.lower() == "true":
        words.append("--privileged=true")
    for option, values in _config_options(template, server).items():
        words += [f"{option}{value}" for value in values]
    words += [params, _quote(template.repository), template.post_args]
    return re.sub(r"\s\s+", " ", " ".join(word for word in words if word)).strip()


def arguments(template: Template, server: Server) -> list[str]:
    """The same command as a list, beginning with `docker create`.

    Raises UnsupportedTemplateError where a shell would do more than split words.
    """
    line = command(template, server)
    bare = re.sub(r"'[^']*'|\"[^\"$`\\]*\"|\\'", "", line)
    if special := re.search(r"[;&|<>$`*?(){}\"\\]", bare):
        raise UnsupportedTemplateError(f"a shell would act on {special[0]!r} in: {line}")
    return ["docker", *shlex.split(line)[1:]]


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
        port: sorted(
            f"{'' if b['HostIp'] == '0.0.0.0' else b['HostIp']}:{b['HostPort']}" for b in bindings or []
        )
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
