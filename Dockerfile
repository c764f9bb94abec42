# syntax=docker/dockerfile:1

FROM golang:1.26 AS build
WORKDIR /src
# Modules first: they change less often than the code, so their layer is cached.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod \
    go mod download
ENV GOCACHE=/go/build-cache
# Includes .git, so that `wxcourier version` prints the commit.
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/go/build-cache \
    .ci/build /wxcourier

# Only the binary, CA certificates and time zones: no shell, no package manager.
FROM gcr.io/distroless/static:nonroot
COPY --from=build /wxcourier /wxcourier
# A numeric user, so that Kubernetes can verify that it is not root (runAsNonRoot).
USER 65532:65532
EXPOSE 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/wxcourier", "healthcheck"]
ENTRYPOINT ["/wxcourier"]
CMD ["worker", "--listen", ":9090"]
