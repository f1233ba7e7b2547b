"""Data sets, partitions, models and where they split, training."""
