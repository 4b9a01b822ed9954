"""Model: networks, runtimes, packages and offline scoring. Serving modules here never import torch."""
