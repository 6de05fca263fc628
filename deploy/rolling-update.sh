#!/bin/sh
# Replace the gateways of docker-compose.full.yml one by one, without losing a request or a stream.
#
#   deploy/rolling-update.sh VERSION    a tag of maxgate/gateway, such as 0.1.0
#
# It upgrades the database first; with a database that the version can use as it is, such as on the
# way back, that changes nothing, and with another one, the script ends there. Set GATEWAY_VERSION
# in .env afterwards. After Ctrl-C or a gateway that does not start, run it again, with the same
# version or with the previous one: it goes on from where it was. COMPOSE is the command (docker
# compose), and COMPOSE_FILE the files, as in .env (docker-compose.full.yml).
set -eu
usage="usage: $0 VERSION    a tag of maxgate/gateway, such as 0.1.0"
if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then
    echo "$usage"
    exit 0
fi
if [ $# -ne 1 ]; then
    echo "$usage" >&2
    exit 2
fi
case $1 in
    '' | [!A-Za-z0-9_]* | *[!A-Za-z0-9_.-]*)
        echo "$0: '$1' is not a tag of an image; $usage" >&2
        exit 2
        ;;
esac
cd "$(dirname "$0")/.."
export GATEWAY_VERSION="$1"
# Compose itself reads .env, with the overrides that it names.
if [ -z "${COMPOSE_FILE:-}" ] && ! grep -qs '^ *COMPOSE_FILE=' .env; then
    export COMPOSE_FILE=docker-compose.full.yml
fi
compose() { ${COMPOSE:-docker compose} "$@"; }

# nginx looks every second; a request takes up to 2 s.
NGINX_SECONDS=4
# The number of replicas while an update runs. One that was interrupted has left one more.
count_file=deploy/.rolling-update

# Print the gateways in a state, such as running.
list_gateways() {
    label=label=com.docker.compose
    docker ps --all --quiet --no-trunc --filter "status=$1" --filter "$label.project=$project" \
        --filter "$label.service=gateway" --filter "$label.oneoff=False"
}

# Wait for the gateways beside those of the arguments.
wait_until_healthy() {
    for _ in $(seq 120); do
        new=
        for id in $(list_gateways running); do
            case " $* " in *" $id "*) ;; *) new="$new $id" ;; esac
        done
        # shellcheck disable=SC2086  # a list of ids
        states=$(echo $new | xargs -r docker inspect -f '{{.State.Health.Status}}' | sort -u)
        if [ -z "$new" ] || [ "$states" = healthy ]; then return; fi
        sleep 1
    done
    echo "a new gateway did not become healthy within 120 s; the old ones that are left run on." \
        "Run it again with their version to go back" >&2
    exit 1
}

found=$(compose ps -q gateway | head -n 1)
if [ -z "$found" ]; then
    file=${COMPOSE_FILE:-}
    echo "no gateway of ${file:-the files in .env} runs, so nothing was replaced; start them with:" \
        "${file:+COMPOSE_FILE=$file }GATEWAY_VERSION=$GATEWAY_VERSION docker compose up --detach" >&2
    exit 1
fi
project=$(docker inspect -f '{{index .Config.Labels "com.docker.compose.project"}}' "$found")
old=$(list_gateways running)
replicas=$(echo "$old" | wc -l)
wanted=$(cat "$count_file" 2>/dev/null || true)
if [ "$wanted" = "$replicas" ] || [ "$wanted" = $((replicas - 1)) ]; then
    echo "an update was interrupted; this one ends with $wanted gateways"
    replicas=$wanted
    list_gateways exited | xargs -r docker rm >/dev/null
    # Those with the image of this version stay, unless all have it. Unhealthy ones go first.
    image=$(docker image inspect -f '{{.Id}}' "maxgate/gateway:$GATEWAY_VERSION")
    others=$(echo "$old" | xargs docker inspect -f '{{.State.Health.Status}} {{.Image}} {{.Id}}' |
        grep -v " $image " | sort -r | cut -d ' ' -f 3 || true)
    old=${others:-$old}
fi
# shellcheck disable=SC2086
old=$(echo $old)
echo "$replicas" >"$count_file"
undrain() { compose exec -T nginx sh -c ': >/tmp/draining' 2>/dev/null || true; }
trap undrain EXIT
trap 'echo "interrupted; run it again, with this version or the previous one" >&2; exit 130' \
    HUP INT TERM

compose run --rm --no-deps migrate
for container in $old; do
    compose up --detach --no-deps --no-recreate --no-build \
        --scale gateway=$((replicas + 1)) gateway
    wait_until_healthy "$old"
    address=$(docker inspect -f \
        '{{range $name, $n := .NetworkSettings.Networks}}{{$name}} {{$n.IPAddress}}{{"\n"}}{{end}}' \
        "$container" | sed -n 's/.*_frontend //p')
    compose exec -T nginx sh -c "echo $address >>/tmp/draining"
    sleep "$NGINX_SECONDS"
    # SIGTERM: its requests have 120 s to finish.
    docker stop --time 140 "$container" >/dev/null
    docker rm "$container" >/dev/null
    undrain
    echo "replaced $address"
done
rm -f "$count_file"
