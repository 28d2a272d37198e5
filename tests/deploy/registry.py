"""A registry for one test run, and images in it as BuildKit pushes them: an index, by its digest alone."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from harness.certificates import Authority
from harness.programs import Server, find

OCI = "application/vnd.oci.image."
PLATFORMS = ("linux/amd64", "linux/arm64")


class Registry:
    """Speaks HTTPS. A client trusts it by its environment, `trust`."""

    def __init__(self, address: str, bundle: Path) -> None:
        self._address = address
        self.trust = {"SSL_CERT_FILE": str(bundle)}
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy, and no authorities but this one
        self._session.verify = str(bundle)

    def name(self, repository: str) -> str:
        return f"{self._address}/{repository}"

    def push(self, name: str, *, content: str, annotations: dict[str, str] | None = None) -> str:
        """An index with both platforms and their attestations. Returns its digest; there is no tag."""
        images = [self._image(name, platform, content) for platform in PLATFORMS]
        attestations = [self._attestation(name, image) for image in images]
        index = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}index.v1+json",
            "manifests": [*images, *attestations],
            "annotations": annotations or {},
        }
        return str(self._manifest(name, index)["digest"])

    def point(self, name: str, tag: str, digest: str) -> None:
        """As another run would, or a person."""
        there = self._ask(
            "GET", f"{self._url(name)}/manifests/{digest}", headers={"Accept": f"{OCI}index.v1+json"}
        )
        headers = {"Content-Type": there.headers["Content-Type"]}
        self._ask("PUT", f"{self._url(name)}/manifests/{tag}", data=there.content, headers=headers)

    def tags(self, name: str) -> dict[str, str]:
        """Each tag, with the digest of its index."""
        listed = self._ask("GET", f"{self._url(name)}/tags/list").json()["tags"]
        accept = {"Accept": f"{OCI}index.v1+json"}
        return {
            tag: self._ask("HEAD", f"{self._url(name)}/manifests/{tag}", headers=accept).headers[
                "Docker-Content-Digest"
            ]
            for tag in listed
        }

    def _image(self, name: str, platform: str, content: str) -> dict[str, Any]:
        system, architecture = platform.split("/")
        config = {"os": system, "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": []}}
        layer = self._blob(name, f"{platform}: {content}".encode(), f"{OCI}layer.v1.tar+gzip")
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}manifest.v1+json",
            "config": self._blob(name, json.dumps(config).encode(), f"{OCI}config.v1+json"),
            "layers": [layer],
        }
        return self._manifest(name, manifest) | {"platform": {"os": system, "architecture": architecture}}

    def _attestation(self, name: str, image: dict[str, Any]) -> dict[str, Any]:
        config = {"os": "unknown", "architecture": "unknown", "rootfs": {"type": "layers", "diff_ids": []}}
        statement = {"predicateType": "https://slsa.dev/provenance/v1", "subject": image["digest"]}
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}manifest.v1+json",
            "config": self._blob(name, json.dumps(config).encode(), f"{OCI}config.v1+json"),
            "layers": [self._blob(name, json.dumps(statement).encode(), "application/vnd.in-toto+json")],
        }
        return self._manifest(name, manifest) | {
            "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {
                "vnd.docker.reference.digest": image["digest"],
                "vnd.docker.reference.type": "attestation-manifest",
            },
        }

    def _manifest(self, name: str, manifest: dict[str, Any]) -> dict[str, Any]:
        raw = json.dumps(manifest).encode()
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        headers = {"Content-Type": manifest["mediaType"]}
        self._ask("PUT", f"{self._url(name)}/manifests/{digest}", data=raw, headers=headers)
        return {"mediaType": manifest["mediaType"], "digest": digest, "size": len(raw)}

    def _blob(self, name: str, raw: bytes, media_type: str) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        place = self._ask("POST", f"{self._url(name)}/blobs/uploads/").headers["Location"]
        self._ask("PUT", place, params={"digest": digest}, data=raw)
        return {"mediaType": media_type, "digest": digest, "size": len(raw)}

    def _url(self, name: str) -> str:
        return f"https://{self._address}/v2/{name.removeprefix(self._address).strip('/')}"

    def _ask(self, method: str, url: str, **given: Any) -> requests.Response:
        answer = self._session.request(method, url, timeout=30, **given)
        answer.raise_for_status()
        return answer


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Registry]:
    """Debian's docker-registry, at a port that is free."""
    authority = Authority(directory)
    pair = authority.issue()
    config = {
        "version": 0.1,
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "storage")}},
        "http": {"addr": "127.0.0.1:0", "tls": {"certificate": str(pair.cert), "key": str(pair.key)}},
    }
    (directory / "registry.yml").write_text(json.dumps(config))
    server = Server([find("docker-registry"), "serve", directory / "registry.yml"])
    try:
        line = server.wait_for_pattern(r"listening on 127\.0\.0\.1:\d+")
        [port] = re.findall(r"127\.0\.0\.1:(\d+)", line)
        yield Registry(f"127.0.0.1:{port}", authority.bundle)
    finally:
        server.stop()
