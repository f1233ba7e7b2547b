"""Miners: they check a sealed round, each on its own, and vote on its outcome."""
