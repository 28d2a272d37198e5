#!/usr/bin/env bash
# Install the programs that the tests run for real. Debian and its relatives; quick when nothing is missing.
#
#   tests/system_packages.sh                      all of them
#   tests/system_packages.sh PROGRAM:PACKAGE...   these alone
#
# Postfix is here for /usr/sbin/smtp-sink alone, Dovecot and PostgreSQL for servers that each test run starts and
# stops by hand, Docker for tests/engine.sh to start. None may begin to serve on this machine, so their services are
# not started and not enabled, and the mail servers left without a configuration; and nothing may be removed to make
# room (another mail server, say).
set -euo pipefail

# program:package. libnet-ssleay-perl is what swaks does TLS with,
# libio-socket-inet6-perl IPv6.
needed=(
    swaks:swaks
    msmtp:msmtp
    curl:curl
    openssl:openssl
    dovecot:dovecot-core
    smtp-sink:postfix
    chromium:chromium
    npm:npm
    bindfs:bindfs
    busybox:busybox-static
    sudo:sudo
    ssh:openssh-client
    sshd:openssh-server
    docker-compose:docker-compose
    skopeo:skopeo
    docker-registry:docker-registry
)
missing=()
PATH="$PATH:/usr/sbin:/sbin"
if [[ $# -gt 0 ]]; then needed=("$@"); fi
for pair in "${needed[@]}"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if [[ $# -eq 0 ]]; then
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
    [[ -x /usr/lib/dovecot/submission-login ]] || missing+=(dovecot-submissiond)
    perl -MNet::SSLeay -e 1 2>/dev/null || missing+=(libnet-ssleay-perl)
    perl -MIO::Socket::INET6 -e 1 2>/dev/null || missing+=(libio-socket-inet6-perl)
fi

if [[ ${#missing[@]} -eq 0 ]]; then
    echo "System packages: all there."
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "System packages: missing ${missing[*]} (Debian's names). There is no apt-get here: install them by hand." >&2
    exit 1
fi
if [[ $EUID -ne 0 ]]; then
    echo "System packages: missing ${missing[*]}. Run: sudo tests/system_packages.sh $*" >&2
    exit 1
fi

log=$(mktemp)
policy=/usr/sbin/policy-rc.d
own_policy=
cleanup() {
    rm -f "$log"
    if [[ -n $own_policy ]]; then rm -f "$policy"; fi
}
trap cleanup EXIT
if [[ ! -e $policy ]]; then
    # invoke-rc.d and deb-systemd-invoke ask this program first; 101 is "do not start".
    own_policy=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

install() {
    apt-get install --yes --no-install-recommends --no-remove "${missing[@]}" </dev/null >"$log" 2>&1
}
export DEBIAN_FRONTEND=noninteractive
if [[ " ${missing[*]} " == *" postfix "* ]]; then
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
fi
# The package lists may be absent (a container) or old: fetch them only when they turn out to be.
if ! install && ! { apt-get update >"$log" 2>&1 && install; }; then
    echo "System packages: apt-get could not install ${missing[*]}. It said:" >&2
    tail -n 20 "$log" >&2
    exit 1
fi
if [[ -d /run/systemd/system ]]; then
    for package in "${missing[@]}"; do
        case $package in
            postfix) systemctl --quiet disable postfix.service ;;
            dovecot-core) systemctl --quiet disable dovecot.service dovecot.socket ;;
            postgresql) systemctl --quiet disable postgresql.service ;;
            docker-registry) systemctl --quiet disable docker-registry.service ;;
            openssh-server) systemctl --quiet disable ssh.service ssh.socket ;;
            docker.io) systemctl --quiet disable docker.service docker.socket containerd.service ;;
        esac
    done
fi
echo "System packages: installed ${missing[*]}."
