#!/usr/bin/env bash
# Run the molecule scenarios: tests/molecule.sh [SCENARIO...], without one all of them.
#
# They deploy for real on this machine's Docker engine, under names and ports of their own, and remove what they made,
# also when a step fails or somebody interrupts. KEEP=1 leaves what a failed step has left, for a look; the next run
# removes it.
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
running=
run() { MOLECULE_EPHEMERAL_DIRECTORY=$scratch/$2 molecule --base-config .config/molecule/config.yml "$1" --scenario-name "$2" --no-command-borders "${@:3}"; }
finish() {
    if [[ -n $running && -z ${KEEP:-} ]]; then
        echo "Molecule: removing what $running has left." >&2
        run destroy "$running" >"$scratch/destroy.log" 2>&1 || cat "$scratch/destroy.log" >&2
    fi
    if [[ -n $running && -n ${KEEP:-} ]]; then echo "Molecule: kept $scratch/$running" >&2; else rm -rf "$scratch"; fi
}
trap finish EXIT

for running in "$@"; do
    run test "$running" --destroy "$([[ -n ${KEEP:-} ]] && echo never || echo always)" | tee "$scratch/$running.log"
    # For molecule a step without its file is no failure. For us it is a test that never ran.
    if grep -E 'Missing playbook|no tests found' "$scratch/$running.log"; then
        echo "Molecule: $running has a step without its file (above). See molecule/$running/molecule.yml" >&2
        exit 1
    fi
    [[ -z ${KEEP:-} ]] || run destroy "$running"
done
running=
