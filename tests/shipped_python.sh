#!/usr/bin/env bash
# Run tests/unit on the Python that is shipped, in a container: tests/shipped_python.sh [OPTION OF PYTEST...]
#
# This machine has a Python of its own, and the rest of the tests run on that. The container stands on the image's base
# (or its stand-in: tests/base_images.sh) and has the pinned packages, the programs that unit tests run, and this
# checkout, which it cannot change. It may mount: one of the tests fills a disk.
set -euo pipefail
cd "$(dirname "$0")/.."

image=smtp-relay-base/unit-tests
processes=2

tests/engine.sh ensure
bases=$(tests/base_images.sh)
eval "$bases"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The relay's own code comes from the checkout. Its command and its metadata are made as the Dockerfile makes them.
docker build --tag "$image" --file - requirements >"$log" 2>&1 <<DOCKERFILE || {
FROM $PYTHON_IMAGE
RUN apt-get update \\
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends msmtp postgresql \\
 && rm -rf /var/lib/apt/lists/*
COPY unit.txt .
RUN python -m venv /venv \\
 && /venv/bin/pip --no-cache-dir install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r unit.txt \\
 && printf '#!/venv/bin/python\nfrom relay_app.cli import main\n\nmain()\n' >/venv/bin/smtp-relay \\
 && chmod 755 /venv/bin/smtp-relay \\
 && cd /venv/lib/python*/site-packages \\
 && mkdir smtp_relay-0.dist-info \\
 && printf 'Metadata-Version: 2.1\nName: smtp-relay\nVersion: 0\n' >smtp_relay-0.dist-info/METADATA
ENV PATH=/venv/bin:\$PATH PYTHONPATH=/src PYTHONPYCACHEPREFIX=/tmp/bytecode HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis
WORKDIR /src
DOCKERFILE
    echo "The shipped Python: the image for the unit tests cannot be built. The end of what was said:" >&2
    tail -n 20 "$log" >&2
    exit 1
}

docker run --rm --init --network=none --sysctl=net.ipv6.conf.all.disable_ipv6=0 \
    --cap-add=SYS_ADMIN --security-opt=apparmor=unconfined --volume "$PWD:/src:ro" "$image" \
    python -m pytest -p no:cacheprovider --numprocesses "$processes" tests/unit "$@"
