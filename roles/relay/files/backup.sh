# Stop the relay and copy its database, so that the image before can have it back. Before it: name and directory.
docker stop "$name" >/dev/null || exit 1
cd "$directory/data" || exit 1
rm -rf .before-upgrade.new
mkdir -m 700 .before-upgrade.new || exit 1
for file in relay.db relay.db-wal; do
    [ ! -e "$file" ] || cp -p "$file" .before-upgrade.new/ || { rm -rf .before-upgrade.new; docker start "$name"; exit 1; }
done
rm -rf .before-upgrade
mv .before-upgrade.new .before-upgrade
