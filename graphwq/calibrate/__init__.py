"""Calibration: what the layers of a graph see, and codes that are chosen by it."""
