# The gateway, and the `videosdgx` command beside it: docker build -f docker/gateway.Dockerfile -t videosdgx/gateway .
#
#   BUILD_IMAGE    Rust 1.95 or newer on Debian
#   RUNTIME_IMAGE  Debian of the same release, with nothing on it
ARG BUILD_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=debian:bookworm-slim

FROM ${BUILD_IMAGE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
ENV CARGO_INCREMENTAL=0
COPY . .
RUN cargo build --release --locked --bins -p videosdgx-gateway -p videosdgx-client \
    && install -D -t /opt/videosdgx/bin target/release/videosdgx-gateway target/release/videosdgx \
    && rm -rf target

FROM ${RUNTIME_IMAGE}
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libgcc-s1 tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 videosdgx \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin videosdgx \
    && install -d -o videosdgx -g videosdgx -m 0750 /var/lib/videosdgx/auth \
    && install -d -o videosdgx -g videosdgx -m 0755 /var/lib/videosdgx/models
COPY --from=build /opt/videosdgx /opt/videosdgx
ENV PATH=/opt/videosdgx/bin:$PATH \
    VIDEOSDGX_LISTEN=0.0.0.0:8080 \
    VIDEOSDGX_AUTH_DIR=/var/lib/videosdgx/auth \
    VIDEOSDGX_MODELS_DIR=/var/lib/videosdgx/models
USER 10001:10001
WORKDIR /var/lib/videosdgx
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=10s --retries=3 --start-period=40s CMD ["videosdgx", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--"]
CMD ["videosdgx-gateway"]
