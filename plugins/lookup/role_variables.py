"""The variables that our roles have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = r"""
name: role_variables
short_description: Names of all arguments of all roles in a directory
description:
  - Reads C(meta/argument_specs.yml) of each role, and returns the names of the options of all entry points.
options:
  _terms:
    description: Directories with roles in them, absolute or as seen from the playbook's.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Tell what can be set
  ansible.builtin.debug:
    msg: "{{ lookup('role_variables', '../roles', wantlist=true) }}"
"""

RETURN = r"""
_raw:
  description: The names, in order.
  type: list
  elements: str
"""


class LookupModule(LookupBase):  # type: ignore[misc]
    """See DOCUMENTATION."""

    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        return sorted({name for term in terms for name in _names(Path(self._loader.path_dwim(term)))})


def _names(directory: Path) -> set[str]:
    files = sorted(directory.glob("*/meta/argument_specs.yml"))
    if not files:
        raise AnsibleLookupError(f"No role in {directory} has meta/argument_specs.yml. Are the roles there?")
    names: set[str] = set()
    for file in files:
        try:
            specs = yaml.safe_load(file.read_text("utf-8"))["argument_specs"]
            names |= {name for entry in specs.values() for name in entry.get("options") or {}}
        except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
            raise AnsibleLookupError(f"{file} is not a file of argument specs: {error!r}") from error
    return names
