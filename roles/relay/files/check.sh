# Wait until the relay has looked at its settings, in the container $name-check, and remove that. Before it: common.sh. Exit status 1: it
# does not accept them, or has not said so within $seconds; what it said is printed.
check=$name-check
end=$(($(date +%s) + seconds))
while state=$(docker inspect --type container --format '{{.State.Running}} {{.State.ExitCode}}' "$check" 2>/dev/null); do
    [ "${state%% *}" = true ] && [ "$(date +%s)" -lt "$end" ] || break
    sleep 0.3
done
[ "$state" = "false 0" ] || docker logs "$check" 2>&1
[ "${state%% *}" != true ] || echo "It has not said within $seconds s whether it accepts its settings."
docker rm --force "$check" >/dev/null 2>&1
[ "$state" = "false 0" ]
