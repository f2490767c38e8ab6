# The team's gateway: docker build . --tag llmbridge; how to run it: docs/how-to/run-as-a-service.md

FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY llmbridge ./llmbridge
RUN python -m venv /opt/llmbridge
RUN /opt/llmbridge/bin/pip install --no-cache-dir ".[postgres,mcp,otel]"

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/llmbridge --create-home llmbridge
COPY --from=build /opt/llmbridge /opt/llmbridge
ENV PATH=/opt/llmbridge/bin:$PATH
USER llmbridge
WORKDIR /var/lib/llmbridge
VOLUME /var/lib/llmbridge
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["llmbridge"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8080", "--allow-remote", "--store", "sqlite:////var/lib/llmbridge/usage.db"]
