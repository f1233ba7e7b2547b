"""Solidity sources and the compiled artifacts that match them."""
