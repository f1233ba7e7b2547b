"""Parties as processes: what a miner's and a MEC server's service share."""
