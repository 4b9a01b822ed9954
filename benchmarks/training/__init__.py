"""Training throughput: our Trainer beside the loops and frameworks people would use instead."""
