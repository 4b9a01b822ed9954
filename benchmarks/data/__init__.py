"""Data: preparing, reading, batching and augmenting, beside what people would use instead and beside the machine."""
