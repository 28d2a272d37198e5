# Stop the relay and give it back the database of the time before the upgrade. Before it: name and directory.
docker stop "$name" >/dev/null
cd "$directory/data" || exit 1
mkdir -m 700 -p .failed-upgrade
for file in relay.db relay.db-wal relay.db-shm; do
    [ ! -e "$file" ] || mv -f "$file" .failed-upgrade/ || exit 1
done
cp -p .before-upgrade/* . && docker start "$name" >/dev/null
