"""The benchmark harness: `python -m bench` measures this cache beside its peers, on the tiers you choose."""
