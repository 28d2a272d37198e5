# Forget the copy that was made for an upgrade that failed; the one before it is the latest again. Before it: directory.
cd "$directory/data" || exit 1
rm -rf .before-upgrade
[ ! -d .before-upgrade.older ] || mv .before-upgrade.older .before-upgrade
