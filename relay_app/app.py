"""The relay as a whole: built from the settings, started, reloaded, drained, stopped."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime
from functools import partial
from time import monotonic

import structlog

from relay_app.backend import Parts, RelayBackend
from relay_app.console.server import Console
from relay_app.delivery.courier import DirectCourier
from relay_app.delivery.upstream import Upstream
from relay_app.errors import SettingsError, StoreError, TokenError
from relay_app.identity.flows import tokens_for
from relay_app.identity.keeper import Keeper
from relay_app.identity.sign_in import SignIns
from relay_app.identity.tokens import MailboxTokens
from relay_app.inbound.devices import Devices
from relay_app.inbound.listener import Listener
from relay_app.inbound.session import Mode
from relay_app.inbound.throttle import Throttle
from relay_app.observation import Observation
from relay_app.resources import open_all
from relay_app.settings import DeviceSettings, MailboxSettings, Settings
from relay_app.storage.devices import StoredDevices
from relay_app.storage.journal import KEEP, Journal
from relay_app.storage.journal_writer import JournalWriter

_log = structlog.get_logger()

_CERTIFICATE_POLL = 5.0  # seconds between looks at the certificate's files
_PURGE = 6 * 3600.0  # seconds between two purges of the journal
_GOODBYE = 6.0  # seconds for connections to be closed with QUIT; each waits 5 s for its reply
_LAST_ENTRIES = 5.0  # seconds for what waits to be written into the journal
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
        self._console_devices: list[DeviceSettings] = []  # as read last
        self._keeper: asyncio.Task[None]
        self._stop = asyncio.Event()
        self._resources = open_all(settings)
        self._stored_devices = StoredDevices(self._resources.store)
        self._journal = Journal(self._resources.store)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then finish what is in flight.

        Raises:
            ListenError: an address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGINT, self._stop.set)
        reload = asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, reload.set)
        self._writer = JournalWriter(self._journal, self._stored_devices)
        try:
            await self._serve(reload)
        finally:
            await asyncio.to_thread(self._writer.close, _LAST_ENTRIES)
            self._resources.store.close()
        _log.info("stopped")

    async def _serve(self, reload: asyncio.Event) -> None:
        settings = self._settings
        devices = Devices(await self._all_devices(), Throttle(monotonic), monotonic)
        courier = DirectCourier(self._upstreams)
        self._listener = Listener(
            hostname=settings.hostname,
            limits=settings.limits,
            certificate=self._resources.certificate,
            devices=devices,
            courier=courier,
            on_report=lambda report: self._observation.message(report),
            on_login=lambda device: self._observation.login(device),
        )
        self._observation = Observation(
            settings,
            store=self._resources.store,
            writer=self._writer,
            tokens=self._tokens,
            upstreams=self._upstreams,
            certificate=self._resources.certificate,
            connections=lambda: self._listener.connections,
        )
        for mailbox in settings.mailboxes:
            self._add(mailbox)
        sign_ins = SignIns(
            self._mailbox,
            authority=settings.authority,
            ca=settings.upstream_ca,
            vault=self._resources.vault,
            signed_in=partial(self._signed_in, asyncio.get_running_loop()),
        )
        console = Console.of(settings, self._backend(sign_ins))
        endpoints = {
            Mode.STARTTLS: settings.listen,
            Mode.IMPLICIT_TLS: settings.listen_tls,
            Mode.PROXY: settings.listen_proxy,
        }
        background: list[asyncio.Task[None]] = []
        try:
            await self._listener.start(endpoints)
            console.start()
            background = [
                asyncio.create_task(self._watch_certificate()),
                asyncio.create_task(self._purge_journal()),
                asyncio.create_task(self._observation.run()),
                asyncio.create_task(self._reloads(reload)),
            ]
            self._keeper = self._start_keeper()
            _log.info("started", mailboxes=[mailbox.address for mailbox in settings.mailboxes])
            await self._stop.wait()
            _log.info("stopping", patience=self._settings.limits.drain_timeout)
            await self._listener.stop(self._settings.limits.drain_timeout)
        finally:
            await self._listener.stop(0.0)
            for task in background:
                task.cancel()
            if background:
                self._keeper.cancel()
                await asyncio.wait(background)  # a reload must let go of what is closed now
            await asyncio.to_thread(console.stop)
            await asyncio.to_thread(self._observation.close)
            sign_ins.close()
            await _politely(courier.close())
            devices.close()

    def _backend(self, sign_ins: SignIns) -> RelayBackend:
        return RelayBackend(
            Parts(
                settings=lambda: self._settings,
                loop=asyncio.get_running_loop(),
                tokens=self._tokens,
                upstreams=self._upstreams,
                certificate=self._resources.certificate,
                sign_ins=sign_ins,
                journal=self._journal,
                devices=self._stored_devices,
                devices_changed=self._take_devices,
                metrics=self._observation.metrics.render,
                ports=self._ports,
            )
        )

    def _signed_in(self, loop: asyncio.AbstractEventLoop, address: str) -> None:
        """Fetch a token at once. Called in the thread that has just stored a sign-in."""

        async def retry() -> None:
            if tokens := self._tokens.get(address):
                with suppress(TokenError):  # logged, and shown
                    await tokens.retry()

        asyncio.run_coroutine_threadsafe(retry(), loop)

    def _mailbox(self, address: str) -> MailboxSettings | None:
        return next((each for each in self._settings.mailboxes if each.address == address), None)

    def _ports(self) -> tuple[int, int]:
        """Of the STARTTLS and of the TLS listener; 0 where there is none."""
        listen, tls = self._settings.listen, self._settings.listen_tls
        return (listen[0].port if listen else 0, tls[0].port if tls else 0)

    # In the background.

    async def _watch_certificate(self) -> None:
        while True:
            await asyncio.sleep(_CERTIFICATE_POLL)
            self._resources.certificate.refresh()

    async def _purge_journal(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._journal.purge, datetime.now(UTC) - KEEP)
            except StoreError as error:
                _log.warning("journal_not_purged", reason=str(error))
            await asyncio.sleep(_PURGE)

    async def _reloads(self, asked: asyncio.Event) -> None:
        while True:
            await asked.wait()
            asked.clear()
            try:
                await self._reload()
            except SettingsError as error:
                for problem in error.problems:
                    _log.error("reload_refused", reason=problem, consequence="the old settings stay in use")
            except Exception:  # the next SIGHUP must still find somebody here
                _log.exception(
                    "reload_failed", consequence="correct the settings and reload again, or restart"
                )

    async def _reload(self) -> None:
        self._resources.certificate.refresh(force=True)
        wanted = await asyncio.to_thread(self._load)
        for name in (each.name for each in fields(Settings) if each.name not in _RELOADABLE):
            if getattr(wanted, name) != getattr(self._settings, name):
                _log.warning("reload_incomplete", setting=name, consequence="it takes effect after a restart")
        self._settings = replace(self._settings, **{name: getattr(wanted, name) for name in _RELOADABLE})
        self._listener.limits = wanted.limits
        await self._take_devices()
        await self._take_mailboxes()
        self._keeper.cancel()
        self._keeper = self._start_keeper()
        _log.info("reloaded", mailboxes=[mailbox.address for mailbox in wanted.mailboxes])

    # Devices and mailboxes.

    async def _all_devices(self) -> list[DeviceSettings]:
        """Those in the settings and those made in the console; of two with one name, the former."""
        try:
            stored = await asyncio.to_thread(self._stored_devices.list)
            self._console_devices = [each.settings for each in stored]
        except StoreError as error:
            _log.error("devices_not_read", reason=str(error), consequence="those read last stay as they are")
        devices = {each.name.lower(): each for each in (*self._console_devices, *self._settings.devices)}
        return list(devices.values())

    async def _take_devices(self, revoked: str = "") -> None:
        """Take the list anew. `revoked` has just been removed, whatever the database says now."""
        self._console_devices = [
            each for each in self._console_devices if each.name.lower() != revoked.lower()
        ]
        self._listener.devices.replace(await self._all_devices())

    async def _take_mailboxes(self) -> None:
        """Make what new and changed mailboxes need, keep what others have, close what nobody needs.

        What has to go serves until its idle connections are closed: no mail finds a changed mailbox missing,
        and its old connections do not add up with the new ones.
        """
        wanted = {mailbox.address: mailbox for mailbox in self._settings.mailboxes}
        for address in wanted.keys() - self._upstreams.keys():
            self._add(wanted[address])
        outdated = [
            each for each in self._upstreams.values() if wanted.get(each.mailbox.address) != each.mailbox
        ]
        await asyncio.gather(*(_politely(upstream.close()) for upstream in outdated))
        for upstream in outdated:
            address = upstream.mailbox.address
            del self._upstreams[address], self._tokens[address]
            if address in wanted:
                self._add(wanted[address])

    def _add(self, mailbox: MailboxSettings) -> None:
        settings, resources = self._settings, self._resources
        tokens = tokens_for(
            mailbox, authority=settings.authority, ca=settings.upstream_ca, vault=resources.vault
        )
        self._upstreams[mailbox.address] = Upstream(
            mailbox,
            settings.upstream,
            tls=resources.upstream_tls,
            ehlo_name=settings.hostname,
            tokens=tokens,
        )
        tokens.on_change = self._observation.tokens_changed
        self._tokens[mailbox.address] = tokens

    def _start_keeper(self) -> asyncio.Task[None]:
        return asyncio.create_task(Keeper(self._tokens.values()).run())


async def _politely(closing: Awaitable[None]) -> None:
    """Let connections be closed with QUIT, but not for long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_GOODBYE):
            await closing
