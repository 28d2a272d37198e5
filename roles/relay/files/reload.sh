# Let the relay read its settings again and wait for its word on it. Before it: name. Exit status 0: it has; 1: it refused, and its
# reasons are printed.
LC_ALL=C
export LC_ALL
since=$(date -u +%Y-%m-%dT%H:%M:%S.%NZ)
docker kill --signal HUP "$name" >/dev/null || exit 1
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    said=$(docker logs --since "$since" "$name" 2>&1 | grep -E 'event=(reloaded|reload_refused|reload_failed)')
    case $said in
        *event=reloaded*) exit 0 ;;
        ?*) printf '%s\n' "$said"; exit 1 ;;
    esac
    sleep 0.5
done
echo "It has not answered within 10 seconds."
exit 1
