#!/usr/bin/env bash
# Run the parts of `make test` one after the other, and tell at the end how each ended and how long it took.
#
#   tests/parts.sh NAME COMMAND [NAME COMMAND]...
#
# One that fails is told at once, and the others are run all the same: the status is 1 then. A COMMAND is for bash.
set -uo pipefail

status=0
summary=()
running=
tell() {
    [[ -z $running ]] || note "$running" INTERRUPTED
    printf '\n'
    printf '%-12s %-12s %s\n' "${summary[@]}"
}
note() { # NAME OUTCOME
    local seconds=$((SECONDS - begun))
    summary+=("$1" "$2" "$((seconds / 60)) min $((seconds % 60)) s")
}
trap tell EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

while [[ $# -gt 0 ]]; do
    running=$1 begun=$SECONDS
    echo "--- $running: $2"
    if bash -c "$2"; then
        note "$running" passed
    else
        note "$running" FAILED
        status=1
        echo "--- $running FAILED, after $((SECONDS - begun)) s." >&2
    fi
    running=
    shift 2
done
exit "$status"
