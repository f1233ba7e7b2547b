"""Hydra configuration groups: the only truth about what a run does."""
