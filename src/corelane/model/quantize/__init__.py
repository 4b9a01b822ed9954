"""Quantisation: from a float32 graph to smaller ones, and to the layers that must stay as they are."""
