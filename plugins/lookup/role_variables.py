"""The variables that our roles have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = r"""
name: role_variables
short_description: Names of the arguments of each role in a directory
description:
  - Reads C(meta/argument_specs.yml) of each role, and returns the names of the options of all its entry
    points.
options:
  _terms:
    description: Directories with roles in them, absolute or as seen from the playbook's.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Report what can be set
  ansible.builtin.debug:
    msg: "{{ lookup('role_variables', '../roles').image }}"
"""

RETURN = r"""
_raw:
  description: For each directory a mapping of the roles' names to their arguments, in order.
  type: list
  elements: dict
"""


class LookupModule(LookupBase):  # type: ignore[misc]
    """See DOCUMENTATION."""

    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[dict[str, list[str]]]:
        self.set_options(var_options=variables, direct=kwargs)
        return [_roles(Path(self._loader.path_dwim(term))) for term in terms]


def _roles(directory: Path) -> dict[str, list[str]]:
    files = sorted(directory.glob("*/meta/argument_specs.yml"))
    if not files:
        raise AnsibleLookupError(f"No role in {directory} has meta/argument_specs.yml. Are the roles there?")
    return {file.parent.parent.name: _arguments(file) for file in files}


def _arguments(file: Path) -> list[str]:
    try:
        specs = yaml.safe_load(file.read_text("utf-8"))["argument_specs"]
        return sorted({name for entry in specs.values() for name in entry.get("options") or {}})
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise AnsibleLookupError(f"{file} is not a file of argument specs: {error!r}") from error
