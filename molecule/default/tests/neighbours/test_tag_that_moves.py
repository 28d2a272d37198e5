"""A tag such as "latest" means another image tomorrow. Each is an upgrade, with a way back."""

from __future__ import annotations

DIES = ["sh", "-c", '[ "$1" = check ] || { echo this image is broken >&2; exit 3; }', "smtp-relay"]


def test_a_tag_that_has_moved_to_a_broken_image_is_taken_back_by_the_images_id(
    relay, play, publish, goes_out
) -> None:
    publish("edge")
    works = play("playbooks/relay.yml", image_build=False, image_tag="edge")
    assert works.code == 0, works.tail
    good = relay.inspect(relay.name)["Image"]

    publish("edge", DIES)
    played = play("playbooks/relay.yml", image_build=False, image_tag="edge")
    assert played.code == 2, played.tail
    assert f"What ran before, {relay.image}, is running again, with its settings" in played.text
    assert relay.inspect(relay.name)["Image"] == good
    goes_out()
