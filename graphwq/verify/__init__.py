"""Proving what a rewrite did: structure, weights, outputs, layers, and the report of them."""
