"""What smaller files cost: sizes and predicted errors of a graph for a series of targets."""
