#!/bin/sh
# Replace the gateways of docker-compose.full.yml one by one, without losing a request or a stream.
#
#   deploy/rolling-update.sh VERSION    a tag of maxgate/gateway, such as 0.1.0
#
# It upgrades the database first; with a database that the version can use as it is, such as on the
# way back, that changes nothing, and with another one, the script ends there. Set GATEWAY_VERSION
# in .env afterwards. COMPOSE is the command (docker compose), and COMPOSE_FILE the files.
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
GATEWAY_VERSION=$1
COMPOSE_FILE=${COMPOSE_FILE:-docker-compose.full.yml}
export GATEWAY_VERSION COMPOSE_FILE
compose() { ${COMPOSE:-docker compose} "$@"; }

# nginx looks every second; a request takes up to 2 s.
NGINX_SECONDS=4

wait_until_healthy() {
    for _ in $(seq 120); do
        states=$(compose ps -q gateway | xargs docker inspect -f '{{.State.Health.Status}}' | sort -u)
        [ "$states" = healthy ] && return
        sleep 1
    done
    echo "a new gateway did not become healthy within 120 s; the old ones that are left run on" >&2
    exit 1
}

old=$(compose ps -q gateway)
if [ -z "$old" ]; then
    echo "no gateway of $COMPOSE_FILE runs, so nothing was replaced; start them with" \
        "GATEWAY_VERSION=$GATEWAY_VERSION docker compose -f $COMPOSE_FILE up --detach" >&2
    exit 1
fi
replicas=$(echo "$old" | wc -l)
compose run --rm --no-deps migrate
for container in $old; do
    compose up --detach --no-deps --no-recreate --no-build \
        --scale gateway=$((replicas + 1)) gateway
    wait_until_healthy
    address=$(docker inspect -f \
        '{{range $name, $n := .NetworkSettings.Networks}}{{$name}} {{$n.IPAddress}}{{"\n"}}{{end}}' \
        "$container" | sed -n 's/.*_frontend //p')
    compose exec -T nginx sh -c "echo $address >>/tmp/draining"
    sleep "$NGINX_SECONDS"
    # SIGTERM: its requests have 120 s to finish.
    docker stop --time 140 "$container" >/dev/null
    docker rm "$container" >/dev/null
    compose exec -T nginx sh -c ': >/tmp/draining'
    echo "replaced $address"
done
