# The targets that a contributor needs. `make check` is what must pass; see CONTRIBUTING.md.

.DEFAULT_GOAL := help
.PHONY: help
help: ## show the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: ## the short tests of the core module
	go test -short ./...

.PHONY: all
all: ## the tests of all modules, the long ones too
	LONG_TESTS=1 go test work

.PHONY: check
check: ## everything that must pass before a change lands
	bash .ci/run

.PHONY: lint
lint: ## format, and lint the core module
	golangci-lint fmt ./...
	golangci-lint run ./...

.PHONY: prose
prose: ## count the habits of writing
	go run ./internal/prose -check

.PHONY: generate
generate: ## write the generated files
	cd event && go generate ./...

.PHONY: servers
servers: ## start PostgreSQL, MariaDB and NATS for the tests
	bash .ci/servers

.PHONY: bench
bench: ## benchmarks of the core module
	go test -run '^$$' -bench . -benchmem ./...

.PHONY: demo
demo: ## the whole loop in one process
	go run ./examples/quickstart
