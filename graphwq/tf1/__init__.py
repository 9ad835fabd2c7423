"""All that needs TensorFlow 1.15."""
