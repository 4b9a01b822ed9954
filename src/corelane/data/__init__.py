"""Data: sources, schema, pipeline, split, and prepared arrays. No torch here: it hands out NumPy and Arrow."""
