"""Store: directories and files that are either whole and verified or not there. It knows nothing of models or torch."""
