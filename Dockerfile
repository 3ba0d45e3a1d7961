# The service on port 8000, for any user and a read-only root filesystem.
# docs/how-to/run-in-containers.md says what each choice is for.

FROM python:3.13-slim AS build
ENV PIP_NO_CACHE_DIR=on PIP_DISABLE_PIP_VERSION_CHECK=on
WORKDIR /build
# pip stays in this stage: the one that runs needs no installer.
RUN python -m venv /tools && python -m venv --without-pip /venv
COPY deploy/requirements-build.txt deploy/requirements.txt deploy/
RUN /tools/bin/python -m pip install --require-hashes -r deploy/requirements-build.txt
RUN /tools/bin/python -m pip --python /venv/bin/python install --require-hashes -r deploy/requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /tools/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
  && /tools/bin/python -m pip --python /venv/bin/python install --no-deps dist/*.whl
COPY app app
# Bytecode now, as it cannot be written later. And readable for the user below, whatever the modes in the checkout.
RUN python -m compileall -q --invalidation-mode unchecked-hash app && chmod -R a+rX app /venv

FROM python:3.13-slim
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /srv
COPY --from=build /venv /venv
COPY --from=build /build/app app
# A number, so that Kubernetes can see that it is not root. Nothing here belongs to it.
USER 10001:10001
EXPOSE 8000
# Ready, and not only alive: who waits for this instance wants its requests decided.
HEALTHCHECK --interval=5s --timeout=3s --start-period=15s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:8000/readyz', timeout=2)"]
# As a list: a shell in between would keep SIGTERM to itself.
CMD ["python", "-m", "app", "--host", "0.0.0.0", "--port", "8000"]
