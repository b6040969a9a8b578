# Toxiproxy as services/install builds it.
FROM golang:1.26.5-alpine AS build
ARG VERSION
RUN CGO_ENABLED=0 go install -ldflags "-X github.com/Shopify/toxiproxy/v2.Version=$VERSION" \
    "github.com/Shopify/toxiproxy/v2/cmd/server@v$VERSION"

FROM alpine:3.22
COPY --from=build /go/bin/server /usr/local/bin/toxiproxy-server
USER nobody
ENTRYPOINT ["toxiproxy-server"]
