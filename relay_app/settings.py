"""The settings, parsed once; every problem reported at once.

From environment variables (`CLIENT_ID` ... and `RELAY_*`), and from the TOML file that `RELAY_CONFIG` names:
its table `[relay]` has the same settings as the variables, `[[mailbox]]` and `[[mailbox.device]]` have what
the variables can say of one mailbox and one device, `[limits]` has `Limits`. A variable wins over the file.
"""

import base64
import binascii
import difflib
import hashlib
import ipaddress
import math
import re
import socket
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from enum import Enum
from pathlib import Path
from secrets import choice, token_bytes
from typing import Any, TypeVar
from urllib.parse import urlsplit

import argon2

from relay_app.errors import SettingsError

HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""Device passwords: argon2id with the first of OWASP's choices (Password Storage Cheat Sheet)."""

_Name = Callable[[str], str]  # a setting's key -> how the user knows it
_Choice = TypeVar("_Choice", bound=Enum)

_SALT_KEY = token_bytes(32)
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # 32 characters: 5 bits each
_PASSWORD_LENGTH = 20
_MIN_TOKEN = 16  # characters
_MIN_PASSWORD = 8  # characters: the relay is reachable from the Internet
_ADDRESS = re.compile(r"[^\s@<>\"(),:;\\\[\]]+@[^\s@<>\"(),:;\\\[\]]+\.[^\s@<>\"(),:;\\\[\]]+")
_SENDER = re.compile(r"(?:\*|[^\s@<>\"(),:;\\\[\]*]+)@[^\s@<>\"(),:;\\\[\]*]+")
_HOSTNAME = re.compile(r"(?=.{1,253}$)(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")
_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DOMAIN = re.compile(r"(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,63}")
_PORT = re.compile(r"[0-9]{1,5}")
_SHARED_TENANTS = frozenset({"common", "organizations", "consumers"})
# The second is the tenant that has all personal accounts (learn.microsoft.com, "ID token claims reference").
_PERSONAL_TENANTS = frozenset({"consumers", "9188040d-6c67-4c5b-b112-36a304b66dad"})
_PERSONAL_DOMAINS = frozenset({"outlook.com", "hotmail.com", "live.com", "msn.com"})


class Flow(Enum):
    """How a mailbox's tokens are obtained (Microsoft identity platform, OAuth 2.0 grants)."""

    AUTHORIZATION_CODE = "authorization_code"
    DEVICE_CODE = "device_code"
    CLIENT_CREDENTIALS = "client_credentials"

    @property
    def delegated(self) -> bool:
        """A person signs in once; the refresh token that this gives lives in the vault."""
        return self is not Flow.CLIENT_CREDENTIALS


class ForeignFrom(Enum):
    """What to do with a `From:` address that the device may not use."""

    REFUSE = "refuse"
    REWRITE = "rewrite"


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """A client that submits mail, with a credential and rules of its own."""

    name: str
    """The login name, compared without regard to case."""
    password_hash: str = field(repr=False)
    """argon2, in PHC string format."""
    mailbox: str
    """The address of the mailbox that its mail leaves through."""
    senders: tuple[str, ...] = ()
    """Addresses it may send as besides the mailbox's own: `name@domain` or `*@domain`, lower case."""
    foreign_from: ForeignFrom = ForeignFrom.REFUSE
    hourly_messages: int = 0
    """The most it may hand in within an hour; 0: no limit."""


