"""Lets the tags in the registry point to what a run has published, and never backwards.

    point_tags.py NAME DIGEST TAG...

Each TAG is the run's own: a version, or main and sha-... They point to DIGEST, except that `main` stays where
it is if a later commit is there already: then this is an old run, run again.

All other tags follow from what lies in the registry: `latest` is the newest release (X.Y.Z, no more and no
less) and, as long as there is none, `main`; X.Y and, from 1.0.0 on, X are the newest release of theirs. They
are read again after each change, so that of two runs at the same time the one that is through last leaves
them right. It speaks to the registry with skopeo, which takes the login from Docker.
"""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache

REVISION = "org.opencontainers.image.revision"
ROUNDS = 10  # of changes; more than one only if another run publishes at the same time

Version = tuple[int, int, int]


def version(tag: str) -> Version | None:
    """The numbers of a release's tag; None for any other tag, a prerelease's too."""
    if not re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", tag):
        return None
    major, minor, patch = map(int, tag.split("."))
    return major, minor, patch


def following(tags: list[str], own: list[str]) -> dict[str, str]:
    """The tags that follow others, of all `tags` in the registry: each with the one whose image it has.

    Of X.Y and X, those of the releases in `own` alone: no other run has anything to do with the rest.
    """
    releases = sorted(
        filter(None, map(version, {*tags, *own}))
    )  # its own are there, though a list may lag behind
    found = {"latest": "main"} if "main" in tags else {}
    if releases:
        found["latest"] = written(releases[-1])
    for major, minor, _ in filter(None, map(version, own)):
        found[f"{major}.{minor}"] = written(max(each for each in releases if each[:2] == (major, minor)))
        if major:
            found[f"{major}"] = written(max(each for each in releases if each[0] == major))
    return found


def written(numbers: Version) -> str:
    return ".".join(map(str, numbers))


class Repository:
    """The images of one name in a registry."""

    def __init__(self, name: str) -> None:
        self._name = name

    def tags(self) -> list[str]:
        """All of them. To ask before there is one is an error."""
        return list(json.loads(_run("skopeo", "list-tags", f"docker://{self._name}"))["Tags"])

    def manifest(self, tag: str) -> bytes:
        return _run("skopeo", "inspect", "--raw", f"docker://{self._name}:{tag}")

    def digest(self, tag: str) -> str:
        return "sha256:" + hashlib.sha256(self.manifest(tag)).hexdigest()

    def point(self, tag: str, digest: str) -> None:
        """With its platforms and attestations, which lie there already. Unchanged, or not at all."""
        # Nobody signs images here, so there is no policy for signatures.
        copy = ["skopeo", "--insecure-policy", "copy", "--all", "--preserve-digests", "--quiet"]
        _run(*copy, f"docker://{self._name}@{digest}", f"docker://{self._name}:{tag}")
        print(f"{tag} is {digest} now.")


def behind(repository: Repository) -> bool:
    """Whether `main` in the registry was made from a later commit than the one that is checked out."""
    there = json.loads(repository.manifest("main")).get("annotations", {}).get(REVISION, "")
    if there == _run("git", "rev-parse", "HEAD").decode().strip():
        return False
    # Fails too where the commit is unknown, as it is when main's history was written anew.
    asked = subprocess.run(["git", "merge-base", "--is-ancestor", "HEAD", there], capture_output=True)
    return asked.returncode == 0


def publish(repository: Repository, digest: str, own: list[str]) -> None:
    for tag in sorted(own, key="main".__eq__):  # main last: by then there are tags to ask for
        if tag == "main" and "main" in repository.tags() and behind(repository):
            print("main is a later commit already, and stays where it is.")
        else:
            repository.point(tag, digest)
    for _ in range(ROUNDS):
        stale = list(misplaced(repository, own))
        if not stale:
            return
        for tag, wanted in stale:
            repository.point(tag, wanted)
    raise SystemExit("Other runs keep moving the tags. Run this again when they are through.")


def misplaced(repository: Repository, own: list[str]) -> Iterator[tuple[str, str]]:
    """The tags that do not point to what they should, each with what that is."""
    tags = repository.tags()
    digest = cache(repository.digest)  # as they are now
    for tag, source in following(tags, own).items():
        if tag not in tags or digest(tag) != digest(source):
            yield tag, digest(source)


def _run(*command: str) -> bytes:
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.decode().strip()}")
    return done.stdout


if __name__ == "__main__":
    publish(Repository(sys.argv[1]), sys.argv[2], sys.argv[3:])
