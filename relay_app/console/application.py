"""The console as a WSGI application. Imports Flask: `server` imports this with the first request."""

import time
from collections.abc import Callable
from secrets import token_bytes

import structlog
from flask import Flask, Response, current_app, redirect, render_template, request, session
from flask.typing import ResponseReturnValue
from flask_babel import Babel, get_locale
from werkzeug.exceptions import HTTPException, InternalServerError

from relay_app.console import api, pages, security
from relay_app.console.backend import Backend, RequestError
from relay_app.console.catalogue import LANGUAGES

_log = structlog.get_logger()

BODY_LIMIT = 64 * 1024
"""Octets of a request's body."""


def _(text: str) -> str:
    """Mark a text for translation; the template translates it."""
    return text


# What went wrong -> what error.html says: a title, and what to do.
_ERRORS = {
    400: (_("This request cannot be used"), _("Go back, reload the page, and try again.")),
    403: (_("Not allowed"), _("This request is not allowed.")),
    404: (_("Not found"), _("There is no such page. It may have been removed.")),
    405: (_("This request cannot be used"), _("Go back, reload the page, and try again.")),
    409: (_("That did not work"), ""),
    413: (_("Too much data"), _("The form has too much text. Shorten it and try again.")),
    429: (_("Too many attempts"), _("Wait a little, then try again.")),
    500: (_("Something went wrong here"), _("The log has the details. Try again; if it stays, report it.")),
}


def create_app(
    backend: Backend, access: security.Access, *, clock: Callable[[], float] = time.monotonic
) -> Flask:
    """Build the application.

    Views find the relay in `current_app.extensions["relay"]`, and `RELAY_WEB_URL` in the setting CONSOLE_URL.
    All templates have `authenticated` and `password_configured`; `login.html` has error, next, wait
    (seconds), `error.html` status, title, text.
    """
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY=token_bytes(32),  # a restart logs everybody out; nothing to steal from the disk
        MAX_CONTENT_LENGTH=BODY_LIMIT,
        MAX_FORM_MEMORY_SIZE=BODY_LIMIT,
        MAX_FORM_PARTS=200,
    )
    app.config["CONSOLE_URL"] = access.url
    app.extensions["relay"] = backend
    Babel(app, locale_selector=_language)
    app.jinja_env.globals["get_locale"] = get_locale
    app.register_blueprint(pages.blueprint)  # before the gate, whose refusals are pages, too
    security.Gate(access, clock).init_app(app)
    app.register_blueprint(api.blueprint)
    app.add_url_rule("/set-language", view_func=set_language, methods=["POST"])
    app.add_url_rule("/healthz", view_func=healthz)
    app.add_url_rule("/readyz", view_func=readyz)
    app.add_url_rule("/metrics", view_func=metrics)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(RequestError, _request_error)
    app.register_error_handler(Exception, _crash)
    return app


def _language() -> str:
    chosen = str(session.get("language", ""))
    if chosen in LANGUAGES:
        return chosen
    return request.accept_languages.best_match(LANGUAGES, LANGUAGES[0])


def set_language() -> ResponseReturnValue:
    """Remember the language for this session."""
    language = request.form.get("language", "")
    if language in LANGUAGES:
        session["language"] = language
    return redirect(security.local(request.form.get("next", "")), 303)


def healthz() -> Response:
    """The console answers. Says nothing about Microsoft: a restart would not help there."""
    return _text("ok\n")


def readyz() -> Response:
    """Whether mail can be sent at the moment. The reasons name mailboxes: only for those who may see them."""
    reasons = _backend().ready()
    if not reasons:
        return _text("ok\n")
    told = reasons if security.authenticated() else ["Log in, or send the token, to see why."]
    return _text("".join(f"{line}\n" for line in ["not ready", *told]), 503)


def metrics() -> Response:
    """Prometheus text format 0.0.4."""
    return Response(_backend().metrics(), content_type="text/plain; version=0.0.4; charset=utf-8")


def _backend() -> Backend:
    backend: Backend = current_app.extensions["relay"]
    return backend


def _text(text: str, status: int = 200) -> Response:
    return Response(text, status, content_type="text/plain; charset=utf-8")


def _http_error(error: HTTPException) -> ResponseReturnValue:
    status = error.code or 500
    response = Response(status=status, headers=error.get_headers())  # Allow, Retry-After, WWW-Authenticate
    if security.is_for_programs(request.path):
        api.describe(response, error)
    else:
        title, text = _ERRORS.get(status, _ERRORS[400 if status < 500 else 500])
        _describe(response, title, text)
    return response


def _request_error(error: RequestError) -> ResponseReturnValue:
    response = Response(status=409)
    _describe(response, _ERRORS[409][0], str(error))  # its text is for people
    return response


def _crash(error: Exception) -> ResponseReturnValue:
    _log.error("console_failed", endpoint=request.endpoint, method=request.method, exc_info=error)
    return _http_error(InternalServerError())


def _describe(response: Response, title: str, text: str) -> None:
    """Turn a response into a small page. Must work when nothing else does."""
    status = response.status_code
    try:
        response.set_data(render_template("error.html", status=status, title=title, text=text))
    except Exception:
        _log.exception("console_error_page_failed", status=status)
        response.set_data(f"{title}. {text}\n")
        response.content_type = "text/plain; charset=utf-8"
    else:
        response.content_type = "text/html; charset=utf-8"
