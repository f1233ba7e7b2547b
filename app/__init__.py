"""Hearth: federated learning for home appliances that anyone can check afterwards."""

import sys

import py_ecc  # noqa: F401 - a dependency of eth-account, whose first import raises the recursion limit a hundredfold

# With py_ecc's limit Python's parsers no longer stop where the stack ends: deeply nested JSON from a hostile node would
# end the process with a segmentation fault. Three times Python's own limit is enough for everything that we run.
sys.setrecursionlimit(min(sys.getrecursionlimit(), 3000))
