"""Flower strategies, and the aggregation rules they and the miners use."""
