# Bring back the files that the relay last worked with, and the relay if it does not answer. Before it: common.sh. Exit status 1: it
# still does not, and the end of its log is printed; 2: the files could not be brought back.
restore_files || exit 2
docker exec "$name" smtp-relay health >/dev/null 2>&1 && exit 0
docker restart "$name" >/dev/null && answers "$name" && exit 0
end_of_log "$name"
exit 1
