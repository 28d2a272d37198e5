"""The pages that a person sees: authorize (RFC 6749 4.1.1) and the device's page (RFC 8628 3.3).

No state is kept between two requests: the authorization request stays in the address, the rest in the forms.
Nobody stays signed in: the account is asked for each time, a password never.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from sandbox import aadsts, pages
from sandbox.aadsts import EntraError
from sandbox.authorization import AuthorizationRequest, Redirect, Refused
from sandbox.directory import account_at
from sandbox.grants import Consent, Device
from sandbox.world import World

log = logging.getLogger("sandbox.sign_in")

_HEADERS = {"Cache-Control": "no-store", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"}


class SignIn:
    """Both pages."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[web.RouteDef]:
        return [
            *_both("/{tenant}/oauth2/v2.0/authorize", self.authorize),
            *_both("/{tenant}/oauth2/deviceauth", self.device),
        ]

    # -- authorize ------------------------------------------------------------------------------------------

    async def authorize(self, request: web.Request) -> web.StreamResponse:
        """Account, then consent, then back to the app."""
        tenant = request.match_info["tenant"]
        try:
            self._strike("authorize", request.query.get("client_id", ""))
            asked = AuthorizationRequest.parse(self._world, tenant, request.query)
            return self._step(asked, await _form(request))
        except Refused as refused:
            log.info("authorize: %s", refused)
            return _back(refused.redirect)
        except EntraError as error:
            log.info("authorize refused: AADSTS%d", error.code)
            return _html(pages.refused(str(error)), error.status)

    def _step(self, asked: AuthorizationRequest, form: Mapping[str, str]) -> web.Response:
        grants = self._world.grants
        if not form.get("account"):
            return _html(self._pick(asked))
        try:
            account = account_at(self._world, asked.tenant, asked.app, form["account"])
        except EntraError as error:
            return _html(self._pick(asked, typed=form["account"], error=str(error)))
        decision = form.get("decision", "")
        if decision == "cancel":
            return _back(asked.refuse(aadsts.consent_declined(), self._world.clock.now()))
        remembered = grants.remembers(account, asked.app.client_id, asked.scopes)
        if decision == "accept" or (remembered and asked.prompt != "consent"):
            return _back(asked.accept(self._world, account))
        return _html(pages.ask_consent(asked.app, account.address, asked.scopes))

    def _pick(self, asked: AuthorizationRequest, *, typed: str = "", error: str = "") -> str:
        hint = typed or asked.login_hint
        return pages.pick_account(self._addresses(), app=asked.app, hint=hint, error=error)

    # -- the device's page ----------------------------------------------------------------------------------

    async def device(self, request: web.Request) -> web.StreamResponse:
        """Code, then account, then the question whether one meant it, then consent."""
        form = await _form(request)
        try:
            self._strike("deviceauth", "")
        except EntraError as error:
            return _html(pages.refused(str(error)), error.status)
        if "user_code" not in form:
            return _html(pages.ask_code(code=request.query.get("otc", "")))
        code = form["user_code"].strip().upper()
        try:
            device = self._world.grants.device_by_user_code(code)
        except KeyError:
            return _html(pages.ask_code(code=code, error=_NO_SUCH_CODE))
        return _html(self._device_step(device, form))

    def _device_step(self, device: Device, form: Mapping[str, str]) -> str:
        app = self._world.app(device.client_id)
        code, address = device.user_code, form.get("account", "")
        if form.get("decision") == "cancel":
            device.declined = True
            return pages.done(
                "Sign-in cancelled", f"{app.name} was not given access. You may close this window."
            )
        if not address:
            return pages.pick_account(self._addresses(), app=app, code=code)
        try:
            account = account_at(self._world, device.tenant, app, address)
        except EntraError as error:
            return pages.pick_account(self._addresses(), app=app, hint=address, error=str(error), code=code)
        if "confirmed" not in form:
            return pages.confirm_device(app, account.address, code)
        grants = self._world.grants
        if form.get("decision") != "accept" and not grants.remembers(account, app.client_id, device.scopes):
            return pages.ask_consent(app, account.address, device.scopes, code=code)
        grants.remember(account, app.client_id, device.scopes)
        device.consent = Consent(account, app.client_id, device.scopes)
        return pages.done(
            "You have signed in",
            f"You have signed in to {app.name} on your device. You may close this window.",
        )

    def _addresses(self) -> list[str]:
        return [account.address for account in self._world.accounts.values()]

    def _strike(self, stage: str, client_id: str) -> None:
        """Raises EntraError: a fault asks for it."""
        if fault := self._world.entra_faults.take(stage, user=client_id):
            raise aadsts.on_request(fault.aadsts or 90033, error=fault.error, status=fault.status)


_NO_SUCH_CODE = "That code didn't work. Check the code and try again."


def _both(path: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> list[web.RouteDef]:
    return [web.get(path, handler), web.post(path, handler)]


async def _form(request: web.Request) -> dict[str, str]:
    if request.method != "POST":
        return {}
    return {name: value for name, value in (await request.post()).items() if isinstance(value, str)}


def _back(redirect: Redirect) -> web.Response:
    if redirect.mode == "form_post":
        return _html(pages.post_redirect(redirect))
    return web.Response(status=302, headers={"Location": redirect.url, **_HEADERS})


def _html(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, content_type="text/html", status=status, headers=_HEADERS)
