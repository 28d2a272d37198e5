"""Who may use the console, and what every response says about it.

Three ways in: a session begun with the password, the API's bearer token, and - if no password is configured -
being on this machine. Requests for other hosts than ours are refused before anything else (`hosts`), a form
without its token is refused (CSRF), and guessing is slowed (`throttle`).
"""

import hashlib
import hmac
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from secrets import token_urlsafe
from typing import Self
from urllib.parse import urlencode

import argon2
import structlog
from flask import Flask, Response, current_app, g, make_response, redirect, render_template, request, session
from flask.sessions import SecureCookieSessionInterface
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFProtect
from itsdangerous import BadData, URLSafeTimedSerializer
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import RequestEntityTooLarge, Unauthorized

from relay_app.console.hosts import Hosts, is_loopback
from relay_app.console.sessions import Sessions
from relay_app.console.throttle import Throttle, network_of
from relay_app.settings import HASHER, Settings

_log = structlog.get_logger()

_VERIFICATIONS = 2  # passwords looked at at once: each takes 19 MB
_BROWSER_COOKIE = "smtp_relay_browser"
_BROWSER_AGE = 90 * 86400  # seconds that a browser which has logged in stays known
_PUBLIC = frozenset({"/login", "/healthz", "/readyz", "/set-language"})
_KEPT = ("language",)  # what of a session outlives login and logout
_FORWARDED = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")
_LOCAL = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]*")
_HEADERS = {
    # form-action also governs where a form's answer redirects to: Microsoft's pages are reached by links.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: browsers would send `Origin: null`, and CSRF's check behind https wants a Referer.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def _(text: str) -> str:
    """Mark a text for translation; the template translates it."""
    return text


@dataclass(frozen=True, slots=True)
class Access:
    """What the settings say about who may use the console."""

    password_hash: str = field(default="", repr=False)
    """argon2. Empty: only this machine may, and needs no password."""
    token: str = field(default="", repr=False)
    """The bearer token of the API; empty: there is none."""
    hostname: str = ""
    url: str = ""
    """The console's address as a browser outside sees it, or ""."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(settings.web_password_hash, settings.web_token, settings.hostname, settings.web_url)


def authenticated() -> bool:
    """Whether the request comes from somebody who may see everything."""
    return bool(g.get("authenticated"))


class Gate:
    """Stands before every view. Give it to an application with `init_app`."""

    def __init__(self, access: Access, clock: Callable[[], float]) -> None:
        self._access = access
        self._open = not access.password_hash
        self._hosts = Hosts(loopback_only=self._open, hostname=access.hostname, url=access.url)
        self._sessions = Sessions(clock)
        self._throttle = Throttle(clock)
        self._verifications = threading.BoundedSemaphore(_VERIFICATIONS)
        self._csrf = CSRFProtect()
        self._token_digest = hashlib.sha256(access.token.encode()).digest()

    def init_app(self, app: Flask) -> None:
        app.config.update(
            SESSION_COOKIE_NAME="smtp_relay_session",  # cookies of one host are shared by all its ports
            SESSION_COOKIE_HTTPONLY=True,
            # Not Strict: the browser comes back from Microsoft's page with a link to us.
            SESSION_COOKIE_SAMESITE="Lax",
            WTF_CSRF_CHECK_DEFAULT=False,  # _admit does it, except for the bearer token
            WTF_CSRF_TIME_LIMIT=None,  # as long as the session
        )
        app.session_interface = _SessionCookies(self._https)
        self._csrf.init_app(app)
        self._browsers = URLSafeTimedSerializer(app.config["SECRET_KEY"], salt="browser")
        app.before_request(self._admit)
        app.after_request(_protect)
        app.context_processor(self._context)
        app.add_url_rule("/login", view_func=self.login, methods=["GET", "POST"])
        app.add_url_rule("/logout", view_func=self.logout, methods=["POST"])

    # Views.

    def login(self) -> ResponseReturnValue:
        """Ask for the password, and begin a session."""
        target = local(request.values.get("next", ""))
        if authenticated():
            return redirect(target, 303)
        if request.method != "POST":
            return _login_page("", target, 200)
        guesser, browser = self._guesser()
        if not self._verifications.acquire(blocking=False):
            return _login_page(_("The relay is busy. Try again in a second."), target, 429, wait=1.0)
        try:
            wait = self._throttle.attempt(guesser)
            if wait > 0:
                error = _("Too many wrong passwords. Wait a little, then try again.")
                return _login_page(error, target, 429, wait=wait)
            right = _verify(self._access.password_hash, request.form.get("password", ""))
        finally:
            self._verifications.release()
        if not right:
            _log.warning("console_login_failed", client=request.remote_addr)
            return _login_page(_("That password is wrong."), target, 403)
        self._throttle.succeeded(guesser)
        _log.info("console_login", client=request.remote_addr)
        _renew_session()
        session["id"] = self._sessions.begin()
        return self._remember_browser(make_response(redirect(target, 303)), browser)

    def logout(self) -> ResponseReturnValue:
        """End the session, here and in the browser."""
        self._sessions.end(session.get("id", ""))
        _renew_session()
        return redirect("/login" if self._access.password_hash else "/", 303)

    # Around every request.

    def _admit(self) -> ResponseReturnValue | None:
        refusal = self._refusal()
        if refusal is not None:
            return refusal
        if (request.content_length or 0) > (current_app.config["MAX_CONTENT_LENGTH"] or 0):
            raise RequestEntityTooLarge
        by_token = self._has_token()
        g.authenticated = by_token or self._open or self._sessions.touch(session.get("id", ""))
        if not g.authenticated and request.path not in _PUBLIC and request.endpoint != "static":
            return _turn_away()
        if not by_token:
            self._csrf.protect()
        return None

    def _refusal(self) -> Response | None:
        """Refuse what cannot be meant for us. The answer says nothing about the relay."""
        if not self._hosts.allows(_host()):
            return _refuse(
                400,
                "The console does not answer to this name. Open it by its IP address"
                " or host name, or set RELAY_WEB_URL to the address you use.",
            )
        if not self._open:
            return None
        if not is_loopback(request.remote_addr or ""):
            return _refuse(403, "Without RELAY_WEB_PASSWORD the console is for this machine only.")
        if any(name in request.headers for name in _FORWARDED):
            return _refuse(403, "Behind a proxy the console needs RELAY_WEB_PASSWORD.")
        return None

    def _has_token(self) -> bool:
        """Whether the request brings the right bearer token (RFC 6750 2.1).

        Raises:
            Unauthorized: it brings a wrong one.
        """
        scheme, _space, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not is_for_programs(request.path):
            return False
        digest = hashlib.sha256(given.strip().encode()).digest()
        if not (self._access.token and hmac.compare_digest(digest, self._token_digest)):
            raise _unauthorized('Bearer realm="smtp-relay", error="invalid_token"')
        return True

    def _https(self) -> bool:
        """Whether the browser came by https, as far as we can know behind a proxy."""
        public = self._access.url.startswith("https:") and self._hosts.is_public(_host())
        return request.is_secure or public

    def _context(self) -> dict[str, bool]:
        return {"authenticated": authenticated(), "password_configured": not self._open}

    # Who guesses.

    def _guesser(self) -> tuple[str, str]:
        """Whose attempt this is, for the throttle, and the browser's id if it has logged in before."""
        cookie = request.cookies.get(_BROWSER_COOKIE, "")
        try:
            browser = str(self._browsers.loads(cookie, max_age=_BROWSER_AGE))
        except BadData:
            return f"network {network_of(request.remote_addr or '')}", ""
        return f"browser {browser}", browser

    def _remember_browser(self, response: Response, browser: str) -> Response:
        response.set_cookie(
            _BROWSER_COOKIE,
            str(self._browsers.dumps(browser or token_urlsafe(16))),
            max_age=_BROWSER_AGE,
            path="/login",
            httponly=True,
            secure=self._https(),
            samesite="Lax",
        )
        return response


def _host() -> str:
    """The Host field as it came. Werkzeug would put SERVER_NAME in the place of a missing one."""
    field: str = request.environ.get("HTTP_HOST", "")
    return field


class _SessionCookies(SecureCookieSessionInterface):
    """Flask's signed cookies, marked Secure when this request came by https."""

    def __init__(self, https: Callable[[], bool]) -> None:
        self._https = https

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002
        return self._https()


def _login_page(error: str, target: str, status: int, *, wait: float = 0.0) -> Response:
    seconds = ceil(wait)
    response = make_response(render_template("login.html", error=error, next=target, wait=seconds), status)
    if seconds:
        response.headers["Retry-After"] = str(seconds)
    return response


def _renew_session() -> None:
    """Forget what was known before: an id or a CSRF token that somebody planted is worth nothing."""
    kept = {key: session[key] for key in _KEPT if key in session}
    session.clear()
    session.update(kept)


def _verify(password_hash: str, password: str) -> bool:
    try:
        return HASHER.verify(password_hash, password.encode("utf-8", "surrogateescape"))
    except argon2.exceptions.VerifyMismatchError:
        return False


def local(target: str) -> str:
    """A path of ours to go on to, or "/": never another site (open redirect)."""
    return target if _LOCAL.fullmatch(target) else "/"


def _turn_away() -> ResponseReturnValue:
    if is_for_programs(request.path):
        raise _unauthorized('Bearer realm="smtp-relay"')
    if request.method not in {"GET", "HEAD"}:
        return redirect("/login", 303)
    target = request.full_path if request.query_string else request.path
    return redirect(f"/login?{urlencode({'next': target})}", 303)


def is_for_programs(path: str) -> bool:
    """Whether programs ask for this path: they get problems (RFC 9457) instead of pages and redirects."""
    return path.startswith("/api/") or path in {"/metrics", "/readyz"}


def _unauthorized(challenge: str) -> Unauthorized:
    return Unauthorized(
        "Send the token: `Authorization: Bearer ...` (RELAY_WEB_TOKEN), or log in.",
        www_authenticate=WWWAuthenticate.from_header(challenge),
    )


def _refuse(status: int, text: str) -> Response:
    return Response(f"{text}\n", status, content_type="text/plain; charset=utf-8")


def _protect(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers[name] = value
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response
