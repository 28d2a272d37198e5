"""What the API is, as OpenAPI 3.1. `api` checks its input with the schemas here."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from relay_app.console import schema
from relay_app.console.backend import (
    AttemptView,
    DeviceView,
    HourCount,
    MailboxView,
    MessageView,
    Notice,
    RelayView,
    SignInKind,
    SignInView,
)
from relay_app.settings import ForeignFrom

_Json = dict[str, Any]
_VIEWS = (
    AttemptView,
    DeviceView,
    HourCount,
    MailboxView,
    MessageView,
    Notice,
    RelayView,
    SignInView,
)

_ADDRESS: _Json = {
    "type": "string",
    "pattern": "^[!-?A-~]{1,64}@[!-?A-~]{1,189}$",
    "maxLength": 254,
    "description": "an e-mail address",
}
_NAME: _Json = {
    "type": "string",
    "pattern": "^[A-Za-z0-9]([A-Za-z0-9@._+ -]{0,98}[A-Za-z0-9])?$",
    "maxLength": 100,
    "description": "1 to 100 letters, digits, or characters of @._+- and space within",
}
_SENDER: _Json = {
    "type": "string",
    "pattern": "^([*]|[A-Za-z0-9.!#$%&'+/=?^_`{|}~-]{1,64})@[A-Za-z0-9.-]{1,189}$",
    "maxLength": 254,
    "description": "an address, or *@domain",
}
_URL: _Json = {
    "type": "string",
    "pattern": "^https?://[!-~]{1,8000}$",
    "maxLength": 8008,
    "description": "an address that begins with http:// or https://",
}

NEW_DEVICE: _Json = {
    "type": "object",
    "properties": {
        "name": _NAME,
        "mailbox": _ADDRESS,
        "senders": {"type": "array", "items": _SENDER, "maxItems": 100},
        "foreign_from": {"type": "string", "enum": [each.value for each in ForeignFrom]},
        "hourly_messages": {"type": "integer", "minimum": 0, "maximum": 10_000},
    },
    "required": ["name", "mailbox"],
    "additionalProperties": False,
}
NEW_SIGN_IN: _Json = {
    "type": "object",
    "properties": {
        "mailbox": _ADDRESS,
        "kind": {"type": "string", "enum": [each.value for each in SignInKind]},
        "redirect_uri": _URL,
    },
    "required": ["mailbox", "kind"],
    "additionalProperties": False,
}
PASTE: _Json = {
    "type": "object",
    "properties": {"address": _URL},
    "required": ["address"],
    "additionalProperties": False,
}
SEARCH: _Json = {
    "type": "string",
    "pattern": "^[^\\u0000-\\u001f\\u007f]*$",
    "maxLength": 300,
    "description": "a text without control characters",
}
LIMIT: _Json = {"type": "integer", "minimum": 1, "maximum": 500}
DEFAULT_LIMIT = 50

_PROBLEM: _Json = {  # RFC 9457
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
                "required": ["pointer", "detail"],
            },
        },
    },
    "required": ["type", "title", "status", "detail"],
}
_MADE_DEVICE: _Json = {
    "type": "object",
    "properties": {"device": schema.reference(DeviceView), "password": {"type": "string"}},
    "required": ["device", "password"],
    "additionalProperties": False,
}
_REASONS = {
    "400": "The body is not JSON, or there is no CSRF token",
    "401": "No token, a wrong one, or no session",
    "404": "There is no such thing",
    "405": "Not with this method",
    "409": "It cannot be done at the moment",
    "413": "The body is too large",
    "415": "The body is not application/json",
    "422": "The input is not as described",
    "500": "A defect: the log has it",
}


@cache
def document() -> _Json:
    """The whole description."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "smtp-relay",
            "version": "1",
            "description": "The console's API. Programs send RELAY_WEB_TOKEN as bearer token; a page of the "
            "console uses its session and, to change something, the X-CSRFToken header.",
        },
        "servers": [{"url": "/api/v1"}],
        "security": [{"token": []}, {"session": []}],
        "paths": _with_ids(_paths()),
        "components": {
            "schemas": {kind.__name__: schema.of(kind) for kind in _VIEWS}
            | {"NewDevice": NEW_DEVICE, "MadeDevice": _MADE_DEVICE, "NewSignIn": NEW_SIGN_IN}
            | {"Paste": PASTE, "Problem": _PROBLEM},
            "responses": {code: _problem_response(text) for code, text in _REASONS.items()},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "smtp_relay_session"},
            },
        },
    }


