"""Says whether a manifest, read from standard input, is the image index that we mean to publish.

    docker buildx imagetools inspect --raw NAME | check_index.py DIGEST PLATFORM...

An index is what registries call a list of images, one for each platform. It has to be exactly the one with
DIGEST, and to have, for each PLATFORM, an image and its attestations (provenance and bill of materials).
"""

import hashlib
import json
import sys
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"


def problems(raw: bytes, digest: str, platforms: list[str]) -> list[str]:
    """What is wrong with the manifest `raw`; nothing if it is right."""
    found = "sha256:" + hashlib.sha256(raw).hexdigest()
    if found != digest:
        return [f"It has the digest {found}, not {digest}: something else was pushed there. Run this again."]
    manifest = json.loads(raw)
    if manifest.get("mediaType") != INDEX:
        return [
            f"It is {manifest.get('mediaType')!r}, not an index ({INDEX}): Unraid would not see updates. "
            "Build for more than one platform, or with provenance."
        ]
    images = {platform_of(entry): entry["digest"] for entry in manifest["manifests"]}
    attested = {
        entry["annotations"]["vnd.docker.reference.digest"]
        for entry in manifest["manifests"]
        if entry.get("annotations", {}).get("vnd.docker.reference.type") == "attestation-manifest"
    }
    wrong = []
    for platform in platforms:
        if platform not in images:
            wrong.append(f"There is no image for {platform}, only for {', '.join(sorted(images))}.")
        elif images[platform] not in attested:
            wrong.append(f"The image for {platform} has no attestations. Build with provenance and sbom.")
    return wrong


def platform_of(entry: dict[str, Any]) -> str:
    platform = entry.get("platform", {})
    return f"{platform.get('os')}/{platform.get('architecture')}"


def main() -> int:
    digest, *platforms = sys.argv[1:]
    wrong = problems(sys.stdin.buffer.read(), digest, platforms)
    for problem in wrong:
        print(problem, file=sys.stderr)
    if not wrong:
        print(f"{digest}: an index, with {' and '.join(platforms)} and their attestations.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
