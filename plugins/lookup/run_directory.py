"""A directory of this run's own, gone when the run ends."""

from __future__ import annotations

from typing import Any

from ansible import constants
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = """
name: run_directory
short_description: A directory of this run's own, on the machine that runs Ansible
description:
  - Returns the path of the directory that Ansible makes when it starts, for its user only (0700), and removes
    when it ends, also after Ctrl-C, but not when it is killed. The lookup C(ansible.builtin.config) cannot
    tell it - it makes a new one each time.
options: {}
"""

EXAMPLES = """
- ansible.builtin.debug:
    msg: "{{ lookup('run_directory') }}"
"""

RETURN = """
_raw:
  description: The path.
  type: list
  elements: path
"""


class LookupModule(LookupBase):  # type: ignore[misc]
    """See DOCUMENTATION."""

    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[str]:  # noqa: ARG002
        return [str(constants.DEFAULT_LOCAL_TMP)]
