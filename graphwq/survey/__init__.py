"""Where the weights of a graph are."""
