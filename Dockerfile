# Containers with mrcnn-cli:
#
#   docker build --target cpu -t mrcnn .          # CPU, and wgpu where the host provides its Vulkan driver
#   docker build --target cuda -t mrcnn:cuda .    # NVIDIA GPUs, with the NVIDIA container toolkit
#
# Usage:
#
#   docker run --rm -v "$PWD:/work" mrcnn predict photo.jpg --weights best.safetensors
#   docker run --rm --gpus all -v "$PWD:/work" mrcnn:cuda train --config nuclei --data data --backend cuda

FROM rust:1.95-bookworm AS source
WORKDIR /source
COPY . .

FROM source AS build-cpu
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/target,sharing=locked \
    CARGO_TARGET_DIR=/target cargo build --profile dist --locked -p mrcnn-cli && \
    install -D /target/dist/mrcnn-cli /out/mrcnn-cli

# CUDA is loaded at run time, so the build needs no toolkit.
FROM source AS build-cuda
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/target-cuda,sharing=locked \
    CARGO_TARGET_DIR=/target-cuda cargo build --profile dist --locked -p mrcnn-cli --features cuda && \
    install -D /target-cuda/dist/mrcnn-cli /out/mrcnn-cli

# NVRTC compiles the kernels with the headers of the toolkit, and several GPUs need NCCL; `devel` has both.
FROM nvidia/cuda:12.8.1-devel-ubuntu24.04 AS cuda
RUN useradd --uid 10001 --create-home mrcnn && install -d -o mrcnn /work
COPY --from=build-cuda /out/mrcnn-cli /usr/local/bin/mrcnn-cli
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/mrcnn/
USER 10001
WORKDIR /work
ENTRYPOINT ["mrcnn-cli"]
CMD ["help"]

# The last stage is the default of a build without --target.
FROM debian:bookworm-slim AS cpu
# The version of libvulkan1 is not pinned, so that security fixes are installed.
# hadolint ignore=DL3008
RUN apt-get update && \
    apt-get install --yes --no-install-recommends libvulkan1 && \
    rm -rf /var/lib/apt/lists/* && \
    useradd --uid 10001 --create-home mrcnn && install -d -o mrcnn /work
COPY --from=build-cpu /out/mrcnn-cli /usr/local/bin/mrcnn-cli
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/mrcnn/
USER 10001
WORKDIR /work
ENTRYPOINT ["mrcnn-cli"]
CMD ["help"]
