"""The machinery of data sets: builders, files, sources, splits, checks, statistics."""
