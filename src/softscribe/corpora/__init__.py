"""Pairs of recordings and scores: where they come from, how they are cut into segments, and the store of their features."""
