"""Variables that nobody reads, because their names are not quite right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: unknown_variables
short_description: Variables of ours that no role knows
description:
  - Looks at the names that begin as a role of ours does, such as C(relay_), and returns a sentence on
    each that no role has among its arguments. Other names are not looked at.
positional: roles
options:
  _input:
    description: The names of a host's variables, or a mapping with these names.
    type: raw
    required: true
  roles:
    description: The roles that there are, each with the names of its arguments.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Ensure every variable is one that a role reads
  ansible.builtin.assert:
    that: __unknown | length == 0
    fail_msg: "{{ __unknown | join('\n') }}"
  vars:
    __names: "{{ hostvars[inventory_hostname] | list }}"
    __unknown: "{{ __names | unknown_variables(lookup('role_variables', '../roles')) }}"
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


def unknown_variables(names: Iterable[str], roles: Mapping[str, Iterable[str]]) -> list[str]:
    """Return a sentence on each name that begins as a role does and is none of the roles' arguments."""
    if not isinstance(roles, Mapping):
        raise AnsibleFilterError(f"unknown_variables: roles is {roles!r}. It must be a mapping.")
    known = sorted({name for arguments in roles.values() for name in arguments})
    ours = tuple(f"{role}_" for role in roles)
    unknown = sorted(name for name in {*names} - {*known} if name.startswith(ours))
    return [f"{name}: there is no such variable.{_meant(name, known)}" for name in unknown]


def _meant(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE)
    return f" Did you mean {close[0]}?" if close else ""
