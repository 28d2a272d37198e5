#!/usr/bin/env bash
# See that a Docker engine runs on this machine.
#
#   tests/engine.sh ensure     install and start one, unless one answers already
#   tests/engine.sh restart    restart it: systemd's, or the one that `ensure` started
#   tests/engine.sh stop       stop the one that `ensure` started, and no other
#
# With systemd, the engine is its service docker. Without (a container, a small virtual machine), dockerd is started
# by hand and goes on when this script has ended. ENGINE_SOCKET is where it listens, ENGINE_OPTIONS are options for it.
# A second engine beside the first needs its own --data-root, --exec-root and --pidfile, and its own network
# namespace (unshare --net), or it takes the first one's bridge away.
set -euo pipefail

socket=${ENGINE_SOCKET:-/var/run/docker.sock}
name=smtp-relay-engine-$(basename "$socket" .sock)
ours=/var/run/$name.pid     # of the dockerd that we started
log=/var/log/$name.log
patience=60                 # seconds, for an engine to answer or to end
PATH="$PATH:/usr/sbin:/sbin"
if [[ -n ${ENGINE_SOCKET:-} ]]; then export DOCKER_HOST=unix://$socket; fi

say() { echo "Docker engine: $*"; }
die() {
    echo "Docker engine: $*" >&2
    exit 1
}

answers() { docker info >/dev/null 2>&1; }

# Whether the process is there, and is what we think it is: numbers are used again.
is_dockerd() { [[ -n ${1:-} && $(cat "/proc/$1/comm" 2>/dev/null) == dockerd ]]; }

started_by_us() { [[ -r $ours ]] && is_dockerd "$(<"$ours")"; }

by_systemd() { [[ -d /run/systemd/system && -z ${ENGINE_SOCKET:-} ]]; }

as_root() {
    if [[ $EUID -eq 0 ]]; then "$@"; else sudo --non-interactive "$@"; fi
}

wait_until() { # MESSAGE COMMAND...
    local message=$1 end=$((SECONDS + patience))
    shift
    until "$@"; do
        [[ $SECONDS -lt $end ]] || die "$message after $patience s."
        sleep 0.2
    done
}

explain_silence() {
    [[ -z ${DOCKER_HOST:-} || -n ${ENGINE_SOCKET:-} ]] ||
        die "DOCKER_HOST is $DOCKER_HOST, and no engine answers there. Start that one, or: unset DOCKER_HOST"
    if [[ -S $socket && ! -w $socket ]]; then
        die "$socket is there, but user $(id -un) may not use it. Run: sudo usermod --append --groups docker $(id -un), then log in again. Or run this with sudo."
    fi
    [[ $EUID -eq 0 ]] || die "none answers at $socket, and to start one takes root. Run: sudo $0 ensure"
}

install_engine() {
    command -v dockerd >/dev/null && return
    # Debian 13 and newer have the client in a package of its own.
    local packages=(dockerd:docker.io iptables:iptables)
    if apt-cache show docker-cli 2>/dev/null | grep --quiet '^Package: docker-cli'; then packages+=(docker:docker-cli); fi
    "$(dirname "$0")/system_packages.sh" "${packages[@]}" || exit 1
    command -v dockerd >/dev/null || die "docker.io is installed, but there is no dockerd. Install Docker by hand: https://docs.docker.com/engine/install/"
}

# What an engine that was killed left behind names a process that may be somebody else's by now; dockerd would refuse.
clear_stale_pids() {
    local file
    for file in /var/run/docker.pid /var/run/docker/containerd/containerd.pid; do
        [[ -r $file ]] || continue
        [[ $(cat "/proc/$(<"$file")/comm" 2>/dev/null) =~ ^(dockerd|containerd)$ ]] || rm -f "$file"
    done
}

start_by_hand() {
    [[ -n ${ENGINE_SOCKET:-} ]] || clear_stale_pids
    # File 9 is the lock, which the engine must not keep. ENGINE_OPTIONS are words.
    # shellcheck disable=SC2086
    setsid nohup dockerd --host "unix://$socket" ${ENGINE_OPTIONS:-} >"$log" 2>&1 </dev/null 9>&- &
    local pid=$!
    echo "$pid" >"$ours"
    # shellcheck disable=SC2329  # wait_until calls it
    answers_or_ended() { answers || ! is_running "$pid"; }
    wait_until "dockerd does not answer at $socket; its log is $log" answers_or_ended
    is_running "$pid" || { rm -f "$ours" && die "dockerd did not start. $log ends with:"$'\n'"$(tail -n 10 "$log")"; }
    say "started, process $pid, log $log"
}

is_running() { [[ -d /proc/$1 && $(awk '/^State:/ { print $2 }' "/proc/$1/status" 2>/dev/null) != Z ]]; }

ensure() {
    if answers; then
        say "version $(docker version --format '{{.Server.Version}}') answers."
        return
    fi
    command -v docker >/dev/null && explain_silence
    [[ $EUID -eq 0 ]] || die "there is no Docker here, and to install it takes root. Run: sudo $0 ensure"
    exec 9>"/var/run/$name.lock"
    flock --wait 300 9 || die "another run of this script has been starting it for five minutes. Is it stuck?"
    if answers; then # by now
        say "version $(docker version --format '{{.Server.Version}}') answers."
        return
    fi
    install_engine
    if by_systemd; then
        systemctl start docker || die "systemd cannot start it. See: journalctl --unit docker --lines 20"
        wait_until "systemd started it, but it does not answer at $socket" answers
        say "started by systemd"
    else
        start_by_hand
    fi
}

gone() { ! is_running "$1"; }

end_ours() {
    local pid
    pid=$(<"$ours")
    kill -TERM "$pid"
    wait_until "process $pid does not end" gone "$pid"
    rm -f "$ours"
}

restart() {
    if started_by_us; then
        [[ $EUID -eq 0 ]] || die "to restart it takes root. Run: sudo $0 restart"
        end_ours
        start_by_hand
    elif by_systemd && systemctl is-active --quiet docker; then
        as_root systemctl restart docker || die "systemd could not restart it, or to do so takes root. Run: sudo $0 restart"
        wait_until "systemd restarted it, but it does not answer at $socket" answers
        say "restarted by systemd"
    else
        die "it was started neither by systemd nor by this script, so how to restart it is not known here. Stop it, then run: $0 ensure"
    fi
}

stop() {
    if ! started_by_us; then
        say "this script has started none: nothing to stop."
        return
    fi
    [[ $EUID -eq 0 ]] || die "to stop it takes root. Run: sudo $0 stop"
    end_ours
    say "stopped."
}

case ${1:-} in
    ensure | restart | stop) "$1" ;;
    *) die "what should be done? Usage: $0 ensure|restart|stop" ;;
esac
