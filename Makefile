# Every command of this repository. CI calls `make ci` and nothing else; `make help` prints the list.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-builtin-rules

# Tools of our own come first, so that CI and a developer run the same versions; /usr/local/go is where Go's own
# archive puts itself, and not every shell knows.
export PATH := $(CURDIR)/.tools/bin:$(PATH):/usr/local/go/bin

.DEFAULT_GOAL := help
.PHONY: help run cluster release image image-test test sim fuzz chart alerts jaeger lint fmt doc bench cost cluster-bench figures hot ci tools

help: ## Print this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# A debug build, dependencies included: what counts for a newcomer is the time to the first chat.
run: ## Serve on 127.0.0.1:50051, admin port 127.0.0.1:9090; nothing but Rust needs to be installed.
	cargo run --locked -- serve

# A debug build too. More ports of loopback: deploy/cluster/run says which; CLUSTER_OFFSET is added to each.
cluster: ## Serve from three replicas over three NATS servers, on loopback, until Ctrl-C.
	@.ci/tools nats
	cargo build --locked --features nats
	@BOWLINE="$${CARGO_TARGET_DIR:-target}/debug/bowline" deploy/cluster/run

# GUIDED=1 takes three times as long, since it builds it twice and has it serve in between: docs/adr/0016.
release: ## Build the program that is to serve: optimised, with its allocator and NATS; it is target/release/bowline. GUIDED=1: faster.
ifdef GUIDED
	@.ci/tools guided
	guided=$$(.ci/guided --release --features jemalloc,nats); install -D "$$guided" "$${CARGO_TARGET_DIR:-target}/release/bowline"
else
	cargo build --locked --release --features jemalloc,nats
endif

# BUILDER and RUNTIME in the environment are other bases, IMAGE is another name.
image: ## Build the image, with docker; see Dockerfile for its bases.
	docker build --tag "$${IMAGE:-bowline:$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)}" \
	    --build-arg VERSION="$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)" \
	    --build-arg REVISION="$$(git rev-parse --short HEAD)" --build-arg CREATED="$$(date -u +%FT%TZ)" \
	    $${BUILDER:+--build-arg BUILDER="$$BUILDER"} $${RUNTIME:+--build-arg RUNTIME="$$RUNTIME"} .

# Not part of ci: it installs a Debian and compiles everything once more, optimised.
image-test: ## Build the image on bases assembled here, without network, and run it as a cluster would. As root, on Debian.
	@.ci/tools image
	tests/image/engine tests/image/check

# The interoperability tests need Python, Go, grpcurl, nginx and Envoy, that of the operations page helm, and that of the admin page
# Chromium, which `.ci/tools system` installs. Where those cannot be had, they say so and pass; CI sets BOWLINE_REQUIRE_INTEROP=1, and
# there they fail.
test: ## Run every test; sets up what the interoperability tests need, where that can be had.
	@.ci/tools interop || test -z "$${BOWLINE_REQUIRE_INTEROP:-}"
	cargo test --locked --features nats

# Optimised, because there are many. A seed that fails is added to tests/sim-regressions.txt; `BOWLINE_SEED=n` replays one.
sim: ## Simulate thousands of runs (BOWLINE_SEEDS) over a broken network and hold each to the promises.
	BOWLINE_SEEDS="$${BOWLINE_SEEDS:-5000}" cargo test --locked --release --lib sim:: -- --nocapture

# What was learnt stays in fuzz/corpus; `tests/fuzz.rs` runs the same targets for a moment in every build.
fuzz: ## Fuzz each target for FUZZ_SECONDS (600), and say how often it ran, what its corpus holds and what it found.
	@.ci/tools fuzz
	@.ci/fuzz

# BLESS=1 writes what is compared anew: the golden renders, the plain manifests. The program is built as the tests build it,
# so that after them nothing is left to build.
chart: ## Check the chart: renders, schemas of Kubernetes, what it has to refuse; the server reads its configuration.
	@.ci/tools chart
	cargo test --locked --features nats --no-run --test documents
	@scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	SCRATCH=$$scratch CRDS=.tools/crds BOWLINE=$$(realpath "$${CARGO_TARGET_DIR:-target}/debug/bowline") \
	$(if $(BLESS),BLESS=1) PYTHONDONTWRITEBYTECODE=1 .tools/venv-chart/bin/python -m unittest discover -s tests/chart

