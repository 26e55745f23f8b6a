"""The figures of docs/performance.md: this project, side by side with its alternatives.

`make bench` measures everything in one run, in turn; `make bench ARGS="burst"` one kind of work. `make bench-attacks`
attacks the service, and measures how long the stream of another client pauses: docs/attacks.md.
"""
