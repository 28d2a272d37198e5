"""Everything in the console as JSON, under /api/v1/. `openapi` describes it, `security` guards it."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from enum import Enum
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import (
    BadRequest,
    Conflict,
    HTTPException,
    NotFound,
    UnprocessableEntity,
    UnsupportedMediaType,
)

from relay_app.console import openapi, pages, schema
from relay_app.console.backend import Backend, DeviceView, MailboxView, RequestError, SignInKind, SignInView
from relay_app.settings import ForeignFrom

blueprint = Blueprint("api", __name__, url_prefix="/api/v1")


class InvalidInput(UnprocessableEntity):
    """The input is not as described. `errors`: JSON pointers or parameters, and what is wrong there."""

    description = "The input is not as described in /api/v1/openapi.json."

    def __init__(self, errors: Iterable[tuple[str, str]]) -> None:
        self.errors = [{"pointer": pointer, "detail": detail} for pointer, detail in errors]
        super().__init__()


def describe(response: Response, error: HTTPException) -> None:
    """Turn the response to an error into a problem (RFC 9457). Our own words only."""
    status = response.status_code
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.description or "",
    }
    if isinstance(error, InvalidInput):
        problem["errors"] = error.errors
    response.set_data(json.dumps(problem))
    response.content_type = "application/problem+json"


@blueprint.get("/openapi.json")
def description() -> Response:
    return _answer(openapi.document())


@blueprint.get("/relay")
def relay() -> Response:
    return _answer(_backend().relay())


@blueprint.get("/mailboxes")
def mailboxes() -> Response:
    return _answer({"mailboxes": _backend().mailboxes()})


@blueprint.get("/mailboxes/<address>")
def mailbox(address: str) -> Response:
    return _answer(_mailbox(address))


@blueprint.post("/mailboxes/<address>/retry")
def retry(address: str) -> Response:
    return _answer(_backend().retry(_mailbox(address).address))


@blueprint.get("/devices")
def devices() -> Response:
    return _answer({"devices": _backend().devices()})


@blueprint.post("/devices")
def create_device() -> Response:
    body = _body(openapi.NEW_DEVICE)
    made = _backend().create_device(
        name=body["name"],
        mailbox=body["mailbox"].lower(),
        senders=[sender.lower() for sender in body.get("senders", [])],
        foreign_from=body.get("foreign_from", ForeignFrom.REFUSE.value),
        hourly_messages=body.get("hourly_messages", 0),
    )
    answer = _answer({"device": _device(made.device.name), "password": made.password}, 201)
    answer.headers["Location"] = f"/api/v1/devices/{quote(made.device.name, safe='')}"
    return answer


@blueprint.delete("/devices/<name>")
def revoke_device(name: str) -> Response:
    _backend().revoke_device(_device(name).name)
    return Response(status=204)


@blueprint.get("/messages")
def messages() -> Response:
    text, limit = _search_parameters()
    backend = _backend()
    return _answer({"messages": backend.find(text, limit) if text else backend.recent(limit)})


@blueprint.get("/messages/<id>")
def message(id: str) -> Response:
    try:
        return _answer(_backend().message(id))
    except RequestError as error:
        raise NotFound(str(error)) from error


@blueprint.get("/hours")
def hours() -> Response:
    return _answer({"hours": _backend().hours()})


@blueprint.post("/sign-ins")
def begin_sign_in() -> Response:
    body = _body(openapi.NEW_SIGN_IN)
    redirect_uri = body.get("redirect_uri") or pages.redirect_uri()
    view = _backend().begin_sign_in(body["mailbox"].lower(), SignInKind(body["kind"]), redirect_uri)
    answer = _answer(view, 201)
    answer.headers["Location"] = f"/api/v1/sign-ins/{quote(view.id, safe='')}"
    return answer


@blueprint.get("/sign-ins/<id>")
def sign_in(id: str) -> Response:
    return _answer(_sign_in(id))


@blueprint.post("/sign-ins/<id>/paste")
def paste(id: str) -> Response:
    body = _body(openapi.PASTE)
    return _answer(_backend().pasted(_sign_in(id).id, body["address"]))


@blueprint.post("/sign-ins/<id>/confirm")
def confirm(id: str) -> Response:
    return _answer(_backend().confirm(_sign_in(id).id))


@blueprint.errorhandler(RequestError)
def _cannot(error: RequestError) -> Response:
    problem = Conflict(str(error))  # its text is for people
    response = Response(status=409)
    describe(response, problem)
    return response


def _backend() -> Backend:
    backend: Backend = current_app.extensions["relay"]
    return backend


def _mailbox(address: str) -> MailboxView:
    for each in _backend().mailboxes():
        if each.address == address.lower():
            return each
    raise NotFound("There is no such mailbox.")


def _device(name: str) -> DeviceView:
    for each in _backend().devices():
        if each.name == name:
            return each
    raise NotFound("There is no such device.")


def _sign_in(id: str) -> SignInView:
    try:
        return _backend().sign_in(id)
    except RequestError as error:
        raise NotFound(str(error)) from error


# Input.


def _body(expected: schema.Schema) -> dict[str, Any]:
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("Send application/json.")
    try:
        body = json.loads(request.get_data(), parse_float=_number)
        json.dumps(body, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise BadRequest("The body is not JSON.") from error
    _check(schema.problems(body, expected))
    checked: dict[str, Any] = body
    return checked


def _number(text: str) -> int | float:
    """JSON Schema calls 1.0 an integer, too."""
    number = float(text)
    return int(number) if number.is_integer() else number


def _search_parameters() -> tuple[str, int]:
    text = request.args.get("q", "")
    limit = request.args.get("limit", str(openapi.DEFAULT_LIMIT))
    number: object = int(limit) if re.fullmatch("-?[0-9]{1,9}", limit) else limit
    _check([*schema.problems(text, openapi.SEARCH, "q"), *schema.problems(number, openapi.LIMIT, "limit")])
    assert isinstance(number, int)
    return text.strip(), number


def _check(problems: Iterable[tuple[str, str]]) -> None:
    found = list(problems)
    if found:
        raise InvalidInput(found[:20])


# Output.


def _answer(value: object, status: int = 200) -> Response:
    return Response(json.dumps(value, default=_plain), status, content_type="application/json")


def _plain(value: object) -> object:
    """What `json` does not know: the views, their times and enumerations."""
    if is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"no JSON for {type(value).__name__}")
