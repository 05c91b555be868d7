# The image: the program on glibc, a configuration, nothing else. No shell, nobody's root, nothing it writes to.
#
# Both bases are arguments, so that they can be pinned by digest, mirrored, or assembled by hand (tests/image/bases). The
# builder has Rust, a C compiler and make; the runtime has glibc, at least as new as the builder's, and certificates.
# No stage uses what only BuildKit has, so every engine builds it.
ARG BUILDER=docker.io/library/rust:1.95-bookworm
ARG RUNTIME=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILDER} AS chef
WORKDIR /src
# Paths of the build stay out of the program.
ENV RUSTFLAGS="--remap-path-prefix=/src=/bowline --remap-path-prefix=/usr/local/cargo=/cargo"
RUN command -v cargo-chef || cargo install --locked cargo-chef@0.1.78

FROM chef AS planner
COPY . .
RUN cargo chef prepare --bin bowline --recipe-path recipe.json

FROM chef AS builder
# Dependencies are a layer of their own, which a change of our code leaves as it is.
COPY --from=planner /src/recipe.json recipe.json
RUN cargo chef cook --locked --release --features jemalloc,nats --bin bowline --recipe-path recipe.json
COPY . .
ARG REVISION=""
RUN BOWLINE_GIT_REVISION="$REVISION" cargo build --locked --release --features jemalloc,nats --bin bowline

FROM ${RUNTIME}
ARG VERSION=""
ARG REVISION=""
ARG CREATED=""
ARG RUNTIME
LABEL org.opencontainers.image.title="bowline" \
      org.opencontainers.image.description="Holds thousands of live, two-way gRPC conversations" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.base.name="$RUNTIME"
COPY --from=builder /src/target/release/bowline /usr/local/bin/bowline
COPY deploy/image/bowline.toml /etc/bowline/bowline.toml
USER 65532:65532
EXPOSE 50051 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/usr/local/bin/bowline", "probe"]
ENTRYPOINT ["/usr/local/bin/bowline"]
CMD ["serve", "--config", "/etc/bowline/bowline.toml"]
