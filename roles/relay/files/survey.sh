# What the host is like, as name=value lines. Before it: name, directory, kind, network and wanted, an image. Needs sh and the usual
# tools only.
LC_ALL=C
export LC_ALL

say() { printf '%s=%s\n' "$1" "$2"; }

# A run that was cut off may have left its swap at work, which goes on to its end: see swap.sh.
[ ! -e "$directory/.swap.lock" ] || flock "$directory/.swap.lock" true

free_mb() { df -Pk "$1" | awk 'NR == 2 { print int($4 / 1024) }'; }

# The value of a name in one of Unraid's files: name="value".
of() { sed -n "s/^$1=\"\{0,1\}\([^\"]*\).*/\1/p" "$2" 2>/dev/null | head -n 1; }

# The nearest directory that is there: a mount point's free space is that of what is mounted.
there=$directory
while [ ! -d "$there" ]; do there=$(dirname "$there"); done
# /mnt/user has the room of all disks together. A share's new files come to its pool, or to the array. (An exclusive share is a link.)
case $kind,$directory in
    unraid,/mnt/user/*)
        share=${directory#/mnt/user/}
        share=${share%%/*}
        case $(of shareUseCache "/boot/config/shares/$share.cfg") in
            only | prefer | yes) place=/mnt/$(of shareCachePool "/boot/config/shares/$share.cfg") ;;
            *) place=/mnt/user0 ;;
        esac
        if [ ! -L "/mnt/user/$share" ] && mountpoint -q "$place"; then there=$place; fi
        ;;
esac

# A port is in use if a socket listens on it, whoever owns it: /proc has them in hexadecimal, state 0A.
listening() {
    for ports in $(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" { sub(/.*:/, "", $2); print $2 }' | sort -u); do
        printf '%d ' "0x$ports"
    done
}

say arch "$(uname -m)"
say free_mb "$(free_mb "$there")"
say listening "$(listening)"
# None where it is not known.
say addresses "$(ip -o addr show 2>/dev/null | awk '{ sub("/.*", "", $4); print $4 }' | tr '\n' ' ')"
say kept "$([ -d "$directory/.good" ] || [ -d "$directory/.good.old" ] && echo yes)"

if [ "$kind" = unraid ]; then
    say unraid "$(of version /etc/unraid-version)"
    say array "$(of fsState /var/local/emhttp/var.ini)"
    say timezone "$(of timeZone /var/local/emhttp/var.ini)"
    say hostname "$(of NAME /var/local/emhttp/var.ini)"
    say share "$(mountpoint -q /mnt/user && echo mounted)"
    say docker_enabled "$(of DOCKER_ENABLED /boot/config/docker.cfg)"
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
say docker_free_mb "$([ ! -d "$storage" ] || free_mb "$storage")"
say ports "$(docker ps --format '{{.Names}} {{.Ports}}' | tr '\n' ';')"
say container "$(docker inspect --type container --format '{{.State.Status}}' "$name" 2>/dev/null)"
say owner "$(docker inspect --type container --format '{{index .Config.Labels "smtp-relay.managed"}}' "$name" 2>/dev/null)"
say image "$(docker inspect --type container --format '{{.Config.Image}}' "$name" 2>/dev/null)"
say network_driver "$(docker network inspect --format '{{.Driver}}' "$network" 2>/dev/null)"
say network_subnets "$(docker network inspect --format '{{range .IPAM.Config}}{{.Subnet}} {{end}}' "$network" 2>/dev/null)"
# What has a name that a swap needs, and is not from one.
aside=$(sed -n 's/ .*//p' "$directory/.swap" 2>/dev/null)
say foreign "$(for other in "$name-next" "$name-before" "$name-check"; do
    docker inspect --type container --format '{{.Id}} {{index .Config.Labels "smtp-relay.managed"}}' "$other" 2>/dev/null |
        awk -v name="$other" -v aside="${aside:-none}" 'NF && $1 != aside && $2 != "ansible" { print name }'
done)"
say running_id "$(docker inspect --type container --format '{{.Image}}' "$name" 2>/dev/null)"
say wanted_image "$(docker image inspect --format '{{.Id}}' "$wanted" 2>/dev/null)"
say secrets "$(ls "$directory/secrets" 2>/dev/null | tr '\n' ' ')"
say good_image "$(sed -n 1p "$directory/config/.image" 2>/dev/null)"
say good_id "$(sed -n 2p "$directory/config/.image" 2>/dev/null)"
