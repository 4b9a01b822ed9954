"""Observe: the logger, the instruments and their collector, merged expositions, the report. It measures nothing."""
