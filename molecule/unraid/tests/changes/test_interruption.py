"""Somebody presses Ctrl-C while Ansible works on the tower over ssh."""

from __future__ import annotations

MOMENTS = ["Ensure the secrets are in their files", "Ensure the container is as the inventory says"]


def test_the_next_run_finishes_and_nothing_is_left_half_written(play, relay, world, goes_out) -> None:
    mailbox = dict(world["relay_mailboxes"][0])
    mailbox["devices"] = [*mailbox["devices"], {"name": "camera"}]
    wanted = {"relay_mailboxes": [mailbox], "relay_pids_limit": 200}
    for moment in MOMENTS:
        play.interrupted(moment, "playbooks/relay.yml", **wanted)

    finished = play("playbooks/relay.yml", **wanted)
    assert finished.code == 0, finished.tail
    assert relay.inspect(relay.name)["HostConfig"]["PidsLimit"] == 200
    assert relay.files("-name", ".host_file-*") == []
    goes_out("camera")
    again = play("playbooks/relay.yml")
    assert again.code == 0, again.tail
