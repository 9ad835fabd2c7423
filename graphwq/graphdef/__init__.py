"""A graph as bytes: wire format, nodes, tensors, reading and atomic writing."""
