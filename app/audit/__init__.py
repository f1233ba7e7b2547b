"""The audit: it assumes that everybody lies, and recomputes a task from the evidence alone.

Nothing in here uses the code that produced the evidence: of the rest of `app` it imports the protocol's records,
digests and signatures, the compiled contract, and for a distant store the client that fetches bytes. Multi-Krum, the
mean, marks, reputation, rewards and the election are written again, plainly, as an independent model.
"""
