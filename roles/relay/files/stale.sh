# What the running relay has not read yet: "restart", "reload" or nothing. Before it: name, directory and, as names below
# it, reloaded, what a reload reads again, and gone, what nothing reads any more. All else there is read at the start only.
#
# It is told from the files' times, not from what this run has changed: an interrupted run leaves no change behind.
LC_ALL=C
export LC_ALL
started=$(docker inspect --type container --format '{{.State.StartedAt}}' "$name" 2>/dev/null) || exit 0
cd "$directory" || exit 1
mark=$(mktemp) || exit 1
trap 'rm -f "$mark"' EXIT
# Busybox knows neither fractions of a second nor the letters in between.
touch -d "$started" "$mark" 2>/dev/null || TZ=UTC0 touch -d "$(echo "${started%%.*}" | tr T ' ')" "$mark" || exit 1

files=$(find config secrets -type f ! -name '.*' -newer "$mark") || exit 1
answer=
for file in $files; do
    case " $gone " in *" $file "*) continue ;; esac
    case " $reloaded " in
        *" $file "*) [ -e config/.reloaded ] && [ ! "$file" -nt config/.reloaded ] || answer=${answer:-reload} ;;
        *) answer=restart ;;
    esac
done
printf '%s\n' "$answer"
