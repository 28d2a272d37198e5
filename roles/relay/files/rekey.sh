# Stop the relay and encrypt its vault with the key in secrets/vault_key_next. Before it: name, directory, image and user. The relay stays
# stopped, since the key that it knows opens nothing any more; if nothing was changed, it is started again.
! docker inspect --type container "$name" >/dev/null 2>&1 || docker stop "$name" >/dev/null || exit 1
if ! docker run --rm --network none --read-only --cap-drop ALL --security-opt no-new-privileges --tmpfs /tmp \
    --user "$user" --volume "$directory/data:/data" --volume "$directory/config:/config:ro" \
    --volume "$directory/secrets:/secrets:ro" --volume "$directory/certs:/certs:ro" \
    --env RELAY_CONFIG=/config/relay.toml --env RELAY_VAULT_KEY_FILE=/secrets/vault_key \
    "$image" vault rekey --new-key-file /secrets/vault_key_next 2>&1; then
    docker start "$name" >/dev/null
    exit 1
fi
# To go back to the settings of before must not bring back a key that opens nothing.
[ ! -d "$directory/.good/secrets" ] || cp -p "$directory/secrets/vault_key_next" "$directory/.good/secrets/vault_key"
