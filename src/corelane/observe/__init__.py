"""Observe: the logger, the instruments and their collector, merged expositions, and the HTML report. It measures nothing itself."""
