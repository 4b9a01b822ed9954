"""The tiers of the cache: bounded mappings from keys to named arrays, in memory, on local disk, in shared storage."""
