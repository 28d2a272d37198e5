# The action plugin of the same name does all of it, on the controller. This file is its documentation.

from __future__ import annotations

DOCUMENTATION = r"""
module: host_file
short_description: A file or directory on a host that has no Python
description:
  - Puts a file on the host in one step, makes a directory, or removes either, with nothing but the host's
    shell and its C(stat), C(sha256sum), C(sync), C(mv), C(chown) and C(chmod). GNU's and busybox's will do.
  - The content travels over standard input of one command. It is never among a process's arguments, never
    readable to others on its way, and never half written, for it is written beside its place, put on the
    disk, validated, and moved there.
  - What an interrupted run has left behind beside the file is removed by the next one.
  - It works through any connection that passes standard input on (ssh, local, community.docker.docker),
    and with C(become_method=sudo).
author: The smtp-relay project
options:
  path:
    description: Where it is on the host. Absolute, without C(.) and C(..), and not a symbolic link.
    type: str
    required: true
  state:
    description:
      - V(file) needs O(content) or O(src).
      - V(absent) removes a directory with all that is in it. It refuses to where too much may be in it that
        is not ours (a path of fewer than three parts, or four below /mnt and /boot, and some of the system's
        own), and where something is mounted in it.
    type: str
    choices: [file, directory, absent]
    default: file
  content:
    description: What the file holds. Text; what else it may be must go through a filter first.
    type: raw
  src:
    description:
      - A file on the controller with what the file holds, octet by octet. A vaulted one is decrypted.
      - A relative one is looked for as M(ansible.builtin.copy) does, in C(files) of the role first.
    type: path
  mode:
    description:
      - Octal digits as a string, such as V("0400"). Without it, what is there keeps its mode,
        a new file gets 0600 and a new directory 0755.
      - Leave it out where modes cannot be set, on FAT such as Unraid's /boot.
    type: raw
  owner:
    description: A number (as a string) or a name. Without it, the owner stays; leave it out on FAT.
    type: raw
  group:
    description: A number (as a string) or a name. Without it, the group stays; leave it out on FAT.
    type: raw
  validate:
    description:
      - A command that is run on the host before the file takes its place, with the name of the new file
        where C(%s) is, which must not be in quotes.
      - If it fails, nothing changes, and what it said is in the message (unless O(sensitive)).
    type: str
  sensitive:
    description: Show the content nowhere, not in the diff either. C(no_log) on the task implies it.
    type: bool
    default: false
  create_parents:
    description:
      - Make the missing directories above. If that is not wanted, a missing one is an error,
        for a file that is written into the place of a disk that is not mounted is lost.
      - The default is true for O(state=directory) and false for O(state=file).
    type: bool
attributes:
  check_mode:
    description: Full. A directory that is missing is no error then, for an earlier task may have said it
      would make it.
    support: full
  diff_mode:
    description: Full.
    support: full
notes:
  - A file is always replaced, never changed in place. Mount its directory into a container, not the file
    itself.
"""

EXAMPLES = r"""
- name: Ensure the directory for secrets is present
  host_file:
    path: /mnt/user/appdata/smtp-relay/secrets
    state: directory
    mode: "0700"
    owner: "99"
    group: "100"

- name: Ensure a secret is in its file
  host_file:
    path: /mnt/user/appdata/smtp-relay/secrets/relay_password
    content: "{{ relay_password }}"
    mode: "0400"
    owner: "99"
    group: "100"
  no_log: true

- name: Ensure the template is on the boot device, which has no modes
  host_file:
    path: /boot/config/plugins/dockerMan/templates-user/my-smtp-relay.xml
    content: "{{ lookup('ansible.builtin.template', 'template.xml.j2') }}"
    create_parents: true

- name: Ensure the directory is absent
  host_file:
    path: /mnt/user/appdata/smtp-relay
    state: absent
"""

RETURN = r"""
path:
  description: The path, tidied.
  returned: success
  type: str
  sample: /mnt/user/appdata/smtp-relay/relay.toml
checksum:
  description: SHA-256 of the content.
  returned: O(state=file), unless sensitive
  type: str
diff:
  description: What changed, for C(--diff).
  returned: changed
  type: list
  elements: dict
"""
