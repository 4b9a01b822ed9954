"""Benchmarks beside the peers people would use instead: `python -m benchmarks.data`, `.training` and `.serving`."""
