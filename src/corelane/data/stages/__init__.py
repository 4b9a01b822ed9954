"""The stages of a pipeline: casts (raw cells to typed columns) and transforms (typed columns to float32 arrays)."""
