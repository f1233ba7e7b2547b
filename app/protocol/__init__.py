"""The protocol, pure: records, digests, signatures, fixed point. Nothing in here knows Flower, web3 or torch."""
