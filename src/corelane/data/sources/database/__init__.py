"""Rows of a database: one snapshot read in order, over ADBC where there is a driver, else over SQLAlchemy."""

from corelane.data.sources.database.source import DatabaseSource

__all__ = ["DatabaseSource"]
