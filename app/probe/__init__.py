"""Attacks on what phones release, as a measured experiment: what an adversary gets, beside what it gets for nothing."""