def _paths() -> _Json:
    mailbox, device = _path("address", "The mailbox's address"), _path("name", "The device's name")
    message, sign_in = _path("id", "The message's id"), _path("id", "The sign-in's id")
    return {
        "/openapi.json": {"get": _get("This description", {"type": "object"})},
        "/relay": {"get": _get("The relay as clients see it", schema.reference(RelayView))},
        "/mailboxes": {"get": _get("All mailboxes", _list("mailboxes", MailboxView))},
        "/mailboxes/{address}": {
            "parameters": [mailbox],
            "get": _get("One mailbox", schema.reference(MailboxView), "404"),
        },
        "/mailboxes/{address}/retry": {
            "parameters": [mailbox],
            "post": _operation(
                "Ask Microsoft for a token now", _ok(schema.reference(MailboxView)), "400", "404", "409"
            ),
        },
        "/devices": {
            "get": _get("All devices", _list("devices", DeviceView)),
            "post": _post("Make a device. Its password is in the answer, and never again", "NewDevice")
            | {"responses": _made("MadeDevice")},
        },
        "/devices/{name}": {
            "parameters": [device],
            "delete": _operation(
                "Revoke a device", {"204": {"description": "It is gone"}}, "400", "404", "409"
            ),
        },
        "/messages": {
            "get": _get("The latest messages, or those found", _list("messages", MessageView), "422")
            | {"parameters": _search()}
        },
        "/messages/{id}": {
            "parameters": [message],
            "get": _get("One message", schema.reference(MessageView), "404"),
        },
        "/hours": {"get": _get("The last 24 hours", _list("hours", HourCount))},
        "/sign-ins": {
            "post": _post("Begin a sign-in", "NewSignIn")
            | {"responses": _made("SignInView", "get_sign_ins_id", "post_sign_ins_id_paste")}
        },
        "/sign-ins/{id}": {
            "parameters": [sign_in],
            "get": _get("A sign-in", schema.reference(SignInView), "404"),
        },
        "/sign-ins/{id}/paste": {
            "parameters": [sign_in],
            "post": _post("Complete a sign-in with the address that the browser ended up on", "Paste")
            | {"responses": _ok(schema.reference(SignInView)) | _problems(*_FOR_BODY, "404")},
        },
        "/sign-ins/{id}/confirm": {
            "parameters": [sign_in],
            "post": _operation(
                "Store a sign-in although another account has signed in",
                _ok(schema.reference(SignInView)),
                "400",
                "404",
                "409",
            ),
        },
    }


def _with_ids(paths: _Json) -> _Json:
    """Name each operation after its method and path: post_sign_ins_id_paste."""
    for path, item in paths.items():
        for method in item.keys() - {"parameters"}:
            item[method]["operationId"] = "_".join(re.findall("[a-z]+", f"{method} {path}"))
    return paths


_FOR_BODY = ("400", "409", "413", "415", "422")


def _get(summary: str, content: Mapping[str, Any], *codes: str) -> _Json:
    return _operation(summary, _ok(content), *codes)


def _post(summary: str, body: str) -> _Json:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{body}"}}}
    return {"summary": summary, "requestBody": {"required": True, "content": content}}


def _made(name: str, *operations: str) -> _Json:
    """`operations`: what can be done with what was made."""
    made = _ok({"$ref": f"#/components/schemas/{name}"})["200"]
    made["headers"] = {"Location": {"schema": {"type": "string"}, "required": True}}
    made["links"] = {
        each: {"operationId": each, "parameters": {"id": "$response.body#/id"}} for each in operations
    }
    return {"201": made} | _problems(*_FOR_BODY)


def _operation(summary: str, responses: _Json, *codes: str) -> _Json:
    return {"summary": summary, "responses": responses | _problems(*codes)}


def _ok(content: Mapping[str, Any]) -> _Json:
    return {"200": {"description": "Done", "content": {"application/json": {"schema": content}}}}


def _problems(*codes: str) -> _Json:
    # A defect is in every operation's answers, so that clients know its shape.
    return {code: {"$ref": f"#/components/responses/{code}"} for code in (*codes, "401", "405", "500")}


def _problem_response(text: str) -> _Json:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": text, "content": content}


def _list(name: str, kind: type) -> _Json:
    items = {"type": "array", "items": schema.reference(kind)}
    return {
        "type": "object",
        "properties": {name: items},
        "required": [name],
        "additionalProperties": False,
    }


def _path(name: str, description: str) -> _Json:
    text = {"type": "string", "minLength": 1, "maxLength": 300}
    return {"name": name, "in": "path", "required": True, "description": description, "schema": text}


def _search() -> list[_Json]:
    return [
        {
            "name": "q",
            "in": "query",
            "schema": SEARCH,
            "description": "Our id, a Message-ID, or an address or part of one",
        },
        {"name": "limit", "in": "query", "schema": LIMIT | {"default": DEFAULT_LIMIT}},
    ]
