"""The control API: plain HTTP with JSON, for tests and the demo. `sandbox.client.Control` speaks it.

Errors are answered with 400 (what was asked makes no sense) or 404 (no such thing) and `{"error": sentence}`.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web

from sandbox import aadsts, assertions, scopes
from sandbox.aadsts import EntraError
from sandbox.accounts import CONSUMER_TENANT, Account
from sandbox.apps import AUDIENCES, App, Secret
from sandbox.authorization import AuthorizationRequest, Refused
from sandbox.certificates import KINDS, ListenerTls
from sandbox.counts import Counters
from sandbox.directory import account_at
from sandbox.faults import ENTRA_STAGES, Fault, FaultBook
from sandbox.grants import Consent
from sandbox.outlook import Outlook
from sandbox.world import PERSONAL, WORK, World

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_DEFAULT_SCOPES = "https://outlook.office.com/SMTP.Send offline_access openid profile"


class ControlApi:
    """The web application."""

    def __init__(
        self, world: World, outlook: Outlook, entra_tls: ListenerTls, keep: Callable[[], object]
    ) -> None:
        """`keep` is called after each change."""
        self._world = world
        self._outlook = outlook
        self._entra_tls = entra_tls
        self._keep = keep
        self.authority = ""
        self.smtp = ""
        """Where Entra and Outlook can be reached, known once they listen."""

    def app(self) -> web.Application:
        app = web.Application(middlewares=[_explain, self._kept])
        app.router.add_routes(
            [
                web.get("/world", self.world),
                web.post("/accounts", self.add_account),
                web.delete("/accounts/{address}", self.delete_account),
                web.post("/accounts/{address}/password", self.change_password),
                web.post("/apps", self.add_app),
                web.post("/apps/{client_id}/secrets", self.add_secret),
                web.delete("/apps/{client_id}/secrets", self.expire_secrets),
                web.post("/apps/{client_id}/certificates", self.add_certificate),
                web.post("/refresh_tokens", self.refresh_token),
                web.post("/access_tokens", self.access_token),
                web.post("/codes", self.code),
                web.post("/devices/{user_code}", self.device),
                web.post("/revoke", self.revoke),
                web.get("/faults", self.faults),
                web.post("/faults", self.add_fault),
                web.delete("/faults", self.clear_faults),
                web.get("/limits", self.limits),
                web.patch("/limits", self.set_limits),
                web.get("/messages", self.messages),
                web.get("/connections", self.connections),
                web.get("/counters", self.counters),
                web.post("/certificate", self.certificate),
                web.post("/clock", self.clock),
                web.post("/close_idle", self.close_idle),
                web.post("/disconnect", self.disconnect),
                web.post("/reset", self.reset),
            ]
        )
        return app

    # -- who there is ---------------------------------------------------------------------------------------

    async def world(self, _request: web.Request) -> web.Response:
        """The addresses, the CA, and the tenant, accounts and apps that are there from the start."""
        world = self._world
        return web.json_response(
            {
                "authority": self.authority,
                "smtp": self.smtp,
                "ca_pem": world.certificates.ca_pem,
                "tenant": world.tenant,
                "personal": PERSONAL,
                "work": WORK,
                "client_id": world.confidential_app.client_id,
                "client_secret": world.confidential_app.secrets[0].value,
                "public_client_id": world.public_app.client_id,
            }
        )

    async def add_account(self, request: web.Request) -> web.Response:
        """Add an account, or replace what is known of it: its sign-ins stay."""
        body = await _body(request, {"address", "personal", "aliases", "smtp_auth_disabled"})
        address, personal = str(body["address"]), bool(body.get("personal", False))
        account = self._world.accounts.get(address.casefold())
        tenant = CONSUMER_TENANT if personal else self._world.tenant
        if account is None:
            account = Account(address, tenant, personal)
            self._world.add_account(account)
        elif account.personal != personal:
            raise ValueError(f"{address} exists and is {'not ' * personal}a personal account.")
        account.aliases = tuple(body.get("aliases", ()))
        account.smtp_auth_disabled = bool(body.get("smtp_auth_disabled", False))
        return web.json_response({})

    async def delete_account(self, request: web.Request) -> web.Response:
        """It is gone, with its mailbox: its sign-ins are refused (50034), its tokens open nothing."""
        self._world.delete_account(request.match_info["address"])
        return web.json_response({})

    async def change_password(self, request: web.Request) -> web.Response:
        """Sign-ins end, but not a work account's with confidential apps (Microsoft's page refresh-tokens)."""
        account = self._world.account(request.match_info["address"])
        confidential = {app.client_id for app in self._world.apps.values() if not app.public}
        self._world.grants.revoke(account, spared=() if account.personal else confidential)
        return web.json_response({})

    async def add_app(self, request: web.Request) -> web.Response:
        body = await _body(
            request,
            {"name", "public", "audience", "redirect_uris", "delegated", "roles", "mailboxes", "certificate"},
        )
        certificate = body.get("certificate", "")
        audience = body.get("audience", "AzureADandPersonalMicrosoftAccount")
        if audience not in AUDIENCES:
            raise ValueError(f"An audience is one of {', '.join(sorted(AUDIENCES))}, not {audience!r}.")
        app = App(
            name=body.get("name", "relay"),
            tenant=self._world.tenant,
            secrets=[] if body.get("public") or certificate else [Secret()],
            certificates=[assertions.load(certificate)] if certificate else [],
            audience=audience,
            redirect_uris=tuple(body.get("redirect_uris", ("http://localhost:8400/callback",))),
            delegated=frozenset(body.get("delegated", ("SMTP.Send", "Mail.Send"))),
            roles=frozenset(body.get("roles", ())),
            mailboxes=tuple(body.get("mailboxes", ())),
        )
        self._world.add_app(app)
        secret = app.secrets[0].value if app.secrets else ""
        return web.json_response({"client_id": app.client_id, "client_secret": secret})

    async def add_secret(self, request: web.Request) -> web.Response:
        app = self._world.app(request.match_info["client_id"])
        secret = Secret()
        app.secrets.append(secret)
        return web.json_response({"client_secret": secret.value, "id": secret.id})

    async def add_certificate(self, request: web.Request) -> web.Response:
        body = await _body(request, {"certificate"})
        app = self._world.app(request.match_info["client_id"])
        app.certificates.append(assertions.load(str(body["certificate"])))
        return web.json_response({})

    async def expire_secrets(self, request: web.Request) -> web.Response:
        """All the secrets that the app has now run out at this moment."""
        for secret in self._world.app(request.match_info["client_id"]).secrets:
            secret.expires_at = self._world.clock.now()
        return web.json_response({})

    # -- sign-ins -------------------------------------------------------------------------------------------

    async def refresh_token(self, request: web.Request) -> web.Response:
        """A sign-in with all consents, as if the person had just done it."""
        body = await _body(request, {"account", "client_id", "scopes"})
        consent = self._consent(body["account"], body["client_id"], body.get("scopes") or _DEFAULT_SCOPES)
        return web.json_response({"refresh_token": self._world.grants.issue_refresh(consent)})

    async def access_token(self, request: web.Request) -> web.Response:
        """An access token straight from the mint. With `account` "" an app-only one for Outlook."""
        body = await _body(request, {"account", "client_id", "scopes", "expires_in", "resource"})
        app = self._world.app(body["client_id"])
        lifetime = int(body.get("expires_in", self._world.limits.expires_in))
        if not body.get("account"):
            resource = body.get("resource", "https://outlook.office365.com")
            token = self._world.mint.app_access(app, self._world.tenant, resource, lifetime)
            return web.json_response({"access_token": token})
        account = self._world.account(body["account"])
        asked = scopes.delegated(body.get("scopes") or _DEFAULT_SCOPES, app, personal=account.personal)
        token = self._world.mint.delegated_access(account, app, asked.resource, asked.permissions, lifetime)
        return web.json_response({"access_token": token})

    async def code(self, request: web.Request) -> web.Response:
        """What the redirect URI gets once the person has agreed, or declined, at this authorization URL."""
        body = await _body(request, {"account", "url"})
        url = urlsplit(body["url"])
        try:
            asked = AuthorizationRequest.parse(
                self._world, url.path.split("/")[1], dict(parse_qsl(url.query))
            )
        except Refused as refused:
            raise ValueError(str(refused)) from refused
        if not body.get("account"):
            declined = asked.refuse(aadsts.consent_declined(), self._world.clock.now())
            return web.json_response(dict(declined.parameters))
        account = account_at(self._world, asked.tenant, asked.app, body["account"])
        return web.json_response(dict(asked.accept(self._world, account).parameters))

    async def device(self, request: web.Request) -> web.Response:
        """A person has typed the user code, and agreed as `account` or declined (no account)."""
        body = await _body(request, {"account"})
        device = self._world.grants.device_by_user_code(request.match_info["user_code"])
        if body.get("account"):
            app = self._world.app(device.client_id)
            account = account_at(self._world, device.tenant, app, body["account"])
            self._world.grants.remember(account, app.client_id, device.scopes)
            device.consent = Consent(account, app.client_id, device.scopes)
        else:
            device.declined = True
        return web.json_response({})

    async def revoke(self, request: web.Request) -> web.Response:
        """End all sign-ins of an account (50173), or make one refresh token unknown (70000)."""
        body = await _body(request, {"account", "refresh_token"})
        if token := body.get("refresh_token"):
            self._world.grants.forget_refresh(token)
        else:
            self._world.grants.revoke(self._world.account(body["account"]))
        return web.json_response({})

    def _consent(self, address: str, client_id: str, text: str) -> Consent:
        account, app = self._world.account(address), self._world.app(client_id)
        words, oidc = scopes.split(text)
        for word in words:
            scopes.check(word)
        return Consent(account, app.client_id, words | oidc)

    # -- what shall happen ----------------------------------------------------------------------------------

    async def faults(self, _request: web.Request) -> web.Response:
        """The faults that can still strike."""
        pending = self._world.smtp_faults.pending() + self._world.entra_faults.pending()
        return web.json_response([asdict(fault) for fault in pending])

    async def add_fault(self, request: web.Request) -> web.Response:
        fault = Fault.parse(await _body(request))
        return web.json_response({"id": self._book(fault.stage).add(fault)})

    async def clear_faults(self, _request: web.Request) -> web.Response:
        self._world.smtp_faults.clear()
        self._world.entra_faults.clear()
        return web.json_response({})

    def _book(self, stage: str) -> FaultBook:
        return self._world.entra_faults if stage in ENTRA_STAGES else self._world.smtp_faults

    async def limits(self, _request: web.Request) -> web.Response:
        return web.json_response(asdict(self._world.limits))

    async def set_limits(self, request: web.Request) -> web.Response:
        self._world.limits.update(await _body(request))
        return web.json_response(asdict(self._world.limits))

    async def certificate(self, request: web.Request) -> web.Response:
        """What the servers show from now on."""
        body = await _body(request, {"service", "kind"})
        if body["kind"] not in KINDS:
            raise ValueError(f"A certificate is one of {', '.join(KINDS)}, not {body['kind']!r}.")
        if body["service"] == "smtp":
            self._world.smtp_certificate = body["kind"]
        elif body["service"] == "entra":
            self._entra_tls.kind = body["kind"]
        else:
            raise ValueError(f"A service is smtp or entra, not {body['service']!r}.")
        return web.json_response({})

    async def clock(self, request: web.Request) -> web.Response:
        """Let time pass at once."""
        body = await _body(request, {"advance"})
        self._world.clock.advance(float(body["advance"]))
        return web.json_response({"now": self._world.clock.now()})

    async def close_idle(self, request: web.Request) -> web.Response:
        body = await _body(request, {"user", "silent"})
        closed = self._outlook.close_idle(body.get("user", ""), silent=bool(body.get("silent", False)))
        return web.json_response({"closed": closed})

    async def disconnect(self, _request: web.Request) -> web.Response:
        await self._outlook.disconnect()
        return web.json_response({})

    async def reset(self, _request: web.Request) -> web.Response:
        self._world.reset()
        self._entra_tls.kind = "good"
        return web.json_response({})

    # -- what happened --------------------------------------------------------------------------------------

    async def messages(self, request: web.Request) -> web.Response:
        """The messages kept, once `count` were taken since the last reset or `seconds` have passed."""
        query = request.query
        messages = await self._world.journal.messages(
            count=int(query.get("count", 0)), seconds=float(query.get("seconds", 0))
        )
        return web.json_response([message.as_dict() for message in messages])

    async def connections(self, _request: web.Request) -> web.Response:
        return web.json_response([connection.as_dict() for connection in self._world.journal.connections()])

    async def counters(self, _request: web.Request) -> web.Response:
        counters = Counters(self._world.journal.counts, self._world.entra_counts)
        return web.json_response(asdict(counters))

    @web.middleware
    async def _kept(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if request.method != "GET":
            self._keep()
        return response


@web.middleware
async def _explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except KeyError as error:
        return web.json_response({"error": f"Missing or unknown: {error.args[0]}"}, status=404)
    except (ValueError, TypeError, EntraError) as error:
        return web.json_response({"error": str(error)}, status=400)


async def _body(request: web.Request, allowed: set[str] | None = None) -> Json:
    """The JSON object that was sent. Raises ValueError when it is none, or has names other than `allowed`."""
    text = await request.text()
    try:
        body = json.loads(text) if text else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"The body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ValueError("The body must be a JSON object.")  # noqa: TRY004 - it is the client's mistake
    if allowed is not None and (unknown := body.keys() - allowed):
        raise ValueError(
            f"Not understood: {', '.join(sorted(unknown))}. There are: {', '.join(sorted(allowed))}."
        )
    return body
