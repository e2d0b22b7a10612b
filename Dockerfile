# The runtime image: a Python environment from the hashed lock, the model's files, and our own code last,
# so that a change of code rebuilds one small layer.
#
#   docker buildx build --tag i2v:demo .                        the bundled demo model, on CPU
#   --build-arg BASE_IMAGE=MIRROR/python:3.11-slim-bookworm     the base image from a registry mirror
#   --build-arg TORCH_BUILD=cu130                               another lock of runtime/locks
#   --build-arg MODEL_ID=ID --build-context weights=DIR         another model
#   --build-arg WEIGHTS=none                                    no model: it is below, in the base image, or mounted at /model
#   --build-context wheels=DIR                                  wheels that no index has
#   --build-arg PACKAGES=wheels                                 no index at all: DIR has every wheel, that of uv too
#   --build-context sbom=DIR                                    a list of what is in the image, as CycloneDX: sbom.cdx.json
#   --secret id=installer,src=FILE                              the installers' settings, one NAME='value' a line:
#                                                               UV_DEFAULT_INDEX, PIP_INDEX_URL, HTTPS_PROXY, ...
#   --secret id=ca,src=FILE                                     a CA bundle
#
# Secrets are mounted for one command: no layer, history or label holds them, and a change of them rebuilds nothing.
# `i2v-setup build-image` fetches the wheels itself, and so gives no secret. Any base with python3 and venv will do;
# pip is not needed.

ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG WEIGHTS=baked

FROM scratch AS locks
ARG TORCH_BUILD=cpu
COPY images/uv.txt /uv.txt
COPY runtime/locks/${TORCH_BUILD}.txt /packages.txt

FROM scratch AS wheels

FROM scratch AS sbom

FROM scratch AS weights
COPY runtime/demo /

FROM ${BASE_IMAGE} AS base

# uv comes by hash through a throwaway environment's pip, the packages by hash through uv.
# All that the step needs is mounted, so its layer is the environment and nothing else.
FROM base AS packages
ARG TORCH_BUILD=cpu
ARG PACKAGES=index
RUN --mount=type=secret,id=installer \
    --mount=type=secret,id=ca \
    --mount=type=bind,from=locks,target=/locks \
    --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=cache,id=i2v-packages,target=/cache \
    --mount=type=tmpfs,target=/opt/uv <<EOT
    set -eu
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_CACHE_DIR=/cache/pip
    export UV_CACHE_DIR=/cache/uv UV_LINK_MODE=copy UV_NO_PROGRESS=1
    if [ -e /run/secrets/ca ]; then
        export PIP_CERT=/run/secrets/ca SSL_CERT_FILE=/run/secrets/ca
    fi
    if [ ${PACKAGES} = wheels ]; then
        # What is not downloaded needs no cache that outlives the step, and can be linked instead of copied.
        export UV_NO_CACHE=1 UV_LINK_MODE=hardlink
        set -- --no-index --find-links /wheels
    elif [ -e /run/secrets/installer ]; then
        set -a; . /run/secrets/installer; set +a
    elif [ ${TORCH_BUILD} = cpu ]; then
        # A plain build: PyPI has no CPU build of torch. Any index may serve any package, since the hashes decide.
        export UV_INDEX=https://download.pytorch.org/whl/cpu UV_INDEX_STRATEGY=unsafe-best-match
    fi
    python3 -m venv /opt/uv
    /opt/uv/bin/python -m pip install --quiet "$@" --require-hashes --requirement /locks/uv.txt
    python3 -m venv --without-pip /opt/venv
    export UV_FIND_LINKS=/wheels${UV_FIND_LINKS:+,$UV_FIND_LINKS}
    # Bytecode that does not depend on when a file was written.
    export PYC_INVALIDATION_MODE=UNCHECKED_HASH
    /opt/uv/bin/uv pip sync "$@" --python /opt/venv/bin/python --require-hashes --compile-bytecode /locks/packages.txt
    rm -f /opt/venv/.lock
EOT

FROM base AS app
COPY runtime /app/runtime
RUN chmod -R u=rwX,go=rX /app && python3 -m compileall -q --invalidation-mode unchecked-hash /app

FROM packages AS environment
ENV PATH=/opt/venv/bin:$PATH \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HUB_OFFLINE=1 \
    HOME=/data
# The one place that is written to, /tmp aside: jobs, videos and caches. A volume there keeps them, and lets
# the rest be read-only.
RUN install -d -o 10001 -g 10001 /data && install -d /model

# One mode for files and directories alike, whatever the modes of the model cache are.
FROM environment AS weights-baked
COPY --from=weights --chmod=755 / /model

FROM environment AS weights-none

# The label i2v-setup.parts says which directories the steps after the base image fill, lowest first: what is pushed is
# put together of those. All parts but the first are one layer each, the topmost ones.
FROM weights-${WEIGHTS} AS image
WORKDIR /app
COPY --from=app /app /app
# Last, since it names the model: images with different ones share all that is below.
COPY --from=sbom / /usr/share/i2v-setup
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import *; build_opener(ProxyHandler({})).open('http://127.0.0.1:8000/health', timeout=4)"]
ARG BASE_IMAGE
ARG MODEL_ID=demo
ENV I2V_MODEL_ID=${MODEL_ID}
LABEL org.opencontainers.image.title="i2v-setup runtime" \
      org.opencontainers.image.description="An image-to-video server with its model" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      i2v-setup.parts="environment=/opt/venv,/data,/model application=/app list=/usr/share/i2v-setup"
# The shell only fills in the model's name, and hands over its process; what follows the image's name is added.
ENTRYPOINT ["/bin/sh", "-c", "exec python -m runtime.server --model-id \"$I2V_MODEL_ID\" --model-dir /model --data-dir /data --host 0.0.0.0 --port 8000 \"$@\"", "i2v"]
