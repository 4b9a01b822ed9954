"""Serving: `corelane serve` beside the servers people would use instead, under the load of wrk."""
