"""The part of JSON Schema (draft 2020-12) that the API uses: made from dataclasses, and checked against.

One schema serves as description and as check, so that they cannot differ.
"""

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import date, datetime
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

Schema = Mapping[str, Any]
_TYPES: Mapping[str, type] = {"object": dict, "array": list, "string": str, "integer": int}
_SCALARS: Mapping[object, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    datetime: {"type": "string", "format": "date-time"},
    date: {"type": "string", "format": "date"},
}


def of(kind: type) -> dict[str, Any]:
    """The schema of a dataclass's JSON. Other dataclasses in it are `#/components/schemas/NAME`."""
    hints = get_type_hints(kind)
    names = [each.name for each in fields(kind)]
    return {
        "type": "object",
        "properties": {name: _of_type(hints[name]) for name in names},
        "required": names,
        "additionalProperties": False,
    }


def reference(kind: type) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _of_type(hint: Any) -> dict[str, Any]:
    if hint in _SCALARS:
        return dict(_SCALARS[hint])
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_of_type(each) for each in arguments]}
    if hint is type(None):
        return {"type": "null"}
    if origin is tuple:
        return {"type": "array", "items": _of_type(arguments[0])}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _of_type(arguments[1])}
    if issubclass(hint, Enum):
        return {"type": "string", "enum": [each.value for each in hint]}
    return reference(hint)


def problems(value: object, schema: Schema, pointer: str = "") -> Iterator[tuple[str, str]]:
    """Say where a value differs from what was asked for: a JSON pointer (RFC 6901), and a sentence.

    Patterns must be anchored with ^ and $.
    """
    kind = schema["type"]
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind == "integer"):
        yield pointer, f"must be {'an' if kind[0] in 'aio' else 'a'} {kind}"
    elif isinstance(value, dict):
        yield from _of_object(value, schema, pointer)
    elif isinstance(value, list):
        if len(value) > schema["maxItems"]:
            yield pointer, f"must have at most {schema['maxItems']} items"
        for number, item in enumerate(value):
            yield from problems(item, schema["items"], f"{pointer}/{number}")
    elif isinstance(value, str):
        yield from _of_string(value, schema, pointer)
    elif isinstance(value, int) and not schema["minimum"] <= value <= schema["maximum"]:
        yield pointer, f"must be from {schema['minimum']} to {schema['maximum']}"


def _of_object(value: Mapping[str, object], schema: Schema, pointer: str) -> Iterator[tuple[str, str]]:
    properties: Mapping[str, Schema] = schema["properties"]
    required: Sequence[str] = schema["required"]
    for name in required:
        if name not in value:
            yield f"{pointer}/{name}", "is missing"
    for name, item in value.items():
        if name in properties:
            yield from problems(item, properties[name], f"{pointer}/{name}")
        else:
            yield pointer, f"has something unknown. There are: {', '.join(properties)}"


def _of_string(value: str, schema: Schema, pointer: str) -> Iterator[tuple[str, str]]:
    if value in schema.get("enum", ()):
        return
    if "enum" in schema:
        yield pointer, f"must be one of {', '.join(schema['enum'])}"
    elif len(value) > schema["maxLength"]:
        yield pointer, f"must have at most {schema['maxLength']} characters"
    elif not re.fullmatch(schema["pattern"].removeprefix("^").removesuffix("$"), value):
        yield pointer, f"must be {schema['description']}"
