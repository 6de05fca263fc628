# Start PostgreSQL as the official image does: create the database in an empty folder first.
set -euo pipefail
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    export PGPASSWORD
    PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
    initdb --encoding=UTF8 --auth=scram-sha-256 --username="$POSTGRES_USER" \
        --pwfile="$POSTGRES_PASSWORD_FILE" >/dev/null
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    pg_ctl -w -o "-c listen_addresses= -c unix_socket_directories=/tmp" start >/dev/null
    createdb --host=/tmp --username="$POSTGRES_USER" "$POSTGRES_DB"
    pg_ctl -w stop >/dev/null
fi
exec postgres -c listen_addresses='*'
