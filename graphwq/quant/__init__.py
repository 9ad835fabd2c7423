"""Arrays in, arrays out: schemes, scales, codes, packing, metrics. Knows no graph."""
