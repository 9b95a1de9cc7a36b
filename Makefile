# A convenience only: each line is the command to type where there is no make.
.PHONY: run test bench ci wheels
run:
	python3 -m gateway run
test:
	python3 -m gateway test
bench:
	python3 -m gateway bench
ci:
	.ci/run
# Each pin has a wheel for the Pythons that nothing here runs on; 3.11 is what everything runs on.
wheels:
	for version in 3.12 3.13 3.14; do python3 -m pip download -q --no-deps --only-binary :all: --python-version $$version \
	  -r requirements.txt -r requirements-demo.txt -d "$$(mktemp -d)" && echo "$$version: every pin has a wheel"; done
