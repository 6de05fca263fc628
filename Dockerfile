# The gateway. Build: docker build -t maxgate/gateway:0.1.0 .
FROM python:3.11-slim-bookworm AS build
RUN python -m venv --without-pip /opt/venv
COPY LICENSE README.md pyproject.toml /src/
COPY maxgate /src/maxgate
COPY models /src/models
# pip runs from outside, so the image needs no installer.
RUN python -m pip --python /opt/venv/bin/python install --no-cache-dir '/src[guardrails,host,jwt,otel,postgres,redis,tls]'

FROM build AS build-tools
RUN python -m pip --python /opt/venv/bin/python install --no-cache-dir '/src[tools]'

# The tools that deploy/kubernetes/loadtest runs.
# Build: docker build --target tools -t maxgate-tools:latest .
FROM python:3.11-slim-bookworm AS tools
COPY --from=build-tools /opt/venv /opt/venv
COPY load_test.py monitor.py visualize_results.py /opt/maxgate/
ENV PATH=/opt/venv/bin:$PATH
USER 10001:10001
WORKDIR /opt/maxgate
CMD ["python", "load_test.py", "--help"]

FROM python:3.11-slim-bookworm
# Numeric ids, so that Kubernetes can verify that the user is not root.
RUN groupadd --gid 10001 maxgate \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/maxgate maxgate \
    && install --directory --owner=maxgate --group=maxgate /var/cache/maxgate /var/lib/maxgate \
    && install --directory /etc/maxgate
COPY --from=build /opt/venv /opt/venv
# Tokenizers are in prepared models under MAXGATE_CACHE_DIR and in downloads under HF_HOME.
ENV PATH=/opt/venv/bin:$PATH \
    MAXGATE_SERVER__HOST=0.0.0.0 \
    MAXGATE_CACHE_DIR=/var/cache/maxgate \
    MAXGATE_STATE_DIR=/var/lib/maxgate \
    HF_HOME=/var/lib/huggingface
USER 10001:10001
# A mounted /etc/maxgate/maxgate.yaml is read without a flag.
WORKDIR /etc/maxgate
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", \
    "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('MAXGATE_SERVER__PORT') or os.environ.get('MAXGATE_PORT') or 8000), timeout=4); c.request('GET', '/health/live'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["maxgate"]
CMD ["serve"]