alerts: ## Check alerts, dashboard and metrics with Prometheus' own tool.
	@.ci/tools promtool
	BOWLINE_REQUIRE_PROMTOOL=1 cargo test --locked --features nats --test alerts

# Not part of ci: Jaeger takes longer to build than all the rest.
jaeger: ## Show, in a real Jaeger, a publish and its deliveries while the streams are open; writes docs/jaeger.json.
	@.ci/tools jaeger
	cargo build --locked
	python3 tests/jaeger/show.py .tools/bin/jaeger "$${CARGO_TARGET_DIR:-target}/debug/bowline" docs/jaeger.json

lint: tools ## Check format, lints, the protocol's style, dependencies and licences.
	cargo fmt --check
	cargo clippy --locked --all-targets --all-features -- -D warnings
	cargo clippy --locked --lib --bins -- -D warnings
	buf lint
	buf format --diff --exit-code
	cargo deny --locked check --hide-inclusion-graph bans licenses sources
	@.ci/tools advisories

fmt: ## Format the code and the protocol.
	cargo fmt
	if command -v buf >/dev/null; then buf format --write; fi

doc: ## Build the documentation, private items included; a broken link is an error.
	RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' cargo doc --locked --no-deps --document-private-items

# GUIDED=1 measures another beside it, which is guided as that of `make release GUIDED=1` is.
bench: ## Measure beside peers and the limit, in one run; takes about an hour, with ARGS of some kinds less. See benches/README.md.
	@.ci/tools peers
	$(if $(GUIDED),@.ci/tools guided)
	@ulimit -n "$$(ulimit -Hn)"; $(if $(GUIDED),guided=$$(.ci/guided --profile bench --features jemalloc);) \
	cargo bench --locked --features jemalloc --bench stream -- $${guided:+--guided "$$guided"} \
	    $$(for peer in peer-grpc-go nats-server centrifugo; do \
	        [ ! -x ".tools/bin/$$peer" ] || echo "--$${peer#peer-} .tools/bin/$$peer"; done | sed 's/--nats-server/--nats/') $(ARGS)

cost: ## Measure what traces cost, with every fault of a collector; takes minutes. See benches/README.md.
	cargo bench --locked --features jemalloc --bench traces

# The program as it serves, by the profile of `make release`.
cluster-bench: ## Measure three replicas over three NATS servers beside one in memory; takes a quarter of an hour. See docs/benchmarks/cluster.md.
	@.ci/tools nats
	cargo bench --locked --profile release --features jemalloc,nats --bench cluster -- --json docs/benchmarks/cluster.json

# The figures in docs/benchmarks but those of `make hot`; what people have written about them is theirs to look after.
figures: ## Measure everything, one after the other, and record it in docs/benchmarks; takes more than two hours.
	$(MAKE) bench ARGS='--twice --record docs/benchmarks'
	$(MAKE) cluster-bench

# Counted, not timed: the same on every run. BLESS=1 records what was counted; ARGS chooses. CI counts what it has built for
# tests, with PROFILE=dev: to have everything optimised as well takes it too long.
hot: ## Count instructions and allocations of hot paths, and compare them with docs/benchmarks/hot.json. See benches/README.md.
	@.ci/tools hot
	cargo bench --locked --profile $(or $(PROFILE),hot) --features nats --bench hot -- $(if $(BLESS),--bless) $(ARGS)

ci: ## What must pass before a change goes in: lint, documents, alerts, every test, the chart, what hot paths cost.
	@.ci/tools system
	$(MAKE) lint
	$(MAKE) doc
	$(MAKE) alerts
	BOWLINE_REQUIRE_INTEROP=1 $(MAKE) test
	$(MAKE) chart
	$(MAKE) hot PROFILE=dev

tools: ## Install, under .tools/, what lint needs; `make test` sees to its own.
	@.ci/tools lint
