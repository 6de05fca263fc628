# Stand-ins for official images, on top of those of plain Debian. They behave as the official ones
# where docker-compose.full.yml relies on them: an unprivileged user owns the folder of the data,
# and the password is in a file.
FROM postgres:16 AS postgres
RUN rm -rf "$PGDATA" && install -d -o postgres -g postgres -m 700 "$PGDATA" \
    && chmod 3777 /run/postgresql
COPY compose_postgres.sh /usr/local/bin/start-postgres
CMD ["/bin/bash", "/usr/local/bin/start-postgres"]

FROM prom/prometheus:v2.42.0 AS prometheus
RUN install -d -o 65534 -g 65534 /prometheus
