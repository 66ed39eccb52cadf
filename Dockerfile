# For machines with NVIDIA GPUs; on a CPU the same commands work, only slower.
#   docker build -t regmix .
#   docker run --rm --gpus all --shm-size 8g -v "$PWD/runs:/workspace/runs" regmix run recipes/quickstart
FROM nvidia/cuda:13.0.1-runtime-ubuntu24.04

ENV DEBIAN_FRONTEND=noninteractive \
    PIP_NO_CACHE_DIR=1 \
    PATH=/opt/venv/bin:$PATH

# python3-dev brings the C headers that the quickstart reads and that torch.compile needs, with a compiler.
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-dev python3-venv gcc g++ git libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/venv

WORKDIR /workspace
COPY pyproject.toml README.md LICENSE ./
COPY regmix_hf ./regmix_hf
RUN pip install -e '.[gpu,tensorboard]'
COPY recipes ./recipes

ENTRYPOINT ["regmix"]
CMD ["--help"]
