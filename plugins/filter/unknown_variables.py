"""Variables that nobody reads, because their names are not quite right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: unknown_variables
short_description: Variables of ours that no role knows
description:
  - Looks at the names that begin as ours do, and returns a sentence on each that no role has among its
    arguments.
positional: known, prefixes
options:
  _input:
    description: The names of a host's variables, or a mapping with these names.
    type: raw
    required: true
  known:
    description: The names that there are.
    type: list
    elements: str
    required: true
  prefixes:
    description: What our names begin with. Others are not looked at.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Refuse what nobody reads
  ansible.builtin.assert:
    that: __unknown | length == 0
    fail_msg: "{{ __unknown | join('\n') }}"
  vars:
    __names: "{{ lookup('ansible.builtin.varnames', '^(relay|image)_', wantlist=true) }}"
    __known: "{{ lookup('role_variables', '../roles', wantlist=true) }}"
    __unknown: "{{ __names | unknown_variables(__known, ['relay_', 'image_']) }}"
"""

RETURN = r"""
_value:
  description: Sentences, in the order of the names.
  type: list
  elements: str
"""

_ALIKE = 0.75


class FilterModule:
    """See DOCUMENTATION."""

    def filters(self) -> dict[str, Any]:
        return {"unknown_variables": unknown_variables}


def unknown_variables(names: Iterable[str], known: Iterable[str], prefixes: Iterable[str]) -> list[str]:
    """Return a sentence on each name that begins with a prefix and is not known."""
    for argument, value in (("known", known), ("prefixes", prefixes)):
        if isinstance(value, str):
            raise AnsibleFilterError(f"unknown_variables: {argument} is {value!r}. It must be a list.")
    there_are = sorted(known)
    ours = tuple(prefixes)
    unknown = sorted(name for name in {*names} - {*there_are} if name.startswith(ours))
    return [f"{name}: there is no such variable.{_meant(name, there_are)}" for name in unknown]


def _meant(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE)
    return f" Did you mean {close[0]}?" if close else ""
