#!/bin/sh
# Runs nginx, and reloads it when the addresses of the replicas change.
#
#   sh watch-replicas.sh [CONFIGURATION]
#
# REPLICAS_HOST is the name of the replicas (gateway), REPLICAS_INTERVAL the seconds between two
# look-ups (5). nginx starts once the name has an address, and runs on while look-ups fail.
set -u
host=${REPLICAS_HOST:-gateway}
interval=${REPLICAS_INTERVAL:-5}
configuration=${1:-/etc/nginx/nginx.conf}

look_up() {
  { getent ahostsv4 "$host" || getent hosts "$host"; } 2>/dev/null | cut -d' ' -f1 | sort -u
}

trap 'exit 0' TERM INT QUIT
while addresses=$(look_up); [ -z "$addresses" ]; do
  sleep "$interval" &
  wait $!
done
nginx -c "$configuration" -g 'daemon off;' &
nginx=$!
trap 'kill -QUIT $nginx' TERM INT QUIT
while kill -0 "$nginx" 2>/dev/null; do
  sleep "$interval" &
  wait $!
  found=$(look_up)
  if [ -n "$found" ] && [ "$found" != "$addresses" ]; then
    addresses=$found
    kill -HUP "$nginx" 2>/dev/null
  fi
done
wait "$nginx"
