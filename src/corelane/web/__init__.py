"""Web: the HTTP edge. Connections, limits, JSON errors and drain; it knows nothing of models or of training."""
