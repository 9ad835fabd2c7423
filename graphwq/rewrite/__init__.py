"""Plans, and carrying them out: one small module per storage form."""
