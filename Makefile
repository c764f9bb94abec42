# `make ci` runs all checks that a change must pass; .ci/run runs it on a bare machine.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The same build flags for all steps, so that they share the build cache.
export CGO_ENABLED := 0
export GOFLAGS := $(GOFLAGS) -trimpath

GOLANGCI_LINT_VERSION := v2.15.0
GOVULNCHECK_VERSION := v1.8.0
export GOTESTSUM_VERSION := v1.13.0
FUZZTIME ?= 5s
# The maximum size of the binary, in bytes: 40 MB.
BINARY_MOST ?= 40000000

# The steps of `make ci`, cheap ones first.
CI_STEPS := tidy-check vet lint bench-check deploy-check build example test race browser fuzz vuln

.PHONY: help build test race vet lint fmt fuzz chaos vuln tables cover example browser bench bench-check deploy-check microbench tidy-check ci clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## a static binary, bin/wxcourier, of 40 MB at most
	@.ci/build
	@bin/wxcourier version
	@size=$$(wc -c <bin/wxcourier); echo "build: bin/wxcourier has $$size bytes"; \
	if [ "$$size" -gt "$(BINARY_MOST)" ]; then \
		echo "build: more than $(BINARY_MOST) bytes: look for a new dependency (go version -m bin/wxcourier)" >&2; exit 1; \
	fi

test: ## all tests: go test ./... (in CI, see .ci/gotest)
	@.ci/gotest

# With -short: long repetitions and tests of the built binary find nothing here that `make test`
# does not.
race: ## the tests with the race detector, in random order (needs a C compiler)
	@CGO_ENABLED=1 .ci/gotest -race -shuffle=on -short

vet: ## go vet
	go vet ./...

vet-windows: ## go vet for Windows; not part of ci, since it compiles everything once more
	GOOS=windows go vet ./...

lint: ## golangci-lint with .golangci.yml, gofumpt included
	lint=$$(.ci/tool golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint $(GOLANGCI_LINT_VERSION)); \
	"$$lint" run ./...

fmt: ## format everything (gofumpt)
	lint=$$(.ci/tool golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint $(GOLANGCI_LINT_VERSION)); \
	"$$lint" fmt ./...

fuzz: ## each fuzz target for a few seconds (FUZZTIME=5s)
	@grep -rHoE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | while IFS=: read -r file name; do \
		echo "$$(dirname "$$file") $${name#func }"; \
		go test -run='^$$' -fuzz="^$${name#func }\$$" -fuzztime=$(FUZZTIME) "$$(dirname "$$file")" </dev/null; \
	done

chaos: ## fault injection tests: CHAOS_TASKS=20000, CHAOS_ACTIONS=10000 chosen by CHAOS_SEED (needs redis-server)
	CHAOS_TASKS=$${CHAOS_TASKS:-20000} CHAOS_ACTIONS=$${CHAOS_ACTIONS:-10000} CHAOS_SEED=$${CHAOS_SEED:-$$RANDOM} go test -count=1 -timeout 30m -v -run '^Test' ./internal/chaos

vuln: ## known vulnerabilities in called code (govulncheck)
	@check=$$(.ci/tool govulncheck golang.org/x/vuln/cmd/govulncheck $(GOVULNCHECK_VERSION)); \
	out=$$(mktemp); trap 'rm -f "$$out"' EXIT; status=0; \
	"$$check" ./... >"$$out" 2>&1 || status=$$?; \
	cat "$$out"; \
	if [ $$status -ne 0 ] && grep -q 'fetching vulnerabilities' "$$out"; then \
		echo 'vuln: NOT CHECKED: the vulnerability database cannot be reached from here'; \
	else exit $$status; fi

tables: ## write the generated tables of the READMEs and the pages in docs anew
	README_UPDATE=1 go test -count=1 -run '^TestTables$$' ./internal/readme

cover: ## test coverage of statements; coverage.out for go tool cover
	go test -coverpkg=./... -coverprofile=coverage.out ./...
	@go tool cover -func=coverage.out | tail -n 1

example: ## the README's first command: one outcome per line of the example
	@out=$$(mktemp); trap 'rm -f "$$out"' EXIT; \
	go run ./cmd/wxcourier run --sandbox examples/tasks.jsonl >"$$out"; \
	tasks=$$(grep -c . examples/tasks.jsonl); outcomes=$$(grep -c '"outcome":"[a-z]' "$$out"); \
	echo "example: $$tasks tasks, $$outcomes outcomes"; \
	[ "$$tasks" -eq "$$outcomes" ]

# A module of its own, with what only these tests need.
browser: ## the console in headless Chromium (SCREENSHOTS=DIR keeps pictures of all pages)
	cd internal/browsertest && go mod tidy -diff && go vet ./... && go test -count=1 -timeout 15m ./...

bench: ## measure pace and cost on an idle machine, about 40 minutes, into BENCHMARKS.md (BENCH="-quick seconds")
	cd bench && go run . $(or $(BENCH),-into ../BENCHMARKS.md all)

# Before and after a change:
#   make microbench && mv microbench.txt before.txt; … ; make microbench
#   go run golang.org/x/perf/cmd/benchstat@latest before.txt microbench.txt
microbench: ## benchmarks of the inner loops, for benchstat: microbench.txt (COUNT=10)
	go test -run '^$$' -bench 'ParseEnvelope|DecodePayload|Prepare|Encode|Judge|Call|DecodeAnswer|AcquireInStock' \
		-benchmem -count $(or $(COUNT),10) ./tasks ./worker ./wechat ./ratelimit | tee microbench.txt

# A module of its own, which ./... of the main module does not include.
bench-check: ## vet, tests and tidiness of the module in bench/
	cd bench && go mod tidy -diff && go vet ./... && go test ./...

# Also a module of its own, for the types of Kubernetes and Compose. Without promtool, prometheus,
# systemd-analyze or redis-server it skips their tests; with CI=true it fails. -count=1: the cache of
# go test does not notice changes outside of its module.
deploy-check: ## the files of configs/deploy: strict decoding, promtool, and the program with them
	@for tool in promtool prometheus systemd-analyze systemd-sysusers redis-server; do \
		command -v "$$tool" >/dev/null || echo "deploy-check: $$tool is not installed: without CI=true, what needs it is skipped"; \
	done
	cd configs/deploy/check && go mod tidy -diff && go vet ./... && go test -count=1 ./...

tidy-check: ## go.mod and go.sum are as go mod tidy leaves them
	go mod tidy -diff
	go mod verify

ci: ## all checks that a change must pass, each with its time
	@start=$$SECONDS; for step in $(CI_STEPS); do \
		began=$$SECONDS; echo "== $$step"; \
		$(MAKE) --no-print-directory "$$step" || { echo "== $$step FAILED after $$((SECONDS - began)) s"; exit 1; }; \
		echo "== $$step passed in $$((SECONDS - began)) s"; \
	done; echo "== ci passed in $$((SECONDS - start)) s"

clean: ## remove the files that other targets make
	rm -rf bin dist coverage.out microbench.txt
