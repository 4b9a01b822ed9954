"""Tests of the drawings of a report."""
