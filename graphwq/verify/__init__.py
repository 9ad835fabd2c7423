"""Proving what a rewrite did: interface, feeds, outputs, and where the error comes from."""
