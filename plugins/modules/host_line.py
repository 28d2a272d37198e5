# The action plugin of the same name does all of it, on the controller. This file is its documentation.

from __future__ import annotations

DOCUMENTATION = r"""
module: host_line
short_description: One line of a file that others write as well, on a host that has no Python
description:
  - Keeps one line in a small text file on the host, or out of it. Every other line stays as it is, octet
    by octet.
  - The file is read, and replaced in one step, if nobody else has written meanwhile; otherwise it begins
    anew, some times.
  - It needs on the host what M(host_file) needs.
author: The smtp-relay project
options:
  path:
    description: The file on the host. Absolute, without C(.) and C(..), and not a symbolic link.
    type: str
    required: true
  match:
    description:
      - A regular expression of Python that finds our line, in each form that it may have. It sees a line
        without its end.
      - The first line that it finds is replaced in its place; any more are removed.
    type: str
    required: true
  line:
    description: The line, without its end. O(match) must find it. Needed for O(state=present).
    type: str
  state:
    description: Whether the line is there. A new one goes to the end.
    type: str
    choices: [present, absent]
    default: present
  remove_empty:
    description: Remove the file when its last line goes.
    type: bool
    default: false
  create:
    description: Make the file if it is not there, with mode 0600. If false, that is an error.
    type: bool
    default: true
attributes:
  check_mode:
    description: Full. A directory that is missing is no error then, for an earlier task may have said it
      would make it.
    support: full
  diff_mode:
    description: Full.
    support: full
"""

EXAMPLES = r"""
- name: Ensure the relay starts with the array, and the next container five seconds after it
  host_line:
    path: /var/lib/docker/unraid-autostart
    match: '^smtp-relay(\s|$)'
    line: smtp-relay 5

- name: Ensure the relay does not start with the array
  host_line:
    path: /var/lib/docker/unraid-autostart
    match: '^smtp-relay(\s|$)'
    state: absent
    remove_empty: true
"""

RETURN = r"""
path:
  description: The path, tidied.
  returned: success
  type: str
  sample: /var/lib/docker/unraid-autostart
diff:
  description: The file before and after, for C(--diff).
  returned: changed
  type: dict
"""
