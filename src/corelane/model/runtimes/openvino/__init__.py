"""OpenVINO, an extra: running graphs."""
