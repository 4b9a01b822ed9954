"""Rows from a URL: downloaded once, whole and checked, then read as a local file."""

from corelane.data.sources.http.source import HTTPSource

__all__ = ["HTTPSource"]
