"""The relay as a whole: built from the settings, started, reloaded, drained, stopped."""

import asyncio
import os
import signal
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TypeVar

import structlog

from relay_app.delivery.courier import DirectCourier
from relay_app.delivery.outlook import tls_context
from relay_app.delivery.upstream import Upstream
from relay_app.errors import RelayError, SettingsError
from relay_app.identity.flows import DelegatedFlow, tokens_for
from relay_app.identity.keeper import Keeper
from relay_app.identity.tokens import AccessToken, MailboxTokens
from relay_app.identity.vault import Vault, create_key_file, key_from
from relay_app.inbound.devices import Devices
from relay_app.inbound.listener import Listener
from relay_app.inbound.session import Mode
from relay_app.inbound.throttle import Throttle
from relay_app.inbound.tls import Certificate, self_signed
from relay_app.settings import MailboxSettings, Settings

_log = structlog.get_logger()
_Opened = TypeVar("_Opened")

_CERTIFICATE_POLL = 5.0  # seconds between looks at the certificate's files
_RELOADABLE = {"mailboxes", "devices", "limits"}


class App:
    """One running relay. `load` parses the settings again when SIGHUP asks for it.

    Raises:
        SettingsError: the settings, or the files they name, cannot be used.
    """

    def __init__(self, settings: Settings, load: Callable[[], Settings]) -> None:
        self._settings = settings
        self._load = load
        self._tokens: dict[str, MailboxTokens] = {}
        self._upstreams: dict[str, Upstream] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._certificate, self._vault, self._upstream_tls = _open_files(settings)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then finish what is in flight.

        Raises:
            ListenError: an address cannot be listened on.
        """
        settings = self._settings
        devices = Devices(settings.devices, Throttle(monotonic), monotonic)
        courier = DirectCourier(self._upstreams)
        self._listener = Listener(
            hostname=settings.hostname,
            limits=settings.limits,
            certificate=self._certificate,
            devices=devices,
            courier=courier,
        )
        await self._take_mailboxes(settings)
        endpoints = {
            Mode.STARTTLS: settings.listen,
            Mode.IMPLICIT_TLS: settings.listen_tls,
            Mode.PROXY: settings.listen_proxy,
        }
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGINT, self._stop.set)
        reload = asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, reload.set)
        await self._listener.start(endpoints)
        background = [
            asyncio.create_task(self._watch_certificate()),
            asyncio.create_task(self._reloads(reload)),
        ]
        self._start_keeper()
        _log.info("started", mailboxes=[mailbox.address for mailbox in settings.mailboxes])
        try:
            await self._stop.wait()
            _log.info("stopping", patience=self._settings.limits.drain_timeout)
            await self._listener.stop(self._settings.limits.drain_timeout)
        finally:
            for task in (*background, self._keeper):
                if task is not None:
                    task.cancel()
            await courier.close()
            devices.close()
        _log.info("stopped")

    async def _watch_certificate(self) -> None:
        while True:
            await asyncio.sleep(_CERTIFICATE_POLL)
            self._certificate.refresh()

    async def _reloads(self, asked: asyncio.Event) -> None:
        while True:
            await asked.wait()
            asked.clear()
            self._certificate.refresh(force=True)
            try:
                settings = await asyncio.to_thread(self._load)
            except SettingsError as error:
                for problem in error.problems:
                    _log.error("reload_refused", reason=problem, consequence="the old settings stay in use")
                continue
            await self._take(settings)

    async def _take(self, settings: Settings) -> None:
        for name in (each.name for each in fields(Settings) if each.name not in _RELOADABLE):
            if getattr(settings, name) != getattr(self._settings, name):
                _log.warning("reload_incomplete", setting=name, consequence="it takes effect after a restart")
        self._settings = settings
        self._listener.limits = settings.limits
        self._listener.devices.replace(settings.devices)
        await self._take_mailboxes(settings)
        self._start_keeper()
        _log.info("reloaded", mailboxes=[mailbox.address for mailbox in settings.mailboxes])

    async def _take_mailboxes(self, settings: Settings) -> None:
        """Make what new and changed mailboxes need, keep what others have, close what nobody needs."""
        wanted = {mailbox.address: mailbox for mailbox in settings.mailboxes}
        for address, upstream in list(self._upstreams.items()):
            if wanted.get(address) != upstream.mailbox:
                del self._upstreams[address], self._tokens[address]
                await upstream.close()
        for address, mailbox in wanted.items():
            if address not in self._upstreams:
                self._add(mailbox)

    def _add(self, mailbox: MailboxSettings) -> None:
        settings = self._settings
        tokens = tokens_for(mailbox, authority=settings.authority, ca=settings.upstream_ca, vault=self._vault)
        self._tokens[mailbox.address] = tokens
        self._upstreams[mailbox.address] = Upstream(
            mailbox,
            settings.upstream,
            tls=self._upstream_tls,
            ehlo_name=settings.hostname,
            tokens=tokens,
        )

    def _start_keeper(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
        self._keeper = asyncio.create_task(Keeper(self._tokens.values()).run())


def redeem(settings: Settings, address: str | None, refresh_token: str) -> AccessToken:
    """Sign a mailbox in with a refresh token obtained elsewhere. `address` may be None if there is only one.

    Raises:
        SettingsError: there is no such mailbox, or it needs no sign-in.
        TokenError: Microsoft does not take the refresh token.
        VaultError: the sign-in cannot be stored.
    """
    delegated = {mailbox.address: mailbox for mailbox in settings.mailboxes if mailbox.flow.delegated}
    if address is None and len(delegated) == 1:
        address = next(iter(delegated))
    mailbox = delegated.get((address or "").lower())
    if mailbox is None:
        choice = ", ".join(delegated) or "none: no mailbox needs a sign-in"
        raise SettingsError([f"{address or 'no mailbox given'}: choose one of {choice}"])
    _check_data_dir(settings.data_dir)
    flow = DelegatedFlow(
        mailbox, authority=settings.authority, ca=settings.upstream_ca, vault=_vault(settings)
    )
    return flow.redeem(refresh_token)


def _open_files(settings: Settings) -> tuple[Certificate, Vault, ssl.SSLContext]:
    """Open what the settings name; report every problem at once."""
    problems: list[str] = []

    def attempt(open_one: Callable[[Settings], _Opened]) -> _Opened | None:
        try:
            return open_one(settings)
        except RelayError as error:
            problems.append(str(error))
        return None

    _check_data_dir(settings.data_dir)
    certificate, vault, tls = attempt(_certificate), attempt(_vault), attempt(_upstream_tls)
    if certificate is None or vault is None or tls is None:
        raise SettingsError(problems)
    return certificate, vault, tls


def _check_data_dir(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        raise SettingsError(
            [
                f"RELAY_DATA_DIR: cannot write in {path}: {error.strerror}. Give the directory to user "
                f"{os.getuid()} (chown {os.getuid()} {path}), make room, or choose another one"
            ]
        ) from error


def _certificate(settings: Settings) -> Certificate:
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None or key is None:
        cert, key = self_signed(settings.data_dir / "tls", settings.hostname, datetime.now(UTC))
        _log.warning(
            "certificate_self_signed",
            file=str(cert),
            consequence="Gmail will refuse to connect. Set RELAY_TLS_CERT and RELAY_TLS_KEY to a certificate "
            f"for {settings.hostname} from a public authority",
        )
    return Certificate(cert, key)


def _vault(settings: Settings) -> Vault:
    if settings.vault_key:
        key = key_from(settings.vault_key)
    else:
        file = settings.data_dir / "vault.key"
        key = create_key_file(file)
        _log.warning(
            "vault_key_beside_vault",
            file=str(file),
            consequence="whoever can read the data directory can read the tokens. Set RELAY_VAULT_KEY_FILE "
            "to a copy of this file that is kept elsewhere",
        )
    vault = Vault(settings.data_dir / "vault", key)
    vault.check()
    return vault


def _upstream_tls(settings: Settings) -> ssl.SSLContext:
    try:
        return tls_context(settings.upstream_ca)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(
            [f"RELAY_UPSTREAM_CA: {settings.upstream_ca} has no PEM certificates: {error}"]
        ) from error
