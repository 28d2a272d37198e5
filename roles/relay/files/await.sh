# Wait until the relay answers, at most $seconds. Before it: name and seconds. Exit status 0: it answers; 1: it does not, and the
# end of its log is printed.
LC_ALL=C
export LC_ALL
end=$(($(date +%s) + seconds))
while [ "$(date +%s)" -lt "$end" ]; do
    docker exec "$name" smtp-relay health >/dev/null 2>&1 && exit 0
    # Docker starts it again and again: that will not get better.
    [ "$(docker inspect --type container --format '{{.RestartCount}}' "$name" 2>/dev/null || echo 0)" -ge 3 ] && break
    [ "$(docker inspect --type container --format '{{.State.Status}}' "$name" 2>/dev/null)" = exited ] && break
    sleep 0.3
done
docker logs --tail 15 "$name" 2>&1
exit 1
