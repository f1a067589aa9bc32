# Outcrop in a container: the commands `ingest`, `query` and `collection`. docs/operations.md says how to use it, and how large
# the images are. `docker compose build app-cpu` (or app) in deploy/ makes the same images under the same names.
#
#   docker build -t outcrop:0.1.0-gpu .
#   docker build -t outcrop:0.1.0-cpu --build-arg VARIANT=cpu .
#
# VARIANT=gpu starts from NVIDIA's CUDA runtime image on Ubuntu 24.04, whose own Python is 3.12 (that of 22.04 is 3.10: too
# old). VARIANT=cpu starts from Python's image, 3.11. Torch's wheels bring the CUDA libraries they were built with, so what
# the host needs is a driver for those: see "What the machine needs" in docs/operations.md.
# The digests are those of the tags when this was written; deploy/pin-images.sh says what they are today.
ARG VARIANT=gpu
ARG GPU_BASE=nvidia/cuda:12.9.1-runtime-ubuntu24.04@sha256:1287141d283b8f06f45681b56a48a85791398c615888b1f96bfb9fc981392d98
ARG CPU_BASE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${GPU_BASE} AS base-gpu
FROM ${CPU_BASE} AS base-cpu

# What both stages below share: the same Python, and the libraries that Torch and Open3D load.
FROM base-${VARIANT} AS system
COPY deploy/system-packages.sh deploy/system-packages.txt deploy/image-packages.txt /tmp/deploy/
RUN sort --unique --output=/tmp/deploy/system-packages.txt /tmp/deploy/system-packages.txt /tmp/deploy/image-packages.txt \
    && /tmp/deploy/system-packages.sh \
    && rm -rf /var/lib/apt/lists/* /tmp/deploy \
    && python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed in the base image")'

FROM system AS build
# The address of a package index with other builds of Torch (CPU only, or another CUDA); empty: the default index.
ARG TORCH_INDEX=
# Optional extras of pyproject.toml, separated by commas.
ARG EXTRAS=serve
ENV PATH=/opt/outcrop/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CACHE_DIR=/var/cache/pip
RUN python3 -m venv /opt/outcrop
WORKDIR /src
COPY pyproject.toml constraints.txt ./
# Torch alone first: it is by far the largest part and changes least.
# The cache is a mount, and no part of the image.
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/var/cache/pip \
    pip install --no-deps --constraint constraints.txt ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} torch torchvision
# The cache is a mount, and no part of the image.
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/var/cache/pip \
    python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
        > /tmp/requirements.txt \
    && pip install --constraint constraints.txt --requirement /tmp/requirements.txt
COPY . .
# The cache is a mount, and no part of the image.
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/var/cache/pip \
    pip install --constraint constraints.txt ".${EXTRAS:+[${EXTRAS}]}" \
    && pip check

FROM system AS image
ARG VARIANT
ARG VERSION=0.1.0
ARG REVISION=
ARG CREATED=
ARG UID=10001
ARG GID=10001
LABEL org.opencontainers.image.title="outcrop" \
      org.opencontainers.image.description="Finds where a picture was taken and which specimen it shows: embeddings of drone captures and fossils in Milvus" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}-${VARIANT}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
# --non-unique: Ubuntu 24.04 has a user 1000 already, and 1000 is what many hosts want for the files written to mounts.
# What is written to is open to every number (mode 1777): the container may run as the owner of the host's folders, and a new
# volume takes its mode from here.
RUN groupadd --non-unique --gid "${GID}" outcrop \
    && useradd --non-unique --no-log-init --uid "${UID}" --gid "${GID}" --home-dir /var/lib/outcrop --shell /usr/sbin/nologin outcrop \
    && install -d -m 0755 /opt/datasets /workspace/weights /queries /etc/outcrop \
    && install -d -o "${UID}" -g "${GID}" -m 1777 /opt/references /exports /var/lib/outcrop
COPY --from=build /opt/outcrop /opt/outcrop
COPY LICENSE /usr/share/doc/outcrop/LICENSE
COPY --chmod=0755 sample/demo.sh /usr/local/bin/outcrop-demo
COPY --chmod=0755 deploy/milvus-user.py /usr/local/bin/outcrop-milvus-user
ENV PATH=/opt/outcrop/bin:$PATH \
    HOME=/var/lib/outcrop \
    USER=outcrop \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics \
    OUTCROP_URI=/var/lib/outcrop/outcrop.db \
    OUTCROP_REGISTRY=/etc/outcrop/data_key.json \
    OUTCROP_DATASETS=/opt/datasets \
    OUTCROP_REFERENCES=/opt/references \
    OUTCROP_EXPORTS=/exports \
    OUTCROP_STATE=/var/lib/outcrop
WORKDIR /var/lib/outcrop
VOLUME ["/var/lib/outcrop"]
USER ${UID}:${GID}
HEALTHCHECK --interval=60s --timeout=30s --start-period=30s --retries=3 CMD ["collection", "doctor", "--quiet"]
CMD ["collection", "--help"]
