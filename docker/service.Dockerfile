# One image for every service: docker build -f docker/service.Dockerfile --build-arg SERVICE=wan21 -t videosdgx/wan21 .
#
#   SERVICE        folder below services/
#   DEMO_CHECKPOINT what it serves until a checkpoint is pulled: demo-shapes (video) or smollm2-135m (text; fetched unless the folder has it)
#   LIBTORCH_FORM  cpu or cuda: which form of libtorch the stage `libtorch` brings
#   LIBTORCH_IMAGE an image that has libtorch 2.13.0 (include/, lib/) in /opt/libtorch; unless told, the stage below makes it
#   BUILD_IMAGE    Rust 1.95 or newer on Debian
#   RUNTIME_IMAGE  Debian of the same release, with nothing on it
ARG BUILD_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=debian:bookworm-slim
ARG LIBTORCH_IMAGE=libtorch

# --- libtorch, unless another image brings it -----------------------------------------------------------------------------
FROM ${BUILD_IMAGE} AS libtorch
ARG LIBTORCH_FORM=cpu
WORKDIR /src
COPY scripts/setup scripts/lib.sh scripts/unpack_libtorch.py scripts/
# The cache is where it stays, so that links into it hold.
RUN VIDEOSDGX_LIBTORCH=${LIBTORCH_FORM} VIDEOSDGX_CACHE_DIR=/opt/cache scripts/setup libtorch \
    && mv /opt/cache/libtorch-* /opt/libtorch && rm -rf /opt/cache .libtorch /var/lib/apt/lists/*

FROM ${LIBTORCH_IMAGE} AS torch

# --- The program ------------------------------------------------------------------------------------------------------------
FROM ${BUILD_IMAGE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential cmake nasm && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY --from=torch /opt/libtorch /opt/libtorch
ENV LIBTORCH=/opt/libtorch LD_LIBRARY_PATH=/opt/libtorch/lib CARGO_INCREMENTAL=0
COPY . .
ARG SERVICE
ARG DEMO_CHECKPOINT=demo-shapes
RUN test -n "${SERVICE}" || { echo "name the service: --build-arg SERVICE=wan21" >&2; exit 1; }
RUN if [ "${DEMO_CHECKPOINT}" = smollm2-135m ]; then VIDEOSDGX_CACHE_DIR=/opt/cache scripts/setup smollm2 && rm -rf /opt/cache; fi
RUN cargo build --release --locked --bins -p ${SERVICE} -p videosdgx-client \
    && install -D target/release/${SERVICE} /opt/videosdgx/bin/service \
    && install -D target/release/videosdgx /opt/videosdgx/bin/videosdgx \
    && mkdir /opt/videosdgx/checkpoints && cp -r checkpoints/${DEMO_CHECKPOINT} /opt/videosdgx/checkpoints/ \
    && rm -rf target /opt/libtorch/include /opt/libtorch/site/torch/include

# --- What runs --------------------------------------------------------------------------------------------------------------
FROM ${RUNTIME_IMAGE}
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libstdc++6 libgcc-s1 tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 videosdgx \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin videosdgx \
    && install -d -o videosdgx -g videosdgx -m 0750 /var/lib/videosdgx/state /var/lib/videosdgx/outputs /var/lib/videosdgx/auth \
    && install -d -o videosdgx -g videosdgx -m 0755 /var/lib/videosdgx/models
COPY --from=build /opt/libtorch /opt/libtorch
COPY --from=build /opt/videosdgx /opt/videosdgx
ARG SERVICE
ARG DEMO_CHECKPOINT=demo-shapes
ENV PATH=/opt/videosdgx/bin:$PATH \
    LD_LIBRARY_PATH=/opt/libtorch/lib \
    VIDEOSDGX_LISTEN=0.0.0.0:8000 \
    VIDEOSDGX_STATE_DIR=/var/lib/videosdgx/state/${SERVICE} \
    VIDEOSDGX_OUTPUTS_DIR=/var/lib/videosdgx/outputs \
    VIDEOSDGX_AUTH_DIR=/var/lib/videosdgx/auth \
    VIDEOSDGX_MODELS_DIR=/var/lib/videosdgx/models \
    VIDEOSDGX_DEMO_CHECKPOINT=/opt/videosdgx/checkpoints/${DEMO_CHECKPOINT} \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /var/lib/videosdgx
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --retries=3 --start-period=40s CMD ["videosdgx", "health"]
STOPSIGNAL SIGTERM
# tini reaps and passes signals on.
ENTRYPOINT ["tini", "--"]
CMD ["service"]
