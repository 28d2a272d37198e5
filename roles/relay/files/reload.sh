# Let the relay read its settings again and wait for its word on it. Before it: name and directory. Exit status 0: it has; 1: it refused,
# and its reasons are printed.
LC_ALL=C
export LC_ALL
touch "$directory/config/.reloading" || exit 1
trap 'rm -f "$directory/config/.reloading"' EXIT
since=$(date -u +%Y-%m-%dT%H:%M:%SZ)
docker kill --signal HUP "$name" >/dev/null || exit 1
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    said=$(docker logs --since "$since" "$name" 2>&1 | grep -E 'event=(reloaded|reload_refused|reload_failed)' | tail -n 1)
    case $said in
        # What stale.sh compares with: all that was written before is known now.
        *event=reloaded*) mv -f "$directory/config/.reloading" "$directory/config/.reloaded"; exit ;;
        ?*) printf '%s\n' "$said"; exit 1 ;;
    esac
    sleep 0.5
done
echo "It has not answered within 10 seconds."
exit 1
