"""How the role image uses docker: logins, buildx, and what it removes. With a docker that only listens."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from .playing import Call, Controller, Played
from .rendering import REPOSITORY, Role

IMAGE = "ghcr.io/someone/smtp-relay"
TAG = Role("image", {"image_name": IMAGE}).value(
    "lookup('image_tag', __image_context, arguments=__image_made_of)"
)
[BASE] = re.findall(r"(?m)^ARG PYTHON_IMAGE=(.+)$", (REPOSITORY / "Dockerfile").read_text())
STEPS = ("login", "manifest inspect", "buildx rm", "buildx create", "buildx build", "logout")
BUILD_FAILS = """\
#9 [dependencies 4/4] RUN /pip/bin/pip install -r requirements/relay.txt
#9 2.1 ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.
------
ERROR: failed to solve: process "/bin/sh -c pip install" did not complete successfully: exit code: 1
"""
PUSH_FAILS = """\
#20 pushing layers 0.2s done
#20 exporting to image, with a lookup of 3 layers
------
ERROR: failed to solve: failed to push ghcr.io/someone/smtp-relay:latest: denied: permission_denied
"""
CREATE = ["buildx", "create", "--name", "smtp-relay", "--driver", "docker-container"]


def publish(controller: Controller, *options: str) -> Played:
    return controller.play("playbooks/image.yml", "--limit=localhost", *options)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """How it goes when nothing is special."""
    controller = Controller(tmp_path_factory.mktemp("controller"))
    controller.variables["image_extra_tags"] = ["newest"]
    return publish(controller)


def built(played: Played, push: bool) -> Call:
    """The call of buildx build that pushes, or the one that does not."""
    [call] = [
        call
        for call in played.calls
        if str(call).startswith("buildx build") and ("--push" in call.arguments) == push
    ]
    return call


def test_it_is_built_and_then_pushed(published: Played) -> None:
    assert published.code == 0, published.output
    usual = [
        *("buildx", "build", "--builder", "smtp-relay", "--target", "relay", "--platform", "linux/amd64"),
        *("--provenance", "mode=max", "--sbom", "true"),
        f"--build-arg=PYTHON_IMAGE={BASE}",
        f"--build-arg=VERSION={TAG}",
        "--build-arg=SOURCE=https://github.com/someone/smtp-relay",
    ]
    assert built(published, push=False).arguments == [*usual, "--output", "type=cacheonly", str(REPOSITORY)]
    tags = [f"--tag={IMAGE}:{TAG}", f"--tag={IMAGE}:newest"]
    assert built(published, push=True).arguments == [*usual, *tags, "--push", str(REPOSITORY)]
    assert published.called("buildx create").arguments == CREATE
    assert published.names(*STEPS) == [
        *("login", "manifest inspect", "manifest inspect"),
        *("buildx rm", "buildx create", "buildx build", "buildx build"),
    ]


def test_what_is_there_is_neither_built_nor_pushed(controller: Controller) -> None:
    controller.answers["manifest inspect"] = (0, '{"manifests": []}', "")
    played = publish(controller)
    assert "changed=0" in played.output
    assert played.names("buildx create", "buildx build") == []


def test_check_mode_only_looks(controller: Controller) -> None:
    played = publish(controller, "--check")
    assert played.code == 0, played.output
    assert played.names(*STEPS) == ["login", "manifest inspect"]


@pytest.mark.parametrize(
    ("step", "calls"),
    [
        ("image_login", ["login"]),
        (
            "image_build",
            ["login", "manifest inspect", "buildx rm", "buildx create", "buildx build"],
        ),
        (
            "image_push",
            ["login", "manifest inspect", "buildx rm", "buildx create", "buildx build"],
        ),
    ],
)
def test_a_step_alone(controller: Controller, step: str, calls: list[str]) -> None:
    played = publish(controller, f"--tags={step}")
    assert played.code == 0, played.output
    assert played.names(*STEPS) == calls
    assert ["--push" in call.arguments for call in played.calls if "build" in call.arguments] == (
        [] if step == "image_login" else [step == "image_push"]
    )


# --- the builder ----------------------------------------------------------------------------------------


def test_a_registry_without_tls(controller: Controller) -> None:
    controller.variables |= {"image_name": "127.0.0.1:15000/x/y", "image_registry_insecure": True}
    played = publish(controller)
    assert played.code == 0, played.output
    create = played.called("buildx create")
    assert create.arguments[:-1] == [*CREATE, "--driver-opt", "network=host", "--config"]
    assert create.arguments[-1] == f"{create.environment['DOCKER_CONFIG']}/buildkitd.toml"
    assert '\n[registry."127.0.0.1:15000"]\nhttp = true\n' in create.files["buildkitd.toml"]
    assert not [argument for argument in built(played, push=True).arguments if "SOURCE" in argument]


def test_every_call_has_one_configuration_and_buildx_one_that_lasts(published: Played) -> None:
    calls = published.calls
    assert [str(call) for call in calls[:2]] == [
        "buildx version",
        "version --format {{.Server.Os}}/{{.Server.Arch}}",
    ]
    assert len({json.dumps(call.environment) for call in calls}) == 1
    [environment] = [call.environment for call in calls[:1]]
    assert environment["BUILDX_CONFIG"].endswith("/home/.config/smtp-relay/buildx")
    assert environment["DOCKER_HOST"] == "unix:///var/run/docker.sock"
    assert not Path(environment["DOCKER_CONFIG"]).exists()


def test_the_users_own_places(controller: Controller) -> None:
    theirs = controller.home / "docker"
    (theirs / "cli-plugins").mkdir(parents=True)
    (theirs / "cli-plugins/docker-buildx").touch()
    (theirs / "config.json").write_text('{"auths": {"elsewhere": {}}}')
    controller.environment |= {"DOCKER_CONFIG": str(theirs), "XDG_CONFIG_HOME": f"{controller.home}/xdg"}
    calls = publish(controller).calls
    assert all(call.plugins == ["docker-buildx"] for call in calls)
    assert all("elsewhere" not in str(call.files) for call in calls)
    assert calls[0].environment["BUILDX_CONFIG"] == f"{controller.home}/xdg/smtp-relay/buildx"
    assert (theirs / "cli-plugins/docker-buildx").exists()


# --- what goes wrong ------------------------------------------------------------------------------------


def test_a_build_that_fails(controller: Controller) -> None:
    controller.answers["buildx build"] = (1, "", BUILD_FAILS)
    played = publish(controller)
    assert played.code == 2
    assert "The image cannot be built. The end of what the builder said:" in played.text
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in played.text
    assert "To see all of it: docker build --target relay --build-arg PYTHON_IMAGE=" in played.text
    assert "The registry" not in played.text


def test_a_push_that_fails(controller: Controller) -> None:
    controller.answers["buildx build"] = (1, "", PUSH_FAILS)
    played = publish(controller, "--tags=image_push")
    assert played.code == 2
    assert (
        "The registry ghcr.io does not do what it is asked for: ERROR: failed to solve: failed to push"
        in (played.text)
    )
    assert "The login someone may not do that." in played.text
    assert "cannot be built" not in played.text


TROUBLE = {
    "failed to resolve source metadata for docker.io/library/x: pull access denied": "docker pull x:1",
    "manifest for x:1 not found: manifest unknown": "or name another image in image_base.",
    "Failed to establish a new connection: Temporary failure in name resolution": "this machine is online",
    "write /var/lib/docker/x: no space left on device": "docker system prune",
    "exit code: 1": "To see all of it: docker build --target relay --build-arg PYTHON_IMAGE=x:1 ",
}


@pytest.mark.parametrize(("said", "advice"), TROUBLE.items())
def test_what_is_said_of_a_build_that_fails(said: str, advice: str) -> None:
    given = {"image_name": IMAGE, "image_base": "x:1", "__image_trouble": "a line {{ 7 * 7 }}\n" * 500 + said}
    text = Role("image", given).template("build_trouble.j2").strip()
    assert said in text
    assert "{{ 7 * 7 }}" in text
    assert len(text) < 2000
    assert advice in text.splitlines()[-1]


# --- the login ------------------------------------------------------------------------------------------


def test_the_login_stays_in_this_runs_own_file(published: Played) -> None:
    login = published.called("login")
    assert login.arguments == ["login", "--username", "someone", "--password-stdin", "ghcr.io"]
    # With an entry in it, the CLI does not look for a keychain.
    assert json.loads(login.files["config.json"]) == {"auths": {"ghcr.io": {}}}


AFTERWARDS = [
    {
        "hosts": "controller",
        "gather_facts": False,
        "roles": ["image"],
        "post_tasks": [
            {
                "ansible.builtin.assert": {
                    "that": "path is directory and not (path ~ '/config.json') is exists"
                },
                "vars": {"path": "{{ lookup('run_directory') }}/smtp-relay-docker"},
            }
        ],
    }
]


def test_the_login_is_gone_once_the_image_is_pushed(controller: Controller) -> None:
    playbook = controller.directory / "play.json"
    playbook.write_text(json.dumps(AFTERWARDS))
    played = controller.play(playbook)
    assert played.code == 0, played.output
    assert "config.json" in built(played, push=True).files


def test_logins_that_killed_runs_have_left_are_removed(controller: Controller) -> None:
    left = controller.home / ".ansible/tmp/ansible-local-1abc/smtp-relay-docker"
    other = controller.home / ".ansible/tmp/ansible-local-2abc/smtp-relay-docker"
    for directory in (left, other):
        directory.mkdir(parents=True)
        (directory / "config.json").write_text("a login")
    plugins = controller.home / ".docker/cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-buildx").touch()
    (left / "cli-plugins").symlink_to(plugins)
    then = time.time() - 3700
    os.utime(left, (then, then))
    played = publish(controller)
    assert played.code == 0, played.output
    assert "changed=2" not in played.output
    assert left.parent.is_dir()
    assert not left.exists()
    assert (other / "config.json").exists()
    assert (plugins / "docker-buildx").exists()
    assert played.calls[0].plugins == ["docker-buildx"]


# --- the tag --------------------------------------------------------------------------------------------


def tag(**given: Any) -> str:
    role = Role("image", {"image_name": IMAGE, **given})
    return str(role.value("lookup('image_tag', __image_context, arguments=__image_made_of)"))


def test_other_platforms_make_another_tag() -> None:
    both = ["linux/amd64", "linux/arm64"]
    assert tag() == tag(image_platforms=both[:1]) != tag(image_platforms=both)
    assert tag(image_platforms=both) == tag(image_platforms=both[::-1])
    assert tag(image_base="python:3.14") != tag()


def test_the_base_is_the_dockerfiles_unless_another_is_named() -> None:
    for role in ("image", "sandbox"):
        name = f"{role}_base"
        given = {"image_name": IMAGE, "sandbox_name": "sandbox"}
        assert Role(role, given).value(f"__{name}") == BASE
        assert Role(role, {**given, name: "python:3.14"}).value(f"__{name}") == "python:3.14"
    assert tag() == tag(image_base=BASE)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        (IMAGE, "https://github.com/someone/smtp-relay"),
        ("ghcr.io/someone/relay/image", "https://github.com/someone/relay"),
        ("docker.io/someone/smtp-relay", None),
    ],
)
def test_what_the_labels_say_is_known_to_the_dockerfile(name: str, source: str | None) -> None:
    arguments = Role("image", {"image_name": name, "image_tag_wanted": "1"}).value("__image_arguments")
    assert arguments.get("SOURCE") == source
    declared = set(re.findall(r"^ARG (\w+)", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE))
    assert set(arguments) <= declared
    assert "REVISION" not in arguments


@pytest.mark.parametrize("inventory", ["inventories/sandbox", "molecule/unraid/inventory"])
def test_the_sandbox_is_built_where_its_base_and_its_registry_are(inventory: str) -> None:
    variables = yaml.safe_load((REPOSITORY / inventory / "group_vars/all.yml").read_text())
    assert variables["image_builder"] == "classic"


# --- uninstall ------------------------------------------------------------------------------------------

LEFT: dict[str, Any] = {
    "/images/json": [{"Id": "sha256:1", "RepoTags": [f"{IMAGE}:1.0.0"]}],
    "/images/sha256:1/json": {"Id": "sha256:1", "RepoTags": [f"{IMAGE}:1.0.0"], "RepoDigests": []},
    "/containers/json": [{"Id": "c1", "Names": ["/buildx_buildkit_smtp-relay0"]}],
    "/containers/c1/json": {"Id": "c1", "Image": "sha256:2", "Config": {}, "State": {"Running": True}},
    "/volumes": {"Volumes": [{"Name": "buildx_buildkit_smtp-relay0_state"}]},
}


class Engine(ThreadingHTTPServer):
    """Docker's API, of an engine that has `left`; what was removed is in `removed`."""

    def __init__(self, left: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), EngineRequest)
        self.left = left
        self.removed: list[str] = []


