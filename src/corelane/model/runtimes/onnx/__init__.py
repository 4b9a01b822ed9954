"""ONNX Runtime: running graphs, and making quantised ones."""
