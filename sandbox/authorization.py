"""What an authorization request asks for, and the redirect that answers it (RFC 6749 4.1, RFC 7636).

Source of the rules: `learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow` and `reply-url`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from sandbox import aadsts, scopes
from sandbox.aadsts import EntraError
from sandbox.accounts import Account
from sandbox.apps import App
from sandbox.directory import app_at
from sandbox.grants import Consent
from sandbox.world import World

_PROMPTS = frozenset({"", "login", "select_account", "consent", "none"})
_MODES = frozenset({"query", "form_post"})
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Redirect:
    """The answer on its way to the app: as a query, or as a form that the browser posts."""

    uri: str
    mode: str
    parameters: Mapping[str, str]

    @property
    def url(self) -> str:
        """For the mode `query`."""
        parts = urlsplit(self.uri)
        added = urlencode(self.parameters, quote_via=quote)
        query = f"{parts.query}&{added}" if parts.query else added
        return urlunsplit(parts._replace(query=query))


class Refused(Exception):
    """A request that is answered with a redirect: the app is told, not the person."""

    def __init__(self, redirect: Redirect) -> None:
        super().__init__(redirect.parameters["error_description"])
        self.redirect = redirect


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """A request that may be shown to a person."""

    app: App
    tenant: str
    redirect_uri: str
    mode: str
    scopes: frozenset[str]
    state: str = ""
    nonce: str = ""
    challenge: str = ""
    login_hint: str = ""
    prompt: str = ""

    @classmethod
    def parse(cls, world: World, tenant: str, query: Mapping[str, str]) -> "AuthorizationRequest":
        """Check everything there is to check before a person is asked.

        Raises:
            EntraError: the app or its redirect URI is not to be trusted: the person is told.
            Refused: anything else: the app is told.
        """
        app = app_at(world, tenant, _required(query, "client_id"))
        uri = query.get("redirect_uri") or (app.redirect_uris[0] if len(app.redirect_uris) == 1 else "")
        if not uri:
            raise aadsts.no_redirect()
        if not app.accepts_redirect(uri):
            raise aadsts.unregistered_redirect(uri, app.client_id)
        mode = query.get("response_mode", "query")
        if mode not in _MODES:
            raise aadsts.unknown_response_mode(mode)
        request = cls(
            app=app,
            tenant=tenant,
            redirect_uri=uri,
            mode=mode,
            scopes=frozenset(query.get("scope", "").split()),
            state=query.get("state", ""),
            nonce=query.get("nonce", ""),
            challenge=query.get("code_challenge", ""),
            login_hint=query.get("login_hint", ""),
            prompt=query.get("prompt", ""),
        )
        try:
            request._check(query)
        except EntraError as error:
            raise Refused(request.refuse(error, world.clock.now())) from error
        return request

    def _check(self, query: Mapping[str, str]) -> None:
        response_type = _required(query, "response_type")
        if response_type != "code":
            raise aadsts.unknown_response_type(response_type)
        _required(query, "scope")
        for word in sorted(scopes.split(" ".join(self.scopes))[0]):
            scopes.check(word)
        if self.challenge and query.get("code_challenge_method", "plain") != "S256":
            raise aadsts.bad_challenge("Only S256 is understood as code_challenge_method.")
        if self.challenge and not _CHALLENGE.fullmatch(self.challenge):
            raise aadsts.bad_challenge("The size of the code_challenge parameter is not valid.")
        if self.prompt not in _PROMPTS:
            raise aadsts.unknown_prompt(self.prompt)
        if self.prompt == "none":  # the sandbox keeps nobody signed in between two visits
            raise aadsts.nobody_signed_in()

    def accept(self, world: World, account: Account) -> Redirect:
        """The person has agreed: the app gets a code."""
        world.grants.remember(account, self.app.client_id, self.scopes)
        consent = Consent(account, self.app.client_id, self.scopes, self.nonce)
        code = world.grants.issue_code(consent, self.redirect_uri, self.challenge)
        return self._answer({"code": code})

    def refuse(self, error: EntraError, now: float) -> Redirect:
        """RFC 6749 4.1.2.1, with Entra's wording."""
        body = error.body(now)
        answer = {"error": error.error, "error_description": str(body["error_description"])}
        if error.suberror:
            answer["error_subcode"] = error.suberror
        return self._answer(answer)

    def _answer(self, parameters: dict[str, str]) -> Redirect:
        return Redirect(
            self.redirect_uri, self.mode, parameters | ({"state": self.state} if self.state else {})
        )


def _required(query: Mapping[str, str], name: str) -> str:
    value = query.get(name, "")
    if not value:
        raise aadsts.missing_parameter(name)
    return value
