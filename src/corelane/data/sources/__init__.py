"""Sources: one module or folder per kind of place rows come from, each a `DataSource`."""
