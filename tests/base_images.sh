#!/usr/bin/env bash
# Name the base images that everything here is built on: eval "$(tests/base_images.sh)"
#
# Where the engine can pull, they are the Dockerfile's own. Where it cannot (no registry is in reach), stand-ins
# are made from the packages of the same Debian, which come from wherever this machine's apt takes its own: a minimal
# Debian for DEBIAN_IMAGE, and its Python with the venv module on top for PYTHON_IMAGE. The Debian is kept in the
# user's cache, so that another engine needs no debootstrap. A variable that is set already is left as it is.
set -euo pipefail

recipe=2                    # raise it when a stand-in is to be made differently
dockerfile=$(dirname "$0")/../Dockerfile
pull_timeout=300            # seconds; an image of this size needs a tenth of it
bundle=/etc/ssl/certs/ca-certificates.crt

say() { echo "Base images: $*" >&2; }
die() {
    say "$*"
    exit 1
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

have() { docker image inspect "$1" >/dev/null 2>&1; }

# The image is here, or can be brought here.
obtain() {
    have "$1" && return
    timeout "$pull_timeout" docker pull --quiet "$1" >/dev/null 2>"$scratch/pull.log" && return
    [[ -s $scratch/pull.log ]] || echo "no answer in $pull_timeout s" >"$scratch/pull.log"
    return 1
}

# Where this machine's apt takes its own Debian from: the others are there too.
mirror() (
    # shellcheck source=/dev/null
    . /etc/os-release
    [[ $ID == debian ]] || return 0
    # shellcheck disable=SC2016  # apt's variables, not ours
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v release="$VERSION_CODENAME" '!found && $2 == release && $3 == "main" { print $1; found = 1 }'
)

# Of the machine's certificate authorities too: a proxy between it and the package indexes may have one of its own.
fingerprint() {
    { echo "$recipe $release" && cat "$bundle" 2>/dev/null || true; } | sha256sum | cut -c1-12
}

need_debootstrap() {
    [[ $EUID -eq 0 ]] || die "no image can be pulled ($(tail -n 1 "$scratch/pull.log")), and a stand-in takes root: sudo --preserve-env $0"
    command -v apt-get >/dev/null || die "no image can be pulled ($(tail -n 1 "$scratch/pull.log")), and there is no apt-get here to make a stand-in. Set PYTHON_IMAGE and DEBIAN_IMAGE to images that the engine has."
    "${0%/*}/system_packages.sh" debootstrap:debootstrap >&2
}

# debootstrap, and the certificate authorities that this machine trusts.
make_tarball() {
    local root=$scratch/root from
    from=$(mirror)
    [[ -n $from ]] || die "no image can be pulled ($(tail -n 1 "$scratch/pull.log")), and this machine's apt knows no Debian to make a stand-in from (see /etc/apt/sources.list.d). Set PYTHON_IMAGE and DEBIAN_IMAGE to images that the engine has."
    say "making a minimal Debian $release (a minute, once)"
    debootstrap --force-check-gpg --variant=minbase --include=ca-certificates "$release" "$root" "$from" >"$scratch/debootstrap.log" 2>&1 ||
        die "debootstrap failed. It said: $(tail -n 5 "$scratch/debootstrap.log")"
    if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
        cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/"
        chroot "$root" update-ca-certificates >"$scratch/debootstrap.log" 2>&1
    fi
    if [[ -e $bundle ]]; then cp "$bundle" "$root$bundle"; fi
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/var/log/*
    mkdir -p "${1%/*}"
    tar --create --one-file-system --numeric-owner --directory "$root" . | gzip -1 >"$1.part"
    mv "$1.part" "$1"
}

make_debian() {
    local image=$1 tarball
    have "$image" && return
    tarball="$cache/${image##*/}.tar.gz"
    tarball=${tarball//:/-}
    [[ -e $tarball ]] || { need_debootstrap && make_tarball "$tarball"; }
    docker import --change "ENV PIP_CERT=$bundle SSL_CERT_FILE=$bundle" --change 'CMD ["bash"]' \
        "$tarball" "$image" >/dev/null
    say "made $image"
}

# As in the official image, there is a `python`, and a pip that pip itself can remove.
make_python() {
    local image=$1 debian=$2
    have "$image" && return
    say "adding Python $version to it"
    docker build --quiet --tag "$image" - >/dev/null 2>"$scratch/build.log" <<DOCKERFILE || die "the stand-in for $own_python cannot be built: $(tail -n 20 "$scratch/build.log")"
FROM $debian
RUN export DEBIAN_FRONTEND=noninteractive \\
 && apt-get update \\
 && apt-get install --yes --no-install-recommends python3 python3-venv \\
 && ln -s python3 /usr/bin/python \\
 && python -c 'import sys; found = "%d.%d" % sys.version_info[:2]; sys.exit(found != "$version" and f"Debian $release has Python {found}")' \\
 && python -m venv /tmp/venv \\
 && PIP_BREAK_SYSTEM_PACKAGES=1 /tmp/venv/bin/pip --python /usr/bin/python3 --no-cache-dir install --quiet pip \\
 && rm -rf /tmp/venv /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/* /root/.cache \\
 && find /usr/lib/python3* /usr/local/lib -name __pycache__ -prune -exec rm -rf {} +
CMD ["python"]
DOCKERFILE
    say "made $image"
}

own_python=$(sed -n 's/^ARG PYTHON_IMAGE=//p' "$dockerfile")
[[ ${own_python%@*} =~ :([0-9]+\.[0-9]+)-slim-([a-z]+)$ ]] ||
    die "the Dockerfile's PYTHON_IMAGE is '$own_python'. Its tag must name a Python and a Debian, as 3.13-slim-trixie does."
version=${BASH_REMATCH[1]}
release=${BASH_REMATCH[2]}
own_debian=docker.io/library/debian:$release-slim

docker info >/dev/null 2>"$scratch/info.log" ||
    die "no Docker engine answers (run: tests/engine.sh ensure). It was asked with: docker info, which says: $(tail -n 1 "$scratch/info.log")"
# Made elsewhere, /root/.cache for one; there may be no HOME under sudo.
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/smtp-relay
mkdir -p "$cache"
exec 9>"$cache/base_images.lock"
flock --wait 600 9 || die "another run of this script has been making the stand-ins for ten minutes. Is it stuck?"

debian=smtp-relay-base/debian:$release-$(fingerprint)
python=smtp-relay-base/python:$version-$release-$(fingerprint)
# Stand-ins that are here already are used: to find out again that nothing can be pulled may take a while.
if [[ -z ${DEBIAN_IMAGE:-} ]]; then
    if have "$debian" || ! obtain "$own_debian"; then
        make_debian "$debian"
        DEBIAN_IMAGE=$debian
    else
        DEBIAN_IMAGE=$own_debian
    fi
fi
if [[ -z ${PYTHON_IMAGE:-} ]]; then
    if have "$python" || ! obtain "$own_python"; then
        make_debian "$debian"
        make_python "$python" "$debian"
        PYTHON_IMAGE=$python
    else
        PYTHON_IMAGE=$own_python
    fi
fi
printf 'export PYTHON_IMAGE=%q DEBIAN_IMAGE=%q\n' "$PYTHON_IMAGE" "$DEBIAN_IMAGE"
