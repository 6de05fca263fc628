# Images that benchmarks/compose_stack.py needs beside the project's own.

# Stand-ins behave as the official images where docker-compose.full.yml relies on them: an
# unprivileged user owns the folder of the data, and the password is in a file.
FROM postgres:16 AS postgres
RUN rm -rf "$PGDATA" && install -d -o postgres -g postgres -m 700 "$PGDATA"
COPY benchmarks/compose_postgres.sh /usr/local/bin/start-postgres
CMD ["/bin/bash", "/usr/local/bin/start-postgres"]

FROM prom/prometheus:v2.42.0 AS prometheus
RUN install -d -o 65534 -g 65534 /prometheus

# The gateway with the code of another version, and the libraries of this one.
FROM maxgate/gateway:0.1.0 AS previous
USER root
RUN rm -rf /opt/venv/lib/python3.11/site-packages/maxgate
COPY maxgate /opt/venv/lib/python3.11/site-packages/maxgate
USER 10001:10001
