# Put the container $name-next in the place of $name, and take it back if it does not answer. What ran before is stopped and kept aside
# as $name-before, and goes only when the new one has answered. Before it: common.sh and upgrade, "yes" if the image is another one: then
# the database is copied, so that the image before can have it back.
#
# It says outcome=WORD, and after that what the new one said:
#   taken     the new one runs
#   back      what ran before runs again, with the settings that it had
#   restored  the same, and with the database of before the upgrade; what the new one made of it is kept in data/.failed-upgrade
#   lost      what ran before does not answer either; what it says comes last
#   alone     nothing ran before
#
# Once begun it goes on to its end, whatever becomes of the connection. If even this is cut off (no power), the next swap finds in .swap
# what ran before.
trap '' HUP INT TERM PIPE
next=$name-next before=$name-before
exec 9>.swap.lock && flock 9 || exit 1
[ -n "$(id_of "$next")" ] || { echo "There is no container $next."; exit 1; }

copy_database() {
    cd data || return 1
    rm -rf .before-upgrade.new
    mkdir -m 700 .before-upgrade.new || return 1
    for file in relay.db relay.db-wal; do
        [ ! -e "$file" ] || cp -p "$file" .before-upgrade.new/ || { rm -rf .before-upgrade.new; return 1; }
    done
    # The copy of the upgrade before this one stays until the new image has shown that it works.
    rm -rf .before-upgrade.older
    [ ! -d .before-upgrade ] || mv .before-upgrade .before-upgrade.older
    mv .before-upgrade.new .before-upgrade
    cd ..
}

restore_database() {
    mkdir -m 700 -p data/.failed-upgrade
    for file in relay.db relay.db-wal relay.db-shm; do
        [ ! -e "data/$file" ] || mv -f "data/$file" data/.failed-upgrade/ || return 1
    done
    # The database itself comes last: while it is missing, it is known that this was cut off.
    rm -rf data/.restored
    mkdir -m 700 data/.restored && cp -p data/.before-upgrade/* data/.restored/ || return 1
    for file in relay.db-wal relay.db; do
        [ ! -e "data/.restored/$file" ] || mv "data/.restored/$file" data/ || return 1
    done
    rm -rf data/.restored
}

forget_copy() {
    rm -rf data/.before-upgrade
    [ ! -d data/.before-upgrade.older ] || mv data/.before-upgrade.older data/.before-upgrade
}

old='' copied=no
if [ -e .swap ]; then
    read -r old copied <.swap
    case $old in
        # What has the name now, if it is not the old one, never showed that it works.
        none | "$(id_of "$before")") docker rm --force "$name" >/dev/null 2>&1 ;;
        "$(id_of "$name")") docker stop "$name" >/dev/null ;;
        *) rm -f .swap ;; # somebody has tidied up
    esac
fi
if [ ! -e .swap ]; then
    docker rm "$before" >/dev/null 2>&1
    old=$(id_of "$name") copied=no
    if [ -n "$old" ]; then docker stop "$name" >/dev/null || exit 1; fi
    if [ "$upgrade" = yes ] && [ -e data/relay.db ]; then
        copy_database || { cd "$directory"; [ -z "$old" ] || docker start "$name" >/dev/null; exit 1; }
        copied=yes
    fi
    old=${old:-none}
    echo "$old $copied" >.swap
fi
[ "$copied" = no ] || [ -e data/relay.db ] || restore_database || exit 1
[ "$(id_of "$name")" != "$old" ] || docker rename "$name" "$before" || exit 1

said=
if docker rename "$next" "$name" && said=$(docker start "$name" 2>&1 >/dev/null) && answers "$name"; then
    keep_files
    rm -f .swap
    [ "$old" = none ] || docker rm "$before" >/dev/null
    echo outcome=taken
    exit
fi
said=${said:-$(end_of_log "$name")}

outcome=alone
if [ "$old" != none ]; then
    docker stop "$name" >/dev/null 2>&1
    docker rename "$name" "$next" # so that somebody can look at it
    docker rename "$before" "$name"
    restore_files
    # It worked: it may take its time.
    [ "$seconds" -ge 60 ] || seconds=60
    docker start "$name" >/dev/null 2>&1
    if answers "$name"; then
        outcome=back
    elif [ "$copied" = yes ] && docker stop "$name" >/dev/null && restore_database && docker start "$name" >/dev/null && answers "$name"; then
        outcome=restored
    else
        outcome=lost
        said="$said
What ran before says: $(end_of_log "$name")"
    fi
    [ "$outcome" = lost ] || [ "$copied" = no ] || forget_copy
fi
rm -f .swap
printf 'outcome=%s\n%s\n' "$outcome" "${said:-nothing}"
