"""Content-addressed blob stores; every byte is verified when it is read."""
