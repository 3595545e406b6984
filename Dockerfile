# syntax=docker/dockerfile:1
# For hosts with an NVIDIA GPU: CUDA 13, TensorRT, DALI, PyNvVideoCodec. Needs a driver from 580 on, and the NVIDIA container
# toolkit on the host. docs/gpu.md says how to build and run it.
#
#   docker build -t trt-anon .
#   docker run --rm --gpus all -v "$PWD:/work" trt-anon anonymize street.mp4 -o street.anonymized.mp4
#
# Without a network: docker build --build-arg WHEELS=wheels . with a folder of wheels filled as docs/air-gapped.md says.

FROM ubuntu:24.04 AS build
ARG WHEELS=""
# tensorrt: full TensorRT, from NVIDIA's package index; leave it out for TensorRT-RTX alone (not for Hopper).
ARG EXTRAS="cpu,gpu,dali,tensorrt,tensorrt-rtx,onnxruntime,bench"
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY . .
RUN python3 -m venv /opt/trt-anon \
 && if [ -n "$WHEELS" ]; then export PIP_NO_INDEX=1 PIP_FIND_LINKS="/src/$WHEELS"; fi \
 && /opt/trt-anon/bin/pip install ".[$EXTRAS]" \
 # Two builds of OpenCV would lie over each other; a package that asks for the one with windows brings it.
 && if /opt/trt-anon/bin/pip show -q opencv-python 2>/dev/null; then \
      /opt/trt-anon/bin/pip uninstall -y opencv-python opencv-python-headless \
      && /opt/trt-anon/bin/pip install 'opencv-python-headless>=4.10,<5'; fi

FROM ubuntu:24.04
RUN apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 10001 anonymizer && mkdir -p /models /cache /work && chown anonymizer /models /cache /work
COPY --from=build /opt/trt-anon /opt/trt-anon
# `video` hands in NVDEC and NVENC; without it decoding on the GPU does not work, and `trt-anon doctor` says so.
ENV PATH=/opt/trt-anon/bin:$PATH \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video \
    TRT_ANON_MODELS=/models \
    TRT_ANON_CACHE=/cache \
    PYTHONUNBUFFERED=1
# Keep models and built engines between containers: -v trt-anon-models:/models -v trt-anon-cache:/cache
VOLUME ["/models", "/cache"]
USER anonymizer
WORKDIR /work
ENTRYPOINT ["trt-anon"]
CMD ["doctor"]
