"""Serve: from a request to a prediction. Codecs, the bounded queue, batching, the model server, workers and their supervisor."""
