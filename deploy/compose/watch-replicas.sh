#!/bin/sh
# Runs nginx with the replicas of the gateway that are ready, and reloads it when these change.
#
# A replica that drains still has its name and accepts connections, but responds with 503, and
# least_conn would prefer it. So each one is asked every second whether it is ready. Addresses in
# /tmp/draining are left out at once; deploy/rolling-update.sh writes them before it stops a replica.
set -u
replicas=/tmp/replicas.conf
touch /tmp/draining

# Print the addresses of the service, one per line.
look_up() { getent ahostsv4 gateway 2>/dev/null | cut -d ' ' -f 1 | sort -u; }

is_ready() {
  curl --silent --fail --max-time 2 --output /dev/null "http://$1:8000/health/ready"
}

# Print the servers that are ready; all of them if none is, since the gateway's 503 says why.
list_servers() {
  ready='' all=''
  for address in $(look_up); do
    line="server $address:8000 max_fails=3 fail_timeout=5s;"
    all="$all$line
"
    if ! grep -qxF "$address" /tmp/draining && is_ready "$address"; then
      ready="$ready$line
"
    fi
  done
  printf %s "${ready:-$all}"
}

while servers=$(list_servers); [ -z "$servers" ]; do
  sleep 1 &
  wait $!
done
echo "$servers" >$replicas
nginx -g 'daemon off;' &
nginx=$!
trap 'kill -QUIT $nginx' TERM INT QUIT
while kill -0 "$nginx" 2>/dev/null; do
  sleep 1 &
  wait $!
  found=$(list_servers)
  if [ -n "$found" ] && [ "$found" != "$servers" ]; then
    servers=$found
    echo "$servers" >$replicas
    kill -HUP "$nginx" 2>/dev/null
  fi
done
wait "$nginx"
