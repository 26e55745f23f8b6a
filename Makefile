# Everything runs through uv. Where there is none, a private one is installed into .uv/.
UV := $(shell command -v uv || echo .uv/bin/uv)
NEEDS_UV := $(filter .uv/bin/uv,$(UV))

help:
	@echo 'make run      a Redis, the API and a worker, on this machine; Ctrl-C stops them'
	@echo 'make test     all tests, or some: make test ARGS="-k stream"'
	@echo 'make chaos    the tests that take longer: storms, outages; STORM_SEED=… repeats a storm'
	@echo 'make bench    measure, side by side with others; or a part: make bench ARGS="burst"'
	@echo 'make bench-attacks  how long a live stream pauses beside each attack'
	@echo 'make check    formatting, lint, types, imports, known vulnerabilities'
	@echo 'make sbom     what the images are made of, as CycloneDX, in sbom/'
	@echo 'make install  the environment in .venv, as uv.lock has it'
	@echo 'make clean    remove what the others made'

run: $(NEEDS_UV)
	exec "$(UV)" run --locked python -m scripts.run

test: $(NEEDS_UV)
	exec "$(UV)" run --locked pytest -m 'not chaos' -n 4 --dist worksteal $(ARGS)

chaos: $(NEEDS_UV)
	exec "$(UV)" run --locked pytest -m chaos $(ARGS)

bench: $(NEEDS_UV)
	exec "$(UV)" run --locked --group bench python -m bench $(ARGS)

bench-attacks: $(NEEDS_UV)
	exec "$(UV)" run --locked --group bench python -m bench.attacks $(ARGS)

check: $(NEEDS_UV)
	"$(UV)" run --locked ruff check .
	"$(UV)" run --locked ruff format --check .
	"$(UV)" run --locked mypy
	"$(UV)" run --locked lint-imports
	"$(UV)" run --locked python -m scripts.audit

SBOM = sbom
sbom: $(NEEDS_UV)
	mkdir -p "$(SBOM)"
	for service in api worker; do "$(UV)" export --quiet --locked --preview-features sbom-export --format cyclonedx1.5 \
		--no-default-groups --only-group $$service --output-file "$(SBOM)/$$service.cdx.json" >/dev/null || exit; done

install: $(NEEDS_UV)
	"$(UV)" sync --locked

clean:
	rm -rf .venv .uv .*_cache .hypothesis sbom
	find . -name __pycache__ -prune -exec rm -rf {} +

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/python -m pip install --quiet --require-hashes -r uv.txt

.PHONY: help run test chaos bench bench-attacks check sbom install clean
