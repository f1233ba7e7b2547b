"""Mechanisms, their randomness, and the accountant that counts releases."""
