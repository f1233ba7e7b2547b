"""The chain: the embedded one, and the client of the task's contract on any chain."""
