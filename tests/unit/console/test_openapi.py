"""The API does what its description says: schemathesis makes requests from it, right ones and wrong ones."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema_rs

from relay_app.console import openapi
from relay_app.console.server import Console
from relay_app.settings import Endpoint


def test_every_operation_behaves_as_described(app, access, tmp_path) -> None:
    """All of schemathesis's checks: no 5xx, statuses, headers, content types and bodies as described, wrong
    input refused and right input taken, other methods refused, no answer without the token."""
    console = Console(app, [Endpoint("127.0.0.1", 0)], loopback_only=False)
    console.start()
    try:
        run = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                "run",
                f"http://{console.addresses[0]}/api/v1/openapi.json",
                f"--header=Authorization: Bearer {access.token}",
                "--checks=all",
                "--max-examples=10",
                "--generation-deterministic",
                "--no-color",
            ],
            cwd=tmp_path,
            env={**os.environ, "NO_PROXY": "*"},
            capture_output=True,
            text=True,
            timeout=300,
        )
    finally:
        console.stop()
    assert run.returncode == 0, run.stdout + run.stderr
    selected = len(operations()) - 1  # it leaves out the description itself
    assert f"{selected} selected / {selected} total" in run.stdout
    assert "Fuzzing" in run.stdout


def operations() -> list[str]:
    return [
        method for item in openapi.document()["paths"].values() for method in item.keys() - {"parameters"}
    ]


def test_every_route_is_described(app) -> None:
    routes = {
        (method.lower(), re.sub(r"<(\w+)>", r"{\1}", rule.rule.removeprefix("/api/v1")))
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/v1/")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    paths = openapi.document()["paths"]
    described = {(method, path) for path, item in paths.items() for method in item.keys() - {"parameters"}}
    assert routes == described


def test_it_is_openapi_3_1() -> None:
    document = openapi.document()
    assert document["openapi"] == "3.1.0"
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_no_output_has_a_place_for_a_hash() -> None:
    assert "hash" not in str(openapi.document())
    schemas = openapi.document()["components"]["schemas"]
    assert [name for name in schemas if "password" in schemas[name]["properties"]] == ["MadeDevice"]


def test_operations_have_names_of_their_own() -> None:
    names = [
        item[method]["operationId"]
        for item in openapi.document()["paths"].values()
        for method in item.keys() - {"parameters"}
    ]
    assert len(set(names)) == len(names) == len(operations())
    assert {"get_relay", "post_sign_ins_id_paste"} <= set(names)
