"""All that needs TensorFlow: sessions (1.15 or 2.x), training (1.15)."""
