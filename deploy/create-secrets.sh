#!/bin/sh
# Create the passwords and the certificate that docker-compose.full.yml mounts. What exists is kept,
# so it is safe to run again.
#
#   deploy/create-secrets.sh [--host NAME]...    names of this server besides localhost
#
# The names are written into the certificate and into deploy/tls/hosts.conf, which nginx reads.
# Without --host, both keep their names.
#
# A certificate of your own: put it into deploy/tls as tls.crt and tls.key first; only user 101 may
# read the key. Later runs renew a certificate that this script has made.
#
# Containers of several users read the secrets, so the files are readable, and the folder keeps other
# users of this machine out.
set -eu
umask 022
usage="usage: $0 [--host NAME]..."
if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then
    echo "$usage"
    sed -n '2,/^$/s/^# \{0,1\}//p;/^set /q' "$0"
    exit 0
fi
# Arguments are checked before anything is written. The names go into nginx's configuration, too.
hosts=
add_host() {
    case $1 in
        '' | -* | *[!A-Za-z0-9.:*-]*)
            echo "$0: --host '$1' is not a name or address; $usage" >&2
            exit 2
            ;;
        localhost | 127.0.0.1 | ::1) ;;
        *:*) hosts="$hosts [$1]" ;;
        *) hosts="$hosts $1" ;;
    esac
}
is_value=
for argument; do
    if [ -n "$is_value" ]; then
        add_host "$argument"
        is_value=
        continue
    fi
    case $argument in
        --host) is_value=1 ;;
        --host=*) add_host "${argument#--host=}" ;;
        *) echo "$0: unexpected argument '$argument'; $usage" >&2; exit 2 ;;
    esac
done
if [ -n "$is_value" ]; then
    echo "$0: --host needs a name, such as --host llm.example.org" >&2
    exit 2
fi
cd "$(dirname "$0")"
secrets=secrets tls=tls
mkdir -p "$secrets" "$tls"
chmod 700 "$secrets"

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

# Write standard input to a new file; readers never see half of it.
create() {
    cat >"$secrets/.$1.new"
    chmod 444 "$secrets/.$1.new"
    mv "$secrets/.$1.new" "$secrets/$1"
    echo "created  deploy/secrets/$1"
}

# Tell whether files are all missing. Some of them without the others cannot be used.
missing() {
    found=0
    for name; do
        if [ -e "$secrets/$name" ]; then found=$((found + 1)); fi
    done
    if [ "$found" -gt 0 ] && [ "$found" -lt $# ]; then
        echo "deploy/secrets has only some of: $*. Restore the others, or remove these." >&2
        exit 1
    fi
    if [ "$found" -gt 0 ]; then
        echo "kept     $*"
        return 1
    fi
}

if missing maxgate_auth__pepper; then
    random | create maxgate_auth__pepper
fi
if missing maxgate_auth__metrics_key; then
    random | create maxgate_auth__metrics_key
fi
if missing postgres_password maxgate_database__url; then
    password=$(random)
    printf %s "$password" | create postgres_password
    printf 'postgresql://maxgate:%s@postgres:5432/maxgate' "$password" | create maxgate_database__url
fi
if missing redis_acl maxgate_redis__url; then
    password=$(random)
    hash=$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)
    # The permissions that docs/redis.md lists, without one that Redis 7.0 does not know.
    create redis_acl <<ACL
user default off
user maxgate on #$hash resetkeys ~maxgate:* +evalsha +eval +get +set +time +select +client|setname +zadd +zrange +zrevrange +zrangebyscore +zremrangebyscore +zremrangebyrank +pexpire +pexpireat +exists +hset +hgetall +hdel +hincrby
ACL
    printf 'redis://maxgate:%s@redis:6379/0' "$password" | create maxgate_redis__url
fi
if missing grafana_password; then
    random | create grafana_password
fi

if [ -n "$hosts" ]; then
    echo "server_name$hosts;" >"$tls/.hosts.conf.new"
    mv "$tls/.hosts.conf.new" "$tls/hosts.conf"
    echo "written  deploy/tls/hosts.conf:$hosts"
elif [ $# -gt 0 ]; then
    rm -f "$tls/hosts.conf"
fi
if [ -e "$tls/tls.crt" ] && [ ! -e "$secrets/dev-ca" ]; then
    echo "kept     tls.crt tls.key"
else
    image=${MAXGATE_IMAGE:-maxgate/gateway:0.1.0}
    # Compose reads the port from the shell or from .env. An image that is older than this script
    # ignores the variable.
    port=${GATEWAY_TLS_PORT:-$(sed -n 's/^GATEWAY_TLS_PORT=//p' ../.env 2>/dev/null | tail -n 1)}
    case $port in '' | *[!0-9]*) port=8443 ;; esac
    docker image inspect "$image" >/dev/null 2>&1 || docker build --tag "$image" ..
    # A certificate that is still valid is kept. Folders have the same path inside, so that the
    # messages are right. Only nginx's user may read the key.
    docker run --rm --network none --user 0 --read-only --env GATEWAY_TLS_PORT="$port" \
        --volume "$PWD/$tls:$PWD/$tls" --volume "$PWD/$secrets:$PWD/$secrets" --entrypoint sh \
        "$image" -ec 'tls=$1 ca=$2; shift 2
            maxgate certs dev --out "$tls" --ca-dir "$ca" "$@"
            chown 101:101 "$tls/tls.key"' \
        sh "$PWD/$tls" "$PWD/$secrets/dev-ca" "$@"
fi
