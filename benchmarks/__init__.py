"""Benchmarks beside the peers people would use instead. Runnable: `python -m benchmarks.data`, `.training`, `.serving`."""