class EngineRequest(BaseHTTPRequestHandler):
    server: Engine

    def _path(self) -> str:
        return re.sub(r"^/v[\d.]+", "", self.path.partition("?")[0])

    def _answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        path = self._path()
        usual: dict[str, Any] = {
            "/version": {"ApiVersion": "1.41", "Version": "20.10"},
            "/info": {},
            "/_ping": {},
        }
        known = usual | self.server.left
        self._answer(200 if path in known else 404, known.get(path, {"message": "no such thing"}))

    def do_POST(self) -> None:
        self.server.removed.append(f"POST {self._path()}")
        self._answer(204, {})

    def do_DELETE(self) -> None:
        self.server.removed.append(self._path())
        self._answer(200, [{"Untagged": self._path()}])

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(dict(LEFT)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


UNINSTALL = [
    {
        "hosts": "controller",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.import_role": {"name": "image", "tasks_from": "uninstall"}}],
    }
]


def uninstall(controller: Controller, engine: Engine, *options: str) -> Played:
    controller.variables["image_docker_host"] = f"tcp://127.0.0.1:{engine.server_address[1]}"
    playbook = controller.directory / "play.json"
    playbook.write_text(json.dumps(UNINSTALL))
    return controller.play(playbook, *options)


@pytest.fixture
def record(controller: Controller) -> Path:
    """Where buildx has written down which builders there are."""
    directory = controller.home / ".config/smtp-relay/buildx"
    (directory / "instances").mkdir(parents=True)
    (directory.parent / "vault-password").touch()
    return directory


def test_images_and_builder_are_removed(controller: Controller, engine: Engine, record: Path) -> None:
    played = uninstall(controller, engine)
    assert played.code == 0, played.output
    assert engine.removed == [
        f"/images/{IMAGE}:1.0.0",
        "POST /containers/c1/kill",
        "/containers/c1",
        "/volumes/buildx_buildkit_smtp-relay0_state",
    ]
    assert [path.name for path in record.parent.iterdir()] == ["vault-password"]
    assert "changed=4" in played.output


def test_a_check_of_the_removal_removes_nothing(controller: Controller, engine: Engine, record: Path) -> None:
    played = uninstall(controller, engine, "--check")
    assert "changed=4" in played.output
    assert engine.removed == []
    assert record.exists()


def test_where_nothing_is_left(controller: Controller, engine: Engine) -> None:
    engine.left = {"/images/json": [], "/containers/json": [], "/volumes": {"Volumes": []}}
    played = uninstall(controller, engine)
    assert played.code == 0, played.output
    assert "changed=0" in played.output


def test_without_an_engine_nothing_was_built(controller: Controller, engine: Engine) -> None:
    controller.variables["image_build"] = False
    controller.answers["version"] = (1, "", "Cannot connect to the Docker daemon")
    played = uninstall(controller, engine)
    assert played.code == 0, played.output
    assert engine.removed == []


def test_an_engine_that_was_built_on_must_be_there(controller: Controller, engine: Engine) -> None:
    controller.answers["version"] = (1, "", "Cannot connect to the Docker daemon")
    played = uninstall(controller, engine)
    assert played.code == 2
    assert "Start it (sudo systemctl start docker, or Docker Desktop)" in played.text
