"""What is wrong with the tower itself is said before anything is changed on it."""

from __future__ import annotations

import os

import pytest

PORT = os.environ.get("TOWER_PORT", "22022")

CASES = {
    "array stop": (
        "The array of tower is not started: its state is 'Stopped'.",
        "In Unraid: Main, Array Operation, Start",
    ),
    "share detach": (
        "The array of tower is started, but /mnt/user is not mounted:",
        "Enable user shares: Yes. If it says so already: Main, Array Operation, Stop, then Start",
    ),
    "docker disable": (
        "Docker is turned off on tower.",
        "In Unraid: Settings, Docker, Enable Docker: Yes, Apply",
    ),
    "docker crash": (
        "Docker does not work on tower: Cannot connect to the Docker daemon",
        "In Unraid: Settings, Docker, Enable Docker: No, Apply, then Yes, Apply",
    ),
    "docker unmount": (
        "/var/lib/docker is not mounted on tower: images would fill the memory.",
        "In Unraid: Settings, Docker, Enable Docker: No, Apply, then Yes, Apply",
    ),
    "machine riscv64": (
        "tower is riscv64. The image is made for x86_64 and aarch64.",
        "Deploy on another host",
    ),
    "share small": (
        "There are 8 MB free for /mnt/user/appdata/tower-relay on tower, and relay_minimum_free_mb is 500.",
        "Make room there, or name another place in relay_directory",
    ),
    "system other": (
        "tower is not an Unraid server: it has no /etc/unraid-version.",
        "For any other host with Docker set relay_host_kind to docker",
    ),
    "hostkey change": (
        "tower cannot be reached: its host key is not the one that this machine knows.",
        f"if not, somebody else may answer in its place. Then try: ssh -p {PORT} root@tower docker version",
    ),
}


@pytest.mark.parametrize("words", CASES)
def test_it_is_refused_with_what_to_do(words: str, trouble, contents, refusals) -> None:
    begin, end = CASES[words]
    with trouble(words):
        before = contents()
        sentence = refusals()["tower"]
        assert contents() == before
    assert sentence.startswith(begin)
    assert sentence.endswith(end)


def test_the_command_that_forgets_a_changed_host_key_is_the_right_one(trouble, refusals) -> None:
    """ssh files the key under the host name behind the alias, not under the alias."""
    with trouble("hostkey change"):
        sentence = refusals()["tower"]
    command = sentence.partition("forget the old key: ")[2].partition(" - ")[0]
    assert command.startswith("ssh-keygen")
    assert command.endswith((f"-R '[127.0.0.1]:{PORT}'", f'-R "[127.0.0.1]:{PORT}"'))
    assert "/ssh/known_hosts" in command
