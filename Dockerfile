#   docker build -t span-electra .
#   docker build -t span-electra --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .    without CUDA, a tenth in size
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" span-electra vocab --data_dir data
#
# With --gpus all (NVIDIA's container toolkit) it sees the GPUs; several want --ipc=host too.
# --user: /work is then your folder, in which the image's own user could not write.
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE}

# Where the base has no Python (CUDA's images), the distribution's is taken.
# Versions are the base's own.
# hadolint ignore=DL3008
RUN command -v python3 >/dev/null || { apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*; }

# An environment of its own: distributions refuse installs into theirs.
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH

# TORCH_INDEX: the index with torch's CPU builds (pytorch.org, "Get started"), a tenth of CUDA's in size.
ARG TORCH_INDEX=
COPY pyproject.toml README.md LICENSE *.py /src/
COPY configs /src/configs
COPY docs/from-elsewhere.md /src/docs/
COPY span_electra /src/span_electra
# /src has its own bounds.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} /src \
    && useradd --create-home --uid 10001 user \
    && mkdir /work \
    && chown user /work
# Caches of numba and others; whoever runs it may be a user of no name here, who has no home.
ENV HOME=/tmp USER=user
USER 10001
WORKDIR /work
ENTRYPOINT ["span-electra"]
CMD ["--help"]
