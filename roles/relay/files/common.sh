# What the scripts that follow share. Before it: name, directory and seconds.
LC_ALL=C
export LC_ALL
exec 2>&1
cd "$directory" || exit 2

id_of() { docker inspect --type container --format '{{.Id}}' "$1" 2>/dev/null; }

# The container answers, within $seconds.
answers() {
    end=$(($(date +%s) + seconds))
    while [ "$(date +%s)" -lt "$end" ]; do
        docker exec "$1" smtp-relay health >/dev/null 2>&1 && return
        # Docker starts it again and again: that will not get better.
        [ "$(docker inspect --type container --format '{{.RestartCount}}' "$1" 2>/dev/null || echo 0)" -ge 3 ] && return 1
        [ "$(docker inspect --type container --format '{{.State.Status}}' "$1" 2>/dev/null)" = exited ] && return 1
        sleep 0.3
    done
    return 1
}

end_of_log() { docker logs --tail 15 "$1" 2>&1; }

# Settings, secrets and certificates as they are now are those that the relay works with.
keep_files() {
    for each in config secrets certs; do
        [ -d .good ] && diff -r "$each" ".good/$each" >/dev/null 2>&1 || break
        [ "$each" != certs ] || return 0
    done
    rm -rf .good.new
    mkdir -m 700 .good.new && cp -Rp config secrets certs .good.new/ || return 1
    [ ! -d .good ] || { rm -rf .good.old && mv .good .good.old; } || return 1
    mv .good.new .good && rm -rf .good.old
}

# Bring back those that it last worked with. The directories stay: a running container has them mounted.
restore_files() {
    [ -d .good ] || [ ! -d .good.old ] || mv .good.old .good
    [ -d .good ] || return 0
    for each in config secrets certs; do
        find "$each" -mindepth 1 -maxdepth 1 -exec rm -rf {} + && cp -Rp ".good/$each/." "$each/" || return 1
    done
}
