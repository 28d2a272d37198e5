"""After an upgrade, and another that was taken back, Unraid knows the image that runs."""

from __future__ import annotations


def test_the_template_has_the_image_that_runs(relay, at_tower) -> None:
    template = at_tower("cat", f"/boot/config/plugins/dockerMan/templates-user/my-{relay.name}.xml")
    assert f"<Repository>{relay.image}</Repository>" in template


def test_it_is_noted_as_one_that_works(relay) -> None:
    assert relay.read("config/.image").split() == [relay.image, relay.inspect(relay.name)["Image"]]
