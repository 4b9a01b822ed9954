"""Places for small files and bundles that several processes write: a directory, or any URL that fsspec opens."""
