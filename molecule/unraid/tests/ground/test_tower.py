"""The stand-in is what it claims to be. If it were kinder than Unraid, the other tests would prove little."""

from __future__ import annotations

import os
import subprocess

import pytest

PORT = os.environ.get("TOWER_PORT", "22022")


def test_it_has_no_python(tower) -> None:
    assert tower.run("ls -d /usr/bin/*python* /usr/local/bin/*python*").stdout == ""


def test_it_is_unraid_as_far_as_one_can_see(tower) -> None:
    assert tower.run(". /etc/unraid-version && echo $version").stdout == "7.2.0\n"
    assert (
        tower.run(". /var/local/emhttp/var.ini && echo $fsState $mdState $NAME").stdout
        == "Started STARTED Tower\n"
    )
    assert tower.run("id nobody").stdout.startswith("uid=99(nobody) gid=100(users)")


@pytest.mark.parametrize("path", ["/boot", "/mnt/user", "/var/lib/docker"])
def test_it_has_unraids_mount_points(tower, path: str) -> None:
    assert tower.run("mountpoint --quiet %s", path).rc == 0


def test_its_boot_device_is_fat(tower) -> None:
    tower.check_output("cp /bin/true /boot/config/probe && chmod 755 /boot/config/probe")
    try:
        assert tower.check_output("stat -c '%a %U:%G' /boot/config/probe") == "600 root:root"
        assert tower.run("/boot/config/probe").rc == 126
        refused = tower.run("chown 99:100 /boot/config/probe")
        assert refused.rc == 1
        assert "Operation not permitted" in refused.stderr
        assert tower.check_output("stat -c '%a' /boot/config/plugins/dockerMan/templates-user") == "700"
    finally:
        tower.check_output("rm /boot/config/probe")


def test_its_docker_command_is_on_the_real_engine(tower, inspect) -> None:
    theirs = tower.check_output("docker inspect --format '{{.Id}}' smtp-relay-test-tower")
    assert theirs == inspect("smtp-relay-test-tower")["Id"]


def test_what_it_calls_mnt_user_is_that_on_the_engine_too(tower) -> None:
    tower.check_output("echo here >/mnt/user/appdata/probe")
    try:
        seen = tower.check_output(
            "docker run --rm --entrypoint cat -v /mnt/user/appdata:/there smtp-relay-test/tower /there/probe"
        )
        assert seen == "here"
    finally:
        tower.check_output("rm /mnt/user/appdata/probe")


def test_only_the_key_logs_in() -> None:
    refused = subprocess.run(
        ["ssh", "-o", "PubkeyAuthentication=no", "-p", PORT, "root@tower", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 255
    assert "Permission denied (publickey)" in refused.stderr


def test_a_stopped_array_takes_shares_and_docker_along(tower, trouble) -> None:
    with trouble("array stop"):
        assert tower.run("mountpoint --quiet /mnt/user").rc != 0
        assert tower.run("mountpoint --quiet /var/lib/docker").rc != 0
        assert tower.run("docker ps").rc == 1
        assert 'fsState="Stopped"' in tower.check_output("cat /var/local/emhttp/var.ini")
    assert tower.run("mountpoint --quiet /mnt/user && docker ps").rc == 0


@pytest.mark.parametrize("words", ["docker stop", "docker disable"])
def test_docker_can_be_off(tower, trouble, words: str) -> None:
    with trouble(words):
        assert tower.run("docker ps").rc == 1
        assert tower.run("mountpoint --quiet /mnt/user").rc == 0
    assert tower.run("docker ps").rc == 0


def test_the_share_can_be_missing_or_small(tower, trouble) -> None:
    with trouble("share detach"):
        assert tower.run("mountpoint --quiet /mnt/user").rc != 0
    with trouble("share small"):
        assert tower.run("mountpoint --quiet /mnt/user").rc == 0
        assert int(tower.check_output("df -Pm /mnt/user | awk 'NR == 2 {print $4}'")) <= 8
    assert tower.run("test -d /mnt/user/appdata").rc == 0


def test_its_architecture_can_be_a_strange_one(tower, trouble) -> None:
    real = tower.check_output("uname -m")
    with trouble("machine riscv64"):
        assert tower.check_output("uname -m") == "riscv64"
    assert tower.check_output("uname -m") == real


def test_its_host_key_can_change(tower, trouble) -> None:
    with trouble("hostkey change"):
        refused = subprocess.run(
            ["ssh", "-p", PORT, "root@tower", "true"], capture_output=True, text=True, check=False
        )
        assert refused.returncode == 255
        assert "HOST IDENTIFICATION HAS CHANGED" in refused.stderr
    assert tower.run("true").rc == 0
