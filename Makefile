# A convenience only: each line is the command to type where there is no make.
.PHONY: run test bench ci
run:
	python3 -m gateway run
test:
	python3 -m gateway test
bench:
	python3 -m gateway bench
ci:
	.ci/run
