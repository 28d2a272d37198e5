"""login.microsoftonline.com: discovery, keys, the token endpoint and device authorization.

The pages that a person sees are in `sandbox.sign_in`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from sandbox import aadsts, assertions, scopes
from sandbox.aadsts import EntraError
from sandbox.accounts import CONSUMER_TENANT
from sandbox.apps import App
from sandbox.directory import app_at, check_grant
from sandbox.faults import Fault
from sandbox.grants import Consent
from sandbox.sign_in import SignIn
from sandbox.tokens import client_info
from sandbox.world import SHARED_ENDPOINTS, TENANT_DOMAIN, World

log = logging.getLogger("sandbox.entra")

Form = Mapping[str, str]
_DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


class Entra:
    """The web application. `base` is its own URL, known once it listens."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.base = ""
        self._grants: dict[str, Callable[[str, App, Form, int], dict[str, Any]]] = {
            "client_credentials": self._client_credentials,
            "refresh_token": self._refresh_token,
            "authorization_code": self._authorization_code,
            _DEVICE_CODE: self._device_code,
            "device_code": self._device_code,
        }

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._refuse])
        app.router.add_get("/{tenant}/v2.0/.well-known/openid-configuration", self.discovery)
        app.router.add_get("/{tenant}/discovery/v2.0/keys", self.keys)
        app.router.add_post("/{tenant}/oauth2/v2.0/token", self.token)
        app.router.add_post("/{tenant}/oauth2/v2.0/devicecode", self.device_authorization)
        app.router.add_routes(SignIn(self._world).routes())
        return app

    # -- endpoints ------------------------------------------------------------------------------------------

    async def discovery(self, request: web.Request) -> web.StreamResponse:
        """OpenID Connect Discovery 1.0, with what MSAL reads of it."""
        self._world.entra_counts.discovery_requests += 1
        if fault := self._world.entra_faults.take("discovery"):
            failure = await self._strike(fault, request)
            if failure is not None:
                return failure
        tenant = request.match_info["tenant"]
        if not self._world.knows_tenant(tenant):
            error = aadsts.unknown_tenant(tenant)
            error.error = "invalid_tenant"
            raise error
        issuer_tenant = "{tenantid}" if tenant in SHARED_ENDPOINTS else self._tenant_id(tenant)
        root = f"{self.base}/{tenant}"
        return web.json_response(
            {
                "issuer": f"{self.base}/{issuer_tenant}/v2.0",
                "authorization_endpoint": f"{root}/oauth2/v2.0/authorize",
                "token_endpoint": f"{root}/oauth2/v2.0/token",
                "device_authorization_endpoint": f"{root}/oauth2/v2.0/devicecode",
                "jwks_uri": f"{root}/discovery/v2.0/keys",
                "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
                "response_types_supported": ["code"],
                "response_modes_supported": ["query", "form_post"],
                "scopes_supported": ["openid", "profile", "email", "offline_access"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        )

    async def keys(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response(self._world.mint.keys())

    async def token(self, request: web.Request) -> web.StreamResponse:
        """RFC 6749 3.2."""
        form = await _form(request)
        counts = self._world.entra_counts
        grant = form.get("grant_type", "")
        counts.token_requests += 1
        counts.by_grant[grant] = counts.by_grant.get(grant, 0) + 1
        counts.in_flight += 1
        counts.in_flight_peak = max(counts.in_flight_peak, counts.in_flight)
        try:
            fault = self._world.entra_faults.take("token", user=form.get("client_id", ""))
            if fault is not None:
                failure = await self._strike(fault, request)
                if failure is not None:
                    return failure
            lifetime = (fault.expires_in if fault else 0) or self._world.limits.expires_in
            body = self._grant(request.match_info["tenant"], grant, form, lifetime)
        finally:
            counts.in_flight -= 1
        counts.tokens_granted += 1
        return web.json_response(body, headers={"Cache-Control": "no-store, no-cache", "Pragma": "no-cache"})

    async def device_authorization(self, request: web.Request) -> web.StreamResponse:
        """RFC 8628 3.2."""
        form = await _form(request)
        if fault := self._world.entra_faults.take("devicecode", user=form.get("client_id", "")):
            failure = await self._strike(fault, request)
            if failure is not None:
                return failure
        tenant = request.match_info["tenant"]
        app = app_at(self._world, tenant, _required(form, "client_id"))
        words, oidc = scopes.split(_required(form, "scope"))
        for word in words:
            scopes.check(word)
        device = self._world.grants.start_device(app, tenant, words | oidc)
        url = f"{self.base}/common/oauth2/deviceauth"
        return web.json_response(
            {
                "user_code": device.user_code,
                "device_code": device.code,
                "verification_uri": url,
                "expires_in": self._world.limits.device_code_seconds,
                "interval": self._world.limits.device_code_interval,
                "message": f"To sign in, use a web browser to open the page {url} and enter the code "
                f"{device.user_code} to authenticate.",
            }
        )

    # -- grants ---------------------------------------------------------------------------------------------

    def _grant(self, tenant: str, grant: str, form: Form, lifetime: int) -> dict[str, Any]:
        """Answer a token request.

        Raises:
            EntraError: the request is refused.
        """
        _required(form, "grant_type")
        app = app_at(self._world, tenant, _required(form, "client_id"))
        handler = self._grants.get(grant)
        if handler is None:
            raise aadsts.unknown_grant_type(grant)
        return handler(tenant, app, form, lifetime)

    def _client_credentials(self, tenant: str, app: App, form: Form, lifetime: int) -> dict[str, Any]:
        if tenant in ("common", "consumers", CONSUMER_TENANT):
            raise aadsts.app_only_on_shared_endpoint()
        if app.public and not form.keys() & {"client_secret", "client_assertion"}:
            raise aadsts.public_client_alone()
        self._check_client(tenant, app, form)
        resource = scopes.application(_required(form, "scope"), tenant)
        home = app.tenant if tenant in SHARED_ENDPOINTS else self._tenant_id(tenant)
        return {
            "token_type": "Bearer",
            "expires_in": lifetime,
            "ext_expires_in": lifetime,
            "access_token": self._world.mint.app_access(app, home, resource, lifetime),
        }

    def _refresh_token(self, tenant: str, app: App, form: Form, lifetime: int) -> dict[str, Any]:
        self._check_client(tenant, app, form)
        consent = self._world.grants.refresh(_required(form, "refresh_token"), app)
        return self._delegated(tenant, app, consent, form, lifetime)

    def _authorization_code(self, tenant: str, app: App, form: Form, lifetime: int) -> dict[str, Any]:
        self._check_client(tenant, app, form)
        consent = self._world.grants.redeem(
            _required(form, "code"), app, form.get("redirect_uri", ""), form.get("code_verifier", "")
        )
        return self._delegated(tenant, app, consent, form, lifetime)

    def _device_code(self, tenant: str, app: App, form: Form, lifetime: int) -> dict[str, Any]:
        self._check_client(tenant, app, form)
        code = form.get("device_code") or _required(form, "code")
        return self._delegated(tenant, app, self._world.grants.poll(code, app), form, lifetime)

    def _delegated(
        self, tenant: str, app: App, consent: Consent, form: Form, lifetime: int
    ) -> dict[str, Any]:
        """The response of every grant that stands for a person."""
        account = consent.account
        check_grant(self._world, tenant, account)
        text = form.get("scope") or _first_resource(consent.scopes)
        asked = scopes.delegated(text, app, personal=account.personal)
        if not scopes.covered(asked, consent.scopes):
            raise aadsts.not_consented(app.client_id, app.name, personal=account.personal)
        granted = asked.words | {f"{asked.resource}/{name}" for name in asked.permissions}
        body = {
            "token_type": "Bearer",
            "scope": " ".join(sorted(granted)),
            "expires_in": lifetime,
            "ext_expires_in": lifetime,
            "access_token": self._world.mint.delegated_access(
                account, app, asked.resource, asked.permissions, lifetime
            ),
        }
        oidc = asked.oidc | scopes.split(" ".join(consent.scopes))[1]
        if "offline_access" in oidc:
            body["refresh_token"] = self._world.grants.issue_refresh(consent)
        if "openid" in oidc:
            issuer = f"{self.base}/{account.tenant}/v2.0"
            body["id_token"] = self._world.mint.id_token(account, app, issuer, consent.nonce, lifetime)
        if form.get("client_info") == "1":
            body["client_info"] = client_info(account)
        return body

    # -- checks ---------------------------------------------------------------------------------------------

    def _check_client(self, tenant: str, app: App, form: Form) -> None:
        """The app is who it says, by a secret or by a certificate.

        Raises:
            EntraError: it has not shown that.
        """
        sent, assertion = form.get("client_secret", ""), form.get("client_assertion", "")
        if app.public:
            if sent or assertion:
                raise aadsts.public_client_with_secret()
            return
        if assertion and form.get("client_assertion_type") == assertions.ASSERTION_TYPE:
            assertions.check(assertion, app, self._audiences(tenant), self._world.clock.now())
            return
        if not sent:
            raise aadsts.missing_secret()
        for secret in app.secrets:
            if secret.value == sent:
                if secret.expires_at <= self._world.clock.now():
                    raise aadsts.expired_secret(app.client_id)
                return
        raise aadsts.wrong_secret(app.client_id)

    def _audiences(self, tenant: str) -> frozenset[str]:
        """What an assertion may be made out to."""
        root = f"{self.base}/{tenant}"
        return frozenset({f"{root}/oauth2/v2.0/token", f"{root}/v2.0"})

    def _tenant_id(self, tenant: str) -> str:
        return self._world.tenant if tenant == TENANT_DOMAIN else tenant

    # -- faults ---------------------------------------------------------------------------------------------

    async def _strike(self, fault: Fault, request: web.Request) -> web.StreamResponse | None:
        """Do what a fault asks for; None when the request is to be answered after all."""
        log.info("fault %d at %s", fault.id, fault.stage)
        if fault.stall:
            await asyncio.sleep(fault.stall)
        if fault.drop:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=503)  # reaches nobody
        headers = {"Retry-After": str(fault.retry_after)} if fault.retry_after else {}
        if fault.aadsts:
            refusal = aadsts.on_request(fault.aadsts, error=fault.error, status=fault.status)
            body = refusal.body(self._world.clock.now())
            return web.json_response(body, status=refusal.status, headers=headers)
        if fault.status:
            return web.Response(
                text="<html><body>Trouble</body></html>",
                content_type="text/html",
                status=fault.status,
                headers=headers,
            )
        return None

    @web.middleware
    async def _refuse(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except EntraError as error:
            log.info("%s refused: AADSTS%d", request.path, error.code)
            return web.json_response(error.body(self._world.clock.now()), status=error.status)


async def _form(request: web.Request) -> Form:
    return {name: value for name, value in (await request.post()).items() if isinstance(value, str)}


def _required(form: Form, name: str) -> str:
    """Raises EntraError: the parameter is missing or empty."""
    value = form.get(name, "")
    if not value:
        raise aadsts.missing_parameter(name)
    return value


def _first_resource(consented: frozenset[str]) -> str:
    """The scopes to grant when a request names none: those of one resource."""
    words, oidc = scopes.split(" ".join(consented))
    if not words:
        return " ".join(oidc)
    resource = min(scopes.resource_of(word)[0] for word in words)
    return " ".join(word for word in words if scopes.resource_of(word)[0] == resource)
