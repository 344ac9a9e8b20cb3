# The image of the operator, the node agent and the demo's programs: docker build -t moorage:latest .
FROM debian:trixie-slim AS dependencies
RUN apt-get -qq update \
 && apt-get -qq install -y --no-install-recommends ca-certificates python3-venv \
 && rm -rf /var/lib/apt/lists/*
COPY deploy/image/build.lock deploy/image/run.lock /locks/
# Two environments: one builds the wheel, the other is what runs; the second needs no pip.
RUN python3 -m venv /build \
 && /build/bin/pip install --quiet --no-cache-dir --only-binary :all: --require-hashes -r /locks/build.lock \
 && python3 -m venv --without-pip /opt/moorage \
 && /build/bin/pip --python /opt/moorage/bin/python install --quiet --no-cache-dir --only-binary :all: \
      --require-hashes -r /locks/run.lock

FROM dependencies AS wheel
COPY pyproject.toml README.md LICENSE /source/
COPY src /source/src
RUN /build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels /source \
 && /build/bin/pip --python /opt/moorage/bin/python install --quiet --no-deps --root /installed /wheels/*.whl

FROM debian:trixie-slim
# nft, conntrack and ip are the node agent's; the certificates are for health checks over HTTPS.
RUN apt-get -qq update \
 && apt-get -qq install -y --no-install-recommends ca-certificates conntrack iproute2 nftables python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/*
# What changes seldom comes first: a new version of Moorage is one small layer on top.
COPY --from=dependencies /opt/moorage /opt/moorage
COPY --from=wheel /installed/opt/moorage /opt/moorage
ENV PATH=/opt/moorage/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1
# By number, so that Kubernetes can tell that it is not root. The node agent's pod sets its own.
USER 65532:65532
ENTRYPOINT ["moorage"]
LABEL org.opencontainers.image.title="Moorage" \
      org.opencontainers.image.description="Sticky, health-checked connections from Kubernetes pods to services outside the cluster" \
      org.opencontainers.image.licenses="Apache-2.0"
