"""Web: the HTTP edge. Granian, listening, limits, JSON errors and drain; it knows nothing of models or of training."""
