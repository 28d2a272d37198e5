# What the host is like, as name=value lines. Before it: name, directory, kind and wanted, an image. Needs sh and the usual tools only.
LC_ALL=C
export LC_ALL

say() { printf '%s=%s\n' "$1" "$2"; }

# The nearest directory that is there: a mount point's free space is that of what is mounted.
there=$directory
while [ ! -d "$there" ]; do there=$(dirname "$there"); done

# A port is in use if a socket listens on it, whoever owns it: /proc has them in hexadecimal, state 0A.
listening() {
    for ports in $(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" { sub(/.*:/, "", $2); print $2 }' | sort -u); do
        printf '%d ' "0x$ports"
    done
}

say arch "$(uname -m)"
say hostname "$(hostname 2>/dev/null || cat /proc/sys/kernel/hostname)"
say free_mb "$(df -Pk "$there" | awk 'NR == 2 { print int($4 / 1024) }')"
say listening "$(listening)"

if [ "$kind" = unraid ]; then
    say unraid "$([ -e /etc/unraid-version ] && sed -n 's/^version="\{0,1\}\([^"]*\).*/\1/p' /etc/unraid-version)"
    say array "$(sed -n 's/^fsState="\{0,1\}\([^"]*\).*/\1/p' /var/local/emhttp/var.ini 2>/dev/null)"
    say timezone "$(sed -n 's/^timeZone="\{0,1\}\([^"]*\).*/\1/p' /var/local/emhttp/var.ini 2>/dev/null)"
    say share "$(mountpoint -q /mnt/user && echo mounted)"
    say docker_enabled "$(sed -n 's/^DOCKER_ENABLED="\{0,1\}\([^"]*\).*/\1/p' /boot/config/docker.cfg 2>/dev/null)"
    # "name seconds" is a pause that somebody has chosen in the web interface.
    say autostart "$(awk -v name="$name" '$1 == name' /var/lib/docker/unraid-autostart 2>/dev/null | head -n 1)"
    say docker_storage "$(mountpoint -q /var/lib/docker && echo mounted)"
fi

if ! command -v docker >/dev/null 2>&1; then
    say engine_trouble 'there is no docker command'
    exit 0
fi
if ! engine=$(docker version --format '{{.Server.Version}}' 2>&1); then
    say engine_trouble "$(printf '%s' "$engine" | tr '\n' ' ')"
    exit 0
fi
say engine "$engine"
# It is not seen from here if the engine is elsewhere, as with Docker Desktop.
storage=$(docker info --format '{{.DockerRootDir}}' 2>/dev/null)
say docker_free_mb "$([ ! -d "$storage" ] || df -Pk "$storage" | awk 'NR == 2 { print int($4 / 1024) }')"
say ports "$(docker ps --format '{{.Names}} {{.Ports}}' | tr '\n' ';')"
say container "$(docker inspect --type container --format '{{.State.Status}}' "$name" 2>/dev/null)"
say owner "$(docker inspect --type container --format '{{index .Config.Labels "smtp-relay.managed"}}' "$name" 2>/dev/null)"
say image "$(docker inspect --type container --format '{{.Config.Image}}' "$name" 2>/dev/null)"
say running_id "$(docker inspect --type container --format '{{.Image}}' "$name" 2>/dev/null)"
say wanted_image "$(docker image inspect --format '{{.Id}}' "$wanted" 2>/dev/null)"
say secrets "$(ls "$directory/secrets" 2>/dev/null | tr '\n' ' ')"
say good_image "$(sed -n 1p "$directory/config/.image" 2>/dev/null)"
say good_id "$(sed -n 2p "$directory/config/.image" 2>/dev/null)"
