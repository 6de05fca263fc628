#!/bin/sh
# Runs nginx with the replicas of the gateway that are ready, and reloads it when these change.
#
# A replica that drains still has its name and accepts connections, but responds with 503, and
# least_conn would prefer it. So each one is asked every second whether it is ready. Addresses in
# /tmp/draining are left out at once; deploy/rolling-update.sh writes them before it stops a replica.
#
# A reload ends idle connections of clients, so other changes must last: when all replicas lose their
# engine, and when it is back, they notice it within 5 s, and the list stays as it was.
set -u
folder=${REPLICAS_FOLDER:-/tmp}
replicas=$folder/replicas.conf draining=$folder/draining
# More than upstream.probe_interval, with which gateways look at engines.
PATIENCE=7
touch "$draining"

# Print the addresses of the service, one per line.
look_up() { getent ahostsv4 gateway 2>/dev/null | cut -d ' ' -f 1 | sort -u; }

# Print the state of a replica: ready, waiting for an engine, or gone. One that drains is gone, too.
describe() {
  if grep -qxF "$1" "$draining"; then
    echo gone
    return
  fi
  case $(curl --silent --max-time 2 --write-out ' %{http_code}' "http://$1:8000/health/ready") in
    *' 200') echo ready ;;
    *'"not ready"'*' 503') echo waiting ;;
    *) echo gone ;;
  esac
}

# Set `alive` to the servers that are not gone, and `found` to those that are ready. If none is, `found`
# has those that wait, since the gateway's 503 says why, or all.
look() {
  ready='' alive='' all=''
  for address in $(look_up); do
    line="server $address:8000 max_fails=3 fail_timeout=5s;
"
    all=$all$line
    case $(describe "$address") in
      ready) ready=$ready$line alive=$alive$line ;;
      waiting) alive=$alive$line ;;
    esac
  done
  found=${ready:-${alive:-$all}}
}

# Tell whether nginx has a server that is gone.
has_lost() { printf %s "$servers" | grep -qvxF "$alive"; }

while look && [ -z "$found" ]; do
  sleep 1 &
  wait $!
done
servers=$found next='' looks=0
printf %s "$servers" >"$replicas"
nginx -g 'daemon off;' &
nginx=$!
trap 'kill -QUIT $nginx' TERM INT QUIT
while kill -0 "$nginx" 2>/dev/null; do
  sleep 1 &
  wait $!
  look
  if [ "$found" != "$next" ]; then
    next=$found looks=0
  fi
  looks=$((looks + 1))
  if [ -z "$found" ] || [ "$found" = "$servers" ]; then
    continue
  fi
  if [ "$looks" -ge "$PATIENCE" ] || has_lost; then
    servers=$found
    printf %s "$servers" >"$replicas"
    kill -HUP "$nginx" 2>/dev/null
  fi
done
wait "$nginx"
