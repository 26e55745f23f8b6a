"""The figures of docs/performance.md: what this project does, side by side with what people would pick instead.

`make bench` measures everything in one run, in turn; `make bench ARGS="burst"` one kind of work.
"""
