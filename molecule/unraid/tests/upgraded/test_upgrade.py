"""The tower gets a new image, and then one that changes the database and does not work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

# What a newer relay would do, before it turns out not to work.
MIGRATES_AND_DIES = [
    "python",
    "-c",
    "import sqlite3, sys\n"
    "if sys.argv[1:] == ['check']:\n"
    "    sys.exit()\n"
    "database = sqlite3.connect('/data/relay.db')\n"
    "database.execute(\"UPDATE alembic_version SET version_num = '9999'\")\n"
    "database.commit()\n"
    "sys.exit('the new schema is broken')",
]


@pytest.fixture
def unraid_knows(relay, at_tower) -> Callable[[str], bool]:
    """Whether the template names an image, and so does the note of the last one that worked."""

    def look(image: str) -> bool:
        template = at_tower("cat", f"/boot/config/plugins/dockerMan/templates-user/my-{relay.name}.xml")
        noted = relay.read("config/.image").split()
        return f"<Repository>{image}</Repository>" in template and noted == [
            image,
            relay.inspect(relay.name)["Image"],
        ]

    return look


def test_the_new_image_runs_and_unraid_knows_it(relay, play, publish, unraid_knows, goes_out) -> None:
    image = publish("8.1.0")
    played = play("playbooks/relay.yml", image_build=False, image_tag="8.1.0")
    assert played.code == 0, played.tail
    assert relay.image == image
    assert unraid_knows(image)
    goes_out()


@pytest.fixture(scope="module")
def rolled_back(relay, play, publish) -> dict[str, Any]:
    before = {"image": relay.image, "journal": sorted(relay.journal())[-10:]}
    new = publish("9.0.2", MIGRATES_AND_DIES)
    played = play("playbooks/relay.yml", image_build=False, image_tag="9.0.2", relay_start_timeout=60)
    return before | {"new": new, "played": played}


def test_one_that_does_not_work_is_taken_back(relay, rolled_back, unraid_knows, goes_out) -> None:
    played, image = rolled_back["played"], rolled_back["image"]
    assert played.code == 2, played.tail
    assert f"The relay does not run with {rolled_back['new']}." in played.text
    back = f"What ran before, {image}, is running again, with its settings and the database of before"
    assert back in played.text
    assert "the new schema is broken" in played.text
    assert relay.image == image
    assert unraid_knows(image)
    goes_out()


def test_its_data_is_there_and_the_changed_database_is_kept_apart(relay, rolled_back) -> None:
    assert rolled_back["journal"]
    assert relay.journal() >= set(rolled_back["journal"])
    assert relay.files("-path", "*/.failed-upgrade/relay.db") == ["data/.failed-upgrade/relay.db"]
