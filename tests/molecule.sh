#!/usr/bin/env bash
# Run the molecule scenarios side by side: tests/molecule.sh [SCENARIO...], without one all of them.
#
# They deploy for real on this machine's Docker engine, each under names and ports of its own, and remove what they
# made, also when a step fails or somebody interrupts. The steps are told as they begin. A scenario's log comes in one
# piece, when it has ended; the last lines say how long each took and what became of it. KEEP=1 leaves what a failed
# step has left, for a look; the next run removes it.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH

if [[ $# -eq 0 ]]; then
    for file in molecule/*/molecule.yml; do
        file=${file#molecule/}
        set -- "$@" "${file%/molecule.yml}"
    done
fi

tests/engine.sh ensure
bases=$(tests/base_images.sh)
eval "$bases"

scratch=$(mktemp -d "${TMPDIR:-/tmp}/molecule.XXXXXX")
say() { echo "Molecule: $*"; }

# Interrupted it must be, also where this script's caller has its children ignore SIGINT, as nohup and a shell's `&` do.
run() { # ACTION SCENARIO [OPTION...]
    env --default-signal=INT NO_COLOR=1 MOLECULE_EPHEMERAL_DIRECTORY="$scratch/$2" \
        molecule --base-config .config/molecule/config.yml "$1" --scenario-name "$2" --no-command-borders "${@:3}" 2>&1
}

# Name each step that begins in what comes in. Molecule tells of a `verify` only that it is one.
tell() { # SCENARIO
    local sequence step
    mapfile -t sequence < <(sed -n '/test_sequence:/,$ s/^ *- //p' "molecule/$1/molecule.yml")
    sed --quiet --unbuffered 's/^INFO *\[.* > \(.*\)] Executing$/\1/p' | while read -r step; do
        if [[ ${sequence[0]:-} == "$step"* ]]; then
            step=${sequence[0]}
            sequence=("${sequence[@]:1}")
        fi
        say "$1: $step"
    done
}

# From the first step to the removal of what it has left. Whoever needs the engine for himself waits for the lock.
try() { # SCENARIO
    local log=$scratch/$1.log status=0 missing
    trap '' INT
    exec 9>"$scratch/$1.lock"
    flock 9
    run test "$1" --destroy "$([[ -n ${KEEP:-} ]] && echo never || echo always)" | tee "$log" | tell "$1" || status=1
    # For molecule a step without its file is no failure. For us it is a test that never ran.
    if missing=$(grep --max-count=1 -E 'Missing playbook|no tests found' "$log"); then
        echo "ERROR    molecule/$1/molecule.yml has a step without its file. Molecule says: $missing" >>"$log"
        status=1
    fi
    if [[ $status -ne 0 && -n ${KEEP:-} ]]; then
        touch "$scratch/kept"
    elif [[ $status -ne 0 || -n ${KEEP:-} ]]; then
        run destroy "$1" >>"$log"
    fi
    return "$status"
}

declare -A running=() # the scenarios, by the process group that each has for itself
finish() {
    trap '' INT TERM HUP
    for group in "${!running[@]}"; do
        say "${running[$group]} is interrupted, and removed." >&2
        kill -INT -- "-$group" 2>/dev/null || true
    done
    wait
    if [[ -e $scratch/kept ]]; then say "kept $scratch" >&2; else rm -rf "$scratch"; fi
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

for name in "$@"; do touch "$scratch/$name.lock"; done # before the first asks who else is there
set -m
for name in "$@"; do
    try "$name" </dev/null &
    running[$!]=$name
done
set +m

outcomes=()
failed=0
touch "$scratch/failures"
while [[ ${#running[@]} -gt 0 ]]; do
    outcome=passed
    wait -n -p group "${!running[@]}" || { outcome=FAILED && failed=1; }
    name=${running[$group]}
    unset "running[$group]"
    cat "$scratch/$name.log"
    outcomes+=("$name $outcome after $((SECONDS / 60)) min $((SECONDS % 60)) s")
    say "${outcomes[-1]}"
    # Again in short, as pytest and molecule begin such lines: now, and at the end, below what others have printed.
    if [[ $outcome == FAILED ]]; then
        sed --quiet --regexp-extended '/^(FAILED|ERROR) +[^ -]/p' "$scratch/$name.log" | tee --append "$scratch/failures"
    fi
done
if [[ ${#outcomes[@]} -gt 1 ]]; then
    printf 'Molecule: %s\n' "${outcomes[@]}"
    cat "$scratch/failures"
fi
exit "$failed"
