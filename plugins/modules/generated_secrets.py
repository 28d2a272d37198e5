# The action plugin of the same name does all of it, on the controller. This file is its documentation.

from __future__ import annotations

DOCUMENTATION = r"""
module: generated_secrets
short_description: Secrets that are made once, and kept in a vaulted file on the controller
description:
  - Makes the secrets that are missing, writes them to a YAML file that is encrypted with the vault
    password that Ansible has, and returns all that is in that file.
  - It runs on the controller alone, whatever host the task is for.
  - Its result is hidden at every verbosity, as with C(no_log); what it registers is complete. What its
    failures say holds no secret.
author: The smtp-relay project
options:
  path:
    description:
      - The file on the controller. Absolute.
      - It is made with mode 0600, in a directory of mode 0700, and always replaced in one step. Comments
        in it are lost then.
      - A file that was encrypted with another password, one that is not encrypted, and one that is not a
        flat mapping of names to texts are errors, and stay as they are.
    type: path
    required: true
  secrets:
    description:
      - Names, and of what kind each is. One that is in the file already is kept.
      - V(password) is 20 characters (100 bits) that nobody confuses and every device can type; V(token) is
        43 url-safe characters (256 bits); V(fernet_key) is 32 octets in url-safe base64.
    type: dict
    default: {}
  renew:
    description: Names out of O(secrets) that are made anew.
    type: list
    elements: str
    default: []
  values:
    description: Names and values to set, for secrets that come from elsewhere.
    type: dict
    default: {}
  forget:
    description: Names to remove from the file.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Full. What would be made is made up, and returned, but not written.
    support: full
  diff_mode:
    description: None, for it would show secrets.
    support: none
"""

EXAMPLES = r"""
- name: Ensure the relay's secrets are kept
  generated_secrets:
    path: "{{ inventory_dir }}/secrets/{{ inventory_hostname }}.yml"
    secrets:
      relay_password: password
      console_password: password
      vault_key: fernet_key
  register: __relay_secrets
  no_log: true

- name: Ensure the relay password is a new one
  generated_secrets:
    path: "{{ inventory_dir }}/secrets/{{ inventory_hostname }}.yml"
    secrets:
      relay_password: password
    renew: [relay_password]
  register: __relay_secrets
  no_log: true
"""

RETURN = r"""
secrets:
  description: Everything that is in the file, names and values.
  returned: success
  type: dict
made:
  description: Names of what was not there before.
  returned: success
  type: list
  elements: str
renewed:
  description: Names of what has another value now.
  returned: success
  type: list
  elements: str
forgotten:
  description: Names of what was removed.
  returned: success
  type: list
  elements: str
path:
  description: The file.
  returned: success
  type: str
"""
