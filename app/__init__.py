"""Hearth: federated learning for home appliances that anyone can check afterwards."""
