"""The tag that an image's content gives it."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = """
name: image_tag
short_description: The tag that an image gets from what it is built from
description:
  - Reads the build context as C(.dockerignore) describes it, and returns C(VERSION-DIGEST). The same content
    and the same O(arguments) give the same tag, on every machine; another content or another argument gives
    another one.
  - It looks at nothing else. When a base image becomes another one under the same name, the tag stays.
  - The C(.dockerignore) must be an allowlist, a line C(*) followed by lines C(!path). Lines C(**/name) leave
    out what has that name, at any depth.
options:
  _terms:
    description: The build context, a directory with C(Dockerfile), C(.dockerignore) and C(pyproject.toml).
    required: true
  arguments:
    description: What else makes the image what it is, such as its base and its platforms, in this order.
    type: list
    elements: str
    default: []
"""

EXAMPLES = """
- ansible.builtin.debug:
    msg: "{{ lookup('image_tag', playbook_dir, arguments=['python:3.13-slim']) }}"
"""

RETURN = """
_raw:
  description: One tag for each directory, such as C(0.1.0-4f1c2a9be07d).
  type: list
  elements: str
"""


_DIGITS = 12


class LookupModule(LookupBase):  # type: ignore[misc]
    """See DOCUMENTATION."""

    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        try:
            return [_tag(Path(term), self.get_option("arguments")) for term in terms]
        except (OSError, ValueError, KeyError) as error:
            raise AnsibleLookupError(f"Cannot read the build context {terms}: {error}") from error


def _tag(root: Path, arguments: list[str]) -> str:
    digest = hashlib.sha256("\0".join(arguments).encode())
    for path in sorted(_context(root)):
        executable = "x" if path.stat().st_mode & 0o100 else "-"
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"\n{path.relative_to(root).as_posix()} {executable} {content}".encode())
    version = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    return f"{version}-{digest.hexdigest()[:_DIGITS]}"


def _context(root: Path) -> Iterator[Path]:
    lines = (root / ".dockerignore").read_text("utf-8").split("\n")
    rules = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]
    left_out = [rule[3:] for rule in rules if rule.startswith("**/")]
    if rules[:1] != ["*"] or len(rules) != 1 + len(allowed) + len(left_out):
        raise ValueError(".dockerignore must be an allowlist: '*', then lines '!path' and '**/name'")
    for name in allowed:
        top = root / name
        for path in [top, *top.rglob("*")]:
            parts = path.relative_to(root).parts
            if path.is_file() and not any(fnmatch(part, rule) for part in parts for rule in left_out):
                yield path
