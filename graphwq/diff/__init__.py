"""What changed between two graphs: as data, and for people."""
