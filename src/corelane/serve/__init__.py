"""Serve: from a request to a prediction: codecs, the bounded queue, batching, the model server, workers."""
