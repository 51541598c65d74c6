# make up    boots examples/single: installs what is missing, builds bin/hostctl and the guest image
# make test  runs everything: linters, unit tests, cross builds, real guests

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.NOTPARALLEL:

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GOFLAGS_BUILD := -trimpath -ldflags '-s -w -X main.version=$(VERSION)'
TOOL := go tool -modfile=tools/go.mod
# Says what has passed as it goes, and all that failed once more in the end.
GOTESTSUM := $(TOOL) gotestsum --format-hide-empty-pkg --hide-summary=skipped

# Packages whose tests know -update.
GOLDEN := ./machinefile ./cloudconfig ./provider/qemu ./provider/libvirt ./internal/ui ./internal/dockerhost ./internal/sshclient ./internal/project ./sync/exports ./cmd/hostctl

.PHONY: up build setup image test unit lint cross e2e bench golden clean

up: setup-up build image
	@bin/hostctl -C examples/single up
	@printf '\nNext, point the Docker client at it:\n\n    eval "$$(bin/hostctl -C examples/single env)"\n    docker info\n\n'

build:
	@CGO_ENABLED=0 go build $(GOFLAGS_BUILD) -o bin/hostctl ./cmd/hostctl

setup: setup-test
setup-%:
	@scripts/setup $*

image:
	@scripts/build-image

test: setup-test lint unit cross image e2e

# The providers named here must pass their suite: one that cannot run fails.
unit:
	HOSTCTL_TEST_PROVIDERS=qemu,libvirt $(GOTESTSUM) --format pkgname-and-test-fails -- -race -timeout 30m ./...

lint:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt: run gofmt -w on:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	go vet -tags e2e ./...
	$(TOOL) staticcheck -tags e2e ./...
	$(TOOL) golangci-lint run ./...
	shellcheck $$(git grep -lE '^#!.*\b(ba)?sh\b' -- scripts .ci examples)

cross:
	GOOS=darwin go build -o /dev/null ./...
	GOOS=windows go build -o /dev/null ./...

e2e: build
	HOSTCTL_TEST_BOOT=1 HOSTCTL_TEST_PROVIDERS=libvirt $(GOTESTSUM) --format testname -- -count=1 -run TestBoot ./provider/libvirt
	HOSTCTL_TEST_PROVIDERS=qemu,libvirt $(GOTESTSUM) --format testname -- -tags e2e -count=1 -timeout 60m ./e2e/...

bench: setup-bench build image
	scripts/bench/start.sh
	scripts/bench/up.sh
	scripts/bench/forward.sh
	scripts/bench/vagrant.sh
	scripts/bench/share.sh

golden:
	go test $(GOLDEN) -update

clean:
	rm -rf bin
