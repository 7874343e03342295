# Two images: `producer` (commands and migrations, no torch) and `worker`. docker-compose.yml builds both.
# On x86-64 the torch of constraints.txt is the build that brings the CUDA libraries along (several GB), so a plain
# Python image is enough: the driver comes from the host. The same image computes on the CPU where there is no GPU.
FROM python:3.11.15-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# /tmp is the one place a container can write to
RUN groupadd --gid 10001 reelvec && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp reelvec
WORKDIR /app
COPY pyproject.toml constraints.txt LICENSE ./

FROM base AS wheel
COPY db db
COPY workers workers
COPY producer producer
COPY reelvec reelvec
COPY reelvec_origin.py .
RUN pip wheel --no-deps --wheel-dir /wheels .

FROM base AS producer
# Without the code this installs the dependencies only: a layer that stays while nothing but the code changes
RUN pip install -c constraints.txt .
COPY --from=wheel /wheels /wheels
RUN pip install --no-deps --force-reinstall /wheels/*.whl
USER 10001:10001
CMD ["reelvec", "status"]

FROM base AS worker
RUN pip install -c constraints.txt '.[worker]'
COPY --from=wheel /wheels /wheels
RUN pip install --no-deps --force-reinstall /wheels/*.whl
USER 10001:10001
CMD ["reelvec", "worker"]
