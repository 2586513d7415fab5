"""Known data sets that `prepare` turns into features by itself."""
