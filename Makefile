# Every target is a step of .ci/run; see there for the order.

GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 10s
TOOL = $(GO) tool -modfile=tools/go.mod

.PHONY: all build links test race vet lint format-check fuzz cluster bench figures soak microbench interop failover generate generate-check tidy-check clean

all: build test

## build: bin/rmq, one static binary
build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/rmq ./cmd/rmq

## links: the classic program names beside bin/rmq
links: build
	for name in mqnamesrv mqbroker mqadmin; do ln -sf rmq bin/$$name; done

## test: every test of the module; needs nothing but Go
test:
	$(GO) test -timeout 5m ./...

## race: the same under the race detector (needs a C compiler)
race:
	CGO_ENABLED=1 $(GO) test -race -timeout 10m ./...

vet:
	$(GO) vet ./...

## lint: go vet, staticcheck, formatting
lint: vet format-check
	$(TOOL) staticcheck ./...

format-check:
	@unformatted=$$(gofmt -l .); \
	if [ -n "$$unformatted" ]; then echo "not formatted:"; echo "$$unformatted"; exit 1; fi

## fuzz: every fuzz target for FUZZTIME each
fuzz:
	.ci/fuzz $(FUZZTIME)

## cluster: clusters of bin/rmq as real processes under faults (about 4 minutes); see bench/cluster/README.md
cluster: build
	$(GO) test -count=1 -timeout 8m ./bench/cluster -rmq $(CURDIR)/bin/rmq

## bench: rmq beside Apache RocketMQ 5.3.3 from Maven, one quick round (about 5 minutes); see bench/README.md
bench: build
	bin/rmq bench compare --quick --results bin/bench --name quick

## figures: what a killed leader and replication cost on this machine (about 12 minutes); see docs/failover.md
figures: build
	bin/rmq bench failover
	bin/rmq bench modes

## soak: faults at random on a group of three for about an hour; SEED=N repeats a run
SEED ?= 0
soak: build
	$(GO) test -count=1 -timeout 2h ./bench/cluster -rmq $(CURDIR)/bin/rmq -run TestSwarm -steps 900 -seed $(SEED) -v

## microbench: the Go benchmarks of every package, once
microbench:
	$(GO) test -run '^$$' -bench . -benchmem ./...

## interop: the official Java and Go clients and mqadmin against bin/rmq
interop: build
	cd bench/clients/golang && $(GO) vet ./...
	bench/clients/run.sh bin/rmq

## failover: the official clients against groups whose leaders are killed, stopped and frozen
failover: build
	cd bench/clients/golang && $(GO) vet ./... && $(GO) test ./failover
	bench/clients/failover.sh bin/rmq -parallel 3

generate:
	$(GO) generate ./...

## generate-check: generated files are current
generate-check:
	@before=$$(git diff | cksum); $(GO) generate ./... && \
	if [ "$$before" != "$$(git diff | cksum)" ]; then echo "go generate changed files:"; git diff --stat; exit 1; fi

## tidy-check: go.mod and go.sum are what the imports need
tidy-check:
	$(GO) mod tidy -diff
	$(GO) mod verify

clean:
	rm -rf bin
