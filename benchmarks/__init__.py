"""Benchmarks beside the peers people would use instead. Runnable: `python -m benchmarks.training`, `.serving`."""
