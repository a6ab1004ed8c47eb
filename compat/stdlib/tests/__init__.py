"""The harness's own tests: what hangs, dies or leaks must be seen, named and ended."""
