"""Recordings: from signals and annotations to TFRecord shards to batches."""
