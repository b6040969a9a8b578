# squall from this repository, with the versions of requirements.lock; what only development needs stays out, which is
# why the lock is read as constraints, without its hashes.
FROM python:3.11-slim-bookworm AS build
ARG EXTRAS=serve,redis,neo4j
WORKDIR /squall
COPY . .
RUN sed -e '/--hash=/d' -e 's/ *\\$//' requirements.lock > constraints.txt \
 && python -m venv /opt/squall \
 && /opt/squall/bin/pip install --no-cache-dir --constraint constraints.txt ".[$EXTRAS]"

FROM python:3.11-slim-bookworm
COPY --from=build /opt/squall /opt/squall
COPY services/serve.yaml /etc/squall/squall.yaml
RUN useradd --system squall && install --directory --owner squall /data
USER squall
WORKDIR /data
ENTRYPOINT ["/opt/squall/bin/squall"]
CMD ["serve", "--config", "/etc/squall/squall.yaml"]