@dataclass(frozen=True, slots=True)
class MailboxSettings:
    """An Outlook.com or Microsoft 365 account that mail leaves through, and its app registration."""

    address: str
    flow: Flow
    tenant: str
    """`common`, `consumers`, `organizations`, a tenant's id or one of its domains."""
    client_id: str
    client_secret: str = field(default="", repr=False)
    """Empty for a public client, and for one with a certificate."""
    client_cert: Path | None = None
    """A certificate registered with the app instead of a secret, and its key: PEM files."""
    client_key: Path | None = None
    secret_expires: date | None = None
    """When the secret ends, as the Entra admin centre shows it. A certificate says so itself."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host and a port. Host 0.0.0.0 is every IPv4 address, :: every IPv6 address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take. Times in seconds, sizes in octets."""

    connections: int = 300
    connections_per_address: int = 100
    """An IPv6 /64 counts as one address."""
    commands: int = 20_000
    """In one connection since its last accepted message."""
    recipients: int = 500
    """For each message; Outlook takes no more."""
    message_size: int = 35 * 2**20
    """What Microsoft 365 takes by default."""
    login_timeout: float = 60.0
    """For each command before the login; five times that for all of them together."""
    command_timeout: float = 300.0
    """For each command after it (RFC 5321 4.5.3.2.7)."""
    data_timeout: float = 180.0
    """The longest silence within a message (RFC 5321 4.5.3.2.5)."""
    transaction_timeout: float = 3600.0
    """From MAIL to the end of the message: 35 MB at 10 kB/s."""
    drain_timeout: float = 60.0
    """What a stop waits for messages under way."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. See the table in README."""

    mailboxes: tuple[MailboxSettings, ...]
    devices: tuple[DeviceSettings, ...]
    listen: tuple[Endpoint, ...]
    listen_tls: tuple[Endpoint, ...]
    listen_proxy: tuple[Endpoint, ...]
    hostname: str
    tls_cert: Path | None
    tls_key: Path | None
    data_dir: Path
    store_url: str = field(repr=False)
    vault_key: str = field(repr=False)
    upstream: Endpoint
    upstream_ca: Path | None
    authority: str
    web_listen: tuple[Endpoint, ...]
    limits: Limits
    web_password_hash: str = field(default="", repr=False)
    """argon2. Empty: the console is for this machine only."""
    web_token: str = field(default="", repr=False)
    """The bearer token of the API and of /metrics; empty: none."""
    web_url: str = ""
    """The console's address as a browser outside sees it, such as https://relay.example.org; or empty."""
    alert_urls: tuple[str, ...] = field(default=(), repr=False)
    """Where alerts go: Apprise URLs."""


# Setting -> its default. The variable is RELAY_ and the name in capitals; in the file it is in [relay].
_RELAY: Mapping[str, str] = {
    "listen": "0.0.0.0:587",
    "listen_tls": "",
    "listen_proxy": "",
    "hostname": "",
    "tls_cert": "",
    "tls_key": "",
    "data_dir": "/data",
    "store_url": "",
    "vault_key": "",
    "upstream": "smtp.office365.com:587",
    "upstream_ca": "",
    "authority": "https://login.microsoftonline.com",
    "web_listen": "0.0.0.0:8025",
    "web_password": "",
    "web_password_hash": "",
    "web_token": "",
    "web_url": "",
    "alert_urls": "",
}
_RELAY_SECRETS = frozenset(
    {"store_url", "vault_key", "web_password", "web_password_hash", "web_token", "alert_urls"}
)
# Setting of the one mailbox and device that variables describe -> its variable.
_MAILBOX = {
    "address": "USER_EMAIL",
    "flow": "RELAY_FLOW",
    "tenant": "TENANT_ID",
    "client_id": "CLIENT_ID",
    "client_cert": "RELAY_CLIENT_CERT",
    "client_key": "RELAY_CLIENT_KEY",
    "secret_expires": "RELAY_CLIENT_SECRET_EXPIRES",
}
_MAILBOX_SECRETS = {"client_secret": "CLIENT_SECRET"}
_DEVICE_SECRETS = {"password": "RELAY_PASSWORD", "password_hash": "RELAY_PASSWORD_HASH"}


def load(environ: Mapping[str, str]) -> Settings:
    """Parse the settings.

    Raises:
        SettingsError: with every problem there is.
    """
    return _Parser(environ).settings()


