# The action plugin of the same name does all of it, on the controller. This file is its documentation.

from __future__ import annotations

DOCUMENTATION = r"""
module: single_run
short_description: Refuse two runs at once
description:
  - Writes into a file on the controller which run of C(ansible-playbook) is at work, and fails if another
    one that is written there is still running. The same run may take it any number of times.
  - Nothing gives it back. A run that has ended, in whatever way, holds nothing.
  - It keeps apart the runs on one controller, not those of two.
author: The smtp-relay project
options:
  path:
    description: The file. Absolute. It may stay where it is; its directory is made.
    type: path
    required: true
attributes:
  check_mode:
    description: Takes it as well, for a check beside a run that changes things would not tell the truth.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Ensure this is the only run on this inventory
  single_run:
    path: "{{ inventory_dir }}/.run"
  run_once: true
"""

RETURN = r"""
pid:
  description: The process that holds it, which is this run.
  returned: success
  type: int
"""
