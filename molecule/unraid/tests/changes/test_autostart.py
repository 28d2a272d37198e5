"""Whether the relay starts with the array; who else does, is none of our business."""

from __future__ import annotations

FILE = "/var/lib/docker/unraid-autostart"
TASK = "relay : Ensure the container is in Unraid's list of those to start"


def test_our_line_comes_and_goes_alone(relay, at_tower, deploy) -> None:
    others = "mariadb\ntower 10\n"
    assert at_tower("cat", FILE) == f"{others}{relay.name}\n"
    assert deploy(relay_autostart=False).changed == [TASK]
    assert at_tower("cat", FILE) == others

    at_tower("sh", "-c", f"printf '{relay.name} 30\\n' >{FILE}")
    assert deploy().changed == [], "a pause that somebody has chosen in the web interface stays"
    assert deploy(relay_autostart=False).changed == [TASK]
    assert "unraid-autostart" not in at_tower("ls", "/var/lib/docker"), "an empty list is none"

    at_tower("sh", "-c", f"printf '{others}{relay.name}\n' >{FILE}")
