# Note that the relay works with the files as they are. Before it: common.sh.
keep_files && exit 0
echo "The relay runs, but its settings, secrets and certificates could not be copied to $directory/.good, where a run that fails finds" \
    "what worked before. Is there room, and may $(id -un) write there? Then run again."
exit 1
