# Stop the relay and copy its database, so that the image before can have it back. Before it: name and directory. Prints "copied" if there
# was one. The copy before this one is kept beside it, until the new image has shown that it works.
! docker inspect --type container "$name" >/dev/null 2>&1 || docker stop "$name" >/dev/null || exit 1
cd "$directory/data" || exit 1
[ -e relay.db ] || exit 0
rm -rf .before-upgrade.new
mkdir -m 700 .before-upgrade.new || exit 1
for file in relay.db relay.db-wal; do
    [ ! -e "$file" ] || cp -p "$file" .before-upgrade.new/ || { rm -rf .before-upgrade.new; docker start "$name"; exit 1; }
done
if [ -d .before-upgrade ]; then
    rm -rf .before-upgrade.older
    mv .before-upgrade .before-upgrade.older
fi
mv .before-upgrade.new .before-upgrade && echo copied