class _Parser:
    """Reads settings and collects problems; a value with a problem becomes a harmless stand-in."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        # An empty variable is one that is not set: compose files write them so. Only the console can be "".
        self._environ = {
            name: value for name, value in environ.items() if value or name == "RELAY_WEB_LISTEN"
        }
        self._problems: list[str] = []

    def settings(self) -> Settings:
        self._check_names()
        file = self._file()
        relay = self._table(file, "relay", {*_RELAY, *(f"{name}_file" for name in _RELAY_SECRETS)})
        text = {name: self._relay_setting(name, relay) for name in _RELAY}
        mailboxes, devices = self._mailboxes(file)
        settings = Settings(
            mailboxes=mailboxes,
            devices=devices,
            listen=self._endpoints("RELAY_LISTEN", text["listen"]),
            listen_tls=self._endpoints("RELAY_LISTEN_TLS", text["listen_tls"]),
            listen_proxy=self._endpoints("RELAY_LISTEN_PROXY", text["listen_proxy"]),
            hostname=self._hostname(text["hostname"]),
            tls_cert=self._readable("RELAY_TLS_CERT", text["tls_cert"]),
            tls_key=self._readable("RELAY_TLS_KEY", text["tls_key"]),
            data_dir=Path(text["data_dir"]),
            store_url=self._store_url(text["store_url"]),
            vault_key=self._vault_key(text["vault_key"]),
            upstream=self._upstream(text["upstream"]),
            upstream_ca=self._readable("RELAY_UPSTREAM_CA", text["upstream_ca"]),
            authority=self._authority(text["authority"]),
            web_listen=self._endpoints("RELAY_WEB_LISTEN", text["web_listen"]),
            limits=self._limits(file),
            web_password_hash=self._web_password(text),
            web_token=self._web_token(text["web_token"]),
            web_url=self._web_url(text["web_url"]),
            alert_urls=tuple(text["alert_urls"].split()),
        )
        self._check_together(settings, text)
        if self._problems:
            raise SettingsError(self._problems)
        return settings

    def _problem(self, text: str) -> None:
        self._problems.append(text)

    # Where values come from.

    def _check_names(self) -> None:
        secrets = {*_MAILBOX_SECRETS.values(), *_DEVICE_SECRETS.values()}
        secrets |= {f"RELAY_{name.upper()}" for name in _RELAY_SECRETS}
        known = {"RELAY_CONFIG", *(f"RELAY_{name.upper()}" for name in _RELAY), *_MAILBOX.values(), *secrets}
        known |= {f"{name}_FILE" for name in secrets}
        for name in sorted(self._environ):
            if name.startswith("RELAY_") and name not in known:
                near = difflib.get_close_matches(name, known, 1)
                advice = f"Did you mean {near[0]}?" if near else "Correct its name or remove it"
                self._problem(f"{name}: there is no such setting. {advice}")
            elif name in known and not self._environ[name].isprintable():
                self._problem(f"{name} has characters that are not text, or more than one line")
                del self._environ[name]

    def _file(self) -> dict[str, Any]:
        name = self._environ.get("RELAY_CONFIG")
        if not name:
            return {}
        try:
            file = tomllib.loads(Path(name).read_text("utf-8"))
        except OSError as error:
            self._problem(f"RELAY_CONFIG: cannot read {name}: {error.strerror}. Check the path and its mode")
            return {}
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            self._problem(f"RELAY_CONFIG: {name} is not TOML: {error}")
            return {}
        for key in sorted(file.keys() - {"relay", "limits", "mailbox"}):
            self._problem(f"RELAY_CONFIG: there is no [{key}]. There are [relay], [limits] and [[mailbox]]")
        return file

    def _table(self, parent: Mapping[str, Any], name: str, keys: set[str]) -> dict[str, Any]:
        table = parent.get(name, {})
        if not isinstance(table, dict):
            self._problem(f"RELAY_CONFIG: {name} must be a table: [{name}]")
            return {}
        self._check_keys(f"[{name}]", table, keys)
        return table

    def _tables(self, parent: Mapping[str, Any], name: str, where: str) -> list[dict[str, Any]]:
        tables = parent.get(name, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._problem(f"RELAY_CONFIG: {name} must be a list of tables: [[{where}]]")
            return []
        return tables

    def _check_keys(self, where: str, table: Mapping[str, Any], keys: set[str]) -> None:
        for key in sorted(table.keys() - keys):
            self._problem(
                f"RELAY_CONFIG: {where} has no setting {key!r}. It can have {', '.join(sorted(keys))}"
            )

    def _relay_setting(self, name: str, table: Mapping[str, Any]) -> str:
        variable = f"RELAY_{name.upper()}"
        if name in _RELAY_SECRETS:
            return self._secret(variable) or self._file_secret(f"[relay] {name}", name, table)
        if variable in self._environ:
            return self._environ[variable].strip()
        value = table.get(name, _RELAY[name])
        if isinstance(value, list):
            value = ",".join(map(str, value))
        return self._text(f"[relay] {name}", value)

    def _text(self, where: str, value: object) -> str:
        if not isinstance(value, str) or "\0" in value:
            self._problem(f"RELAY_CONFIG: {where} must be a text in quotes")  # its value may be a secret
            return ""
        return value.strip()

    def _secret(self, variable: str) -> str:
        """A secret from a variable, or from the file that the variable with _FILE names."""
        file = self._environ.get(f"{variable}_FILE")
        if file is None:
            return self._environ.get(variable, "")
        if variable in self._environ:
            self._problem(f"{variable} and {variable}_FILE are both set. Keep one")
            return self._environ[variable]
        return self._read_secret(f"{variable}_FILE", file)

    def _file_secret(self, where: str, name: str, table: Mapping[str, Any]) -> str:
        """A secret from the TOML file, or from the file that its `name_file` names."""
        path = self._text(f"{where}_file", table.get(f"{name}_file", ""))
        value = self._text(where, table.get(name, ""))
        if path and value:
            self._problem(f"RELAY_CONFIG: {where} and {where}_file are both set. Keep one")
            return value
        return self._read_secret(f"RELAY_CONFIG: {where}_file", path) if path else value

    def _read_secret(self, where: str, path: str) -> str:
        try:
            secret = Path(path).read_text("utf-8").strip("\r\n")
        except OSError as error:
            self._problem(f"{where}: cannot read {path}: {error.strerror}. Check the path and its mode")
            return ""
        except UnicodeDecodeError:
            self._problem(f"{where}: {path} is not a text file")
            return ""
        if not secret:
            self._problem(f"{where}: {path} is empty")
        return secret

    # Mailboxes and devices.

    def _mailboxes(
        self, file: Mapping[str, Any]
    ) -> tuple[tuple[MailboxSettings, ...], tuple[DeviceSettings, ...]]:
        mailboxes: list[MailboxSettings] = []
        devices: list[DeviceSettings] = []
        tables = self._tables(file, "mailbox", "mailbox")
        names = {*_MAILBOX.values(), *_MAILBOX_SECRETS.values(), *_DEVICE_SECRETS.values()}
        names |= {f"{name}_FILE" for name in names}
        if self._environ.keys() & (names - {"TENANT_ID"}) or not tables:
            values: dict[str, str] = {key: self._environ.get(name, "") for key, name in _MAILBOX.items()}
            values |= {key: self._secret(variable) for key, variable in _MAILBOX_SECRETS.items()}
            mailbox = self._mailbox(values, lambda key: {**_MAILBOX, **_MAILBOX_SECRETS}[key])
            secrets = {key: self._secret(variable) for key, variable in _DEVICE_SECRETS.items()}
            mailboxes.append(mailbox)
            devices.append(
                self._device(
                    mailbox.address,
                    mailbox.address,
                    secrets,
                    (),
                    ForeignFrom.REFUSE,
                    lambda key: _DEVICE_SECRETS[key],
                )
            )
        for number, table in enumerate(tables, 1):
            self._mailbox_table(f"mailbox {number}", table, mailboxes, devices)
        self._check_unique("mailbox", [mailbox.address for mailbox in mailboxes])
        self._check_unique("device", [device.name for device in devices])
        return tuple(mailboxes), tuple(devices)

    def _mailbox_table(
        self,
        where: str,
        table: Mapping[str, Any],
        mailboxes: list[MailboxSettings],
        devices: list[DeviceSettings],
    ) -> None:
        keys = {*_MAILBOX, *_MAILBOX_SECRETS, *(f"{key}_file" for key in _MAILBOX_SECRETS), "device"}
        self._check_keys(where, table, keys)
        values = {key: self._text(f"{where}: {key}", _plain(table.get(key, ""))) for key in _MAILBOX}
        values |= {key: self._file_secret(f"{where}: {key}", key, table) for key in _MAILBOX_SECRETS}
        mailbox = self._mailbox(values, lambda key: f"RELAY_CONFIG: {where}: {key}")
        mailboxes.append(mailbox)
        tables = self._tables(table, "device", "mailbox.device")
        if not tables:
            self._problem(f"RELAY_CONFIG: {where} has no [[mailbox.device]]: nobody could use it")
        for number, device in enumerate(tables, 1):
            devices.append(self._device_table(f"{where}, device {number}", device, mailbox.address))

    def _mailbox(self, values: Mapping[str, str], name: _Name) -> MailboxSettings:
        address = values["address"].strip().lower()
        if not address:
            self._problem(f"{name('address')} is missing: the Outlook address that mail leaves through")
        elif not _ADDRESS.fullmatch(address):
            self._problem(f"{name('address')}: {address!r} is not an e-mail address")
        flow = self._choice(Flow, name("flow"), values["flow"] or Flow.AUTHORIZATION_CODE.value)
        tenant = values["tenant"].strip().lower() or "common"
        client_id = values["client_id"].strip()
        if not client_id:
            self._problem(
                f"{name('client_id')} is missing: the Application (client) ID of your app registration "
                "(entra.microsoft.com, App registrations, Overview)"
            )
        elif not _GUID.fullmatch(client_id):
            self._problem(
                f"{name('client_id')}: {client_id!r} is not a client id. It looks like "
                "00000000-0000-0000-0000-000000000000: entra.microsoft.com, App registrations, Overview"
            )
        mailbox = MailboxSettings(
            address,
            flow,
            tenant,
            client_id,
            client_secret=values["client_secret"],
            client_cert=self._readable(name("client_cert"), values["client_cert"]),
            client_key=self._readable(name("client_key"), values["client_key"]),
            secret_expires=self._date(name("secret_expires"), values["secret_expires"]),
        )
        self._check_credential(mailbox, values, name)
        self._check_flow(mailbox, name)
        return mailbox

    def _check_credential(self, mailbox: MailboxSettings, values: Mapping[str, str], name: _Name) -> None:
        if bool(values["client_cert"]) != bool(values["client_key"]):
            self._problem(
                f"{name('client_cert')} and {name('client_key')} belong together: set both, or neither"
            )
        if mailbox.client_secret and values["client_cert"]:
            self._problem(f"{name('client_secret')} and {name('client_cert')} are both set. Keep one")
        if _GUID.fullmatch(mailbox.client_secret):
            self._problem(
                f"{name('client_secret')} looks like the secret's ID. Use the secret's Value; it is shown "
                "only once, when it is made"
            )

    def _check_flow(self, mailbox: MailboxSettings, name: _Name) -> None:
        flow, tenant = mailbox.flow, mailbox.tenant
        confidential = mailbox.client_secret or mailbox.client_cert
        if tenant not in _SHARED_TENANTS and not (_GUID.fullmatch(tenant) or _DOMAIN.fullmatch(tenant)):
            self._problem(
                f"{name('tenant')}: {tenant!r} is not a tenant. Use common, consumers (outlook.com), "
                "organizations, your Directory (tenant) ID, or a domain of your organisation"
            )
            return
        personal = mailbox.address.rpartition("@")[2] in _PERSONAL_DOMAINS
        if personal and tenant not in {"common", *_PERSONAL_TENANTS}:
            self._problem(
                f"{name('tenant')}: {mailbox.address} is a personal account, and {tenant!r} is for an "
                "organisation's. Use consumers"
            )
        if flow is Flow.CLIENT_CREDENTIALS:
            if tenant in _SHARED_TENANTS | _PERSONAL_TENANTS:
                self._problem(
                    f"{name('flow')}: client_credentials works only in one organisation, and {tenant!r} is "
                    f"none. Set {name('tenant')} to your Directory (tenant) ID. A personal outlook.com "
                    "account needs authorization_code or device_code"
                )
            if not confidential:
                self._problem(
                    f"{name('client_secret')} is missing: client_credentials needs a secret, or "
                    f"{name('client_cert')} and {name('client_key')}"
                )
        if flow is Flow.DEVICE_CODE and confidential:
            set_one = name("client_secret") if mailbox.client_secret else name("client_cert")
            self._problem(
                f"{name('flow')}: device_code is for public clients, which have no secret and no certificate "
                f"(AADSTS700025). Remove {set_one}, or use authorization_code"
            )

    def _device_table(self, where: str, table: Mapping[str, Any], mailbox: str) -> DeviceSettings:
        keys = {"name", "senders", "foreign_from", "hourly_messages", *_DEVICE_SECRETS}
        keys |= {f"{key}_file" for key in _DEVICE_SECRETS}
        self._check_keys(where, table, keys)
        secrets = {key: self._file_secret(f"{where}: {key}", key, table) for key in _DEVICE_SECRETS}
        senders = table.get("senders", [])
        if not isinstance(senders, list) or not all(
            isinstance(sender, str) and is_sender(sender) for sender in senders
        ):
            self._problem(
                f'RELAY_CONFIG: {where}: senders must be a list of addresses or "*@domain", not {senders!r}'
            )
            senders = []
        policy = self._text(f"{where}: foreign_from", table.get("foreign_from", ForeignFrom.REFUSE.value))
        name = self._text(f"{where}: name", table.get("name", mailbox))
        if not is_device_name(name) and "name" in table:
            self._problem(f"RELAY_CONFIG: {where}: name must have 1 to 255 printable characters")
        return self._device(
            name,
            mailbox,
            secrets,
            tuple(sender.lower() for sender in senders),
            self._choice(ForeignFrom, f"RELAY_CONFIG: {where}: foreign_from", policy),
            lambda key: f"RELAY_CONFIG: {where}: {key}",
            hourly_messages=self._hourly(f"{where}: hourly_messages", table.get("hourly_messages", 0)),
        )

    def _hourly(self, where: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self._problem(f"RELAY_CONFIG: {where} must be a whole number, 0 for no limit, not {value!r}")
            return 0
        return value

    def _device(
        self,
        name: str,
        mailbox: str,
        secrets: Mapping[str, str],
        senders: tuple[str, ...],
        foreign_from: ForeignFrom,
        named: _Name,
        hourly_messages: int = 0,
    ) -> DeviceSettings:
        password, hashed = secrets["password"], secrets["password_hash"]
        if password and hashed:
            self._problem(f"{named('password')} and {named('password_hash')} are both set. Keep one")
        elif hashed:
            self._check_hash(named("password_hash"), hashed)
        elif not password:
            self._problem(
                f"{named('password')} is missing: the password that Gmail or the device logs in with. "
                "Make one: smtp-relay device password"
            )
        elif len(password) < _MIN_PASSWORD:
            self._problem(
                f"{named('password')} has fewer than {_MIN_PASSWORD} characters: it would be guessed. "
                "Make one: smtp-relay device password"
            )
        else:
            hashed = _hash(name, password)
        return DeviceSettings(name, hashed, mailbox, senders, foreign_from, hourly_messages)

    def _check_hash(self, where: str, hashed: str) -> None:
        try:
            HASHER.verify(hashed, b"")
        except argon2.exceptions.VerifyMismatchError:
            return  # as it should be: the hash can be read, and the password is not empty
        except (argon2.exceptions.VerificationError, ValueError):  # ValueError: no hash, or not ASCII
            self._problem(
                f"{where} is not an argon2 hash: it must begin with $argon2id$. In a compose file write each "
                "$ as $$. Make one: smtp-relay device password"
            )
        else:
            self._problem(f"{where} is the hash of an empty password. Make one: smtp-relay device password")

    def _check_unique(self, what: str, names: list[str]) -> None:
        lowered = [name.lower() for name in names]
        for name in sorted({name for name in lowered if name and lowered.count(name) > 1}):
            self._problem(f"The {what} {name!r} is there twice. Names must differ")

    # Single values.

    def _choice(self, kind: type[_Choice], where: str, text: str) -> _Choice:
        try:
            return kind(text.strip().lower())
        except ValueError:
            choices = [choice.value for choice in kind]
            self._problem(f"{where}: {text!r} is not one of {', '.join(choices)}")
            return next(iter(kind))

    def _endpoints(self, where: str, text: str) -> tuple[Endpoint, ...]:
        endpoints = []
        for part in filter(None, (part.strip() for part in text.split(","))):
            endpoint = self._endpoint(where, part)
            if endpoint is None:
                continue
            if endpoint.port == 25:
                self._problem(
                    f"{where}: port 25 is for mail between servers, without a login. This relay takes mail "
                    "from devices that log in: use 587 (RFC 6409)"
                )
            endpoints.append(endpoint)
        return tuple(endpoints)

    def _endpoint(self, where: str, text: str) -> Endpoint | None:
        host, _, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
        if not (_PORT.fullmatch(port) and int(port) < 65536) or (":" in host and "[" not in text):
            self._problem(
                f"{where}: {text!r} is not host:port, such as 0.0.0.0:587 or [::]:587 (several: with commas)"
            )
            return None
        return Endpoint(host or "0.0.0.0", int(port))

    def _upstream(self, text: str) -> Endpoint:
        endpoint = self._endpoint("RELAY_UPSTREAM", text)
        if endpoint is not None and text.startswith(":"):
            self._problem(f"RELAY_UPSTREAM: {text!r} has no host. Use smtp.office365.com:587")
        if endpoint is not None and not (_HOSTNAME.fullmatch(endpoint.host) or _is_ip(endpoint.host)):
            self._problem(f"RELAY_UPSTREAM: {endpoint.host!r} is not a host name. Use smtp.office365.com:587")
        if endpoint is not None and endpoint.port == 465:
            self._problem("RELAY_UPSTREAM: Outlook offers STARTTLS on port 587, not TLS on 465. Use 587")
        return endpoint or Endpoint("", 0)

    def _hostname(self, text: str) -> str:
        hostname = text or socket.gethostname()
        if not _HOSTNAME.fullmatch(hostname):
            self._problem(
                f"RELAY_HOSTNAME: {hostname!r} is not a host name. Use the name that Gmail connects to"
            )
        return hostname

    def _readable(self, where: str, text: str) -> Path | None:
        if not text:
            return None
        try:
            with Path(text).open("rb"):
                return Path(text)
        except OSError as error:
            self._problem(f"{where}: cannot read {text}: {error.strerror}. Check the path and its mode")
            return None

    def _authority(self, text: str) -> str:
        try:
            url = urlsplit(text)
        except ValueError:  # brackets that do not match
            url = urlsplit("")
        if url.scheme != "https" or not url.hostname or url.path.strip("/") or url.query:
            self._problem(
                f"RELAY_AUTHORITY: {text!r} must be https://host without a path, such as "
                "https://login.microsoftonline.com. The tenant goes into TENANT_ID"
            )
        return text.rstrip("/")

    def _date(self, where: str, text: str) -> date | None:
        if not text:
            return None
        try:
            return date.fromisoformat(text.strip())
        except ValueError:
            self._problem(f"{where}: {text!r} is not a date such as 2027-05-31")
            return None

    def _web_password(self, text: Mapping[str, str]) -> str:
        password, hashed = text["web_password"], text["web_password_hash"]
        if password and hashed:
            self._problem("RELAY_WEB_PASSWORD and RELAY_WEB_PASSWORD_HASH are both set. Keep one")
        elif hashed:
            self._check_hash("RELAY_WEB_PASSWORD_HASH", hashed)
        elif password and len(password) < _MIN_PASSWORD:
            self._problem(
                f"RELAY_WEB_PASSWORD has fewer than {_MIN_PASSWORD} characters: it would be guessed"
            )
        elif password:
            return _hash("", password)
        return hashed

    def _web_token(self, text: str) -> str:
        if text and len(text) < _MIN_TOKEN:
            self._problem(
                f"RELAY_WEB_TOKEN has fewer than {_MIN_TOKEN} characters: it would be guessed. "
                "Make one: openssl rand -hex 32"
            )
        return text

    def _web_url(self, text: str) -> str:
        try:
            url = urlsplit(text)
            sound = not text or (url.scheme in {"https", "http"} and url.hostname and not url.query)
        except ValueError:
            sound = False
        if not sound:
            self._problem(f"RELAY_WEB_URL: {text!r} is not an address such as https://relay.example.org")
        return text.rstrip("/")

    def _store_url(self, text: str) -> str:
        if text and not text.startswith(("sqlite:///", "postgresql+psycopg://")):
            self._problem("RELAY_STORE_URL must begin with sqlite:/// or postgresql+psycopg://")
        return text

    def _vault_key(self, text: str) -> str:
        if not text:
            return ""
        try:
            sound = len(base64.b64decode(text, altchars=b"-_", validate=True)) == 32
        except (binascii.Error, ValueError):
            sound = False
        if not sound:
            self._problem(
                "RELAY_VAULT_KEY must be 32 random octets in URL-safe base64 (44 characters). Make one: "
                "openssl rand -base64 32 | tr '+/' '-_'"
            )
        return text

    def _limits(self, file: Mapping[str, Any]) -> Limits:
        kinds = {each.name: each.type for each in fields(Limits)}
        table = self._table(file, "limits", set(kinds))
        values: dict[str, Any] = {}
        for name in sorted(table.keys() & kinds.keys()):
            value = table[name]
            whole = kinds[name] is int
            number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            if not (number and 0 < value < math.inf):  # false for nan too
                self._problem(
                    f"RELAY_CONFIG: [limits] {name} must be a {'whole ' if whole else ''}number above 0, "
                    f"not {value!r}"
                )
                continue
            values[name] = value
        return Limits(**values)

    def _check_together(self, settings: Settings, text: Mapping[str, str]) -> None:
        if not (text["listen"] or text["listen_tls"] or text["listen_proxy"]):
            self._problem("RELAY_LISTEN: nothing to listen on. Use 0.0.0.0:587")
        if bool(text["tls_cert"]) != bool(text["tls_key"]):
            self._problem("RELAY_TLS_CERT and RELAY_TLS_KEY belong together: set both, or neither")
        endpoints = [*settings.listen, *settings.listen_tls, *settings.listen_proxy, *settings.web_listen]
        for endpoint in sorted({str(e) for e in endpoints if e.port and endpoints.count(e) > 1}):
            self._problem(f"{endpoint} is given to two listeners. Each needs an address of its own")


def generate_password() -> str:
    """Make a device password: 100 bits, in characters that nobody confuses and every device can type."""
    return "".join(choice(_ALPHABET) for _ in range(_PASSWORD_LENGTH))


def is_sender(text: str) -> bool:
    """True for what `senders` may hold: an address, or `*@domain`."""
    return _SENDER.fullmatch(text) is not None


def is_device_name(text: str) -> bool:
    """True for a name that a device can log in with (RFC 4616 2: at most 255 octets)."""
    return text.isprintable() and 0 < len(text.encode()) < 256


def _plain(value: object) -> object:
    """TOML's own dates, written without quotes, are as good as texts."""
    return value.isoformat() if isinstance(value, date) else value


def _hash(name: str, password: str) -> str:
    """Hash a password; the same one gets the same hash as long as the process lives, and a new one after.

    So a reload that changes nothing changes no device. Only this process knows the key of the salt.
    """
    salt = hashlib.blake2b(f"{name}\0{password}".encode(), key=_SALT_KEY, digest_size=16).digest()
    return HASHER.hash(password, salt=salt)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
