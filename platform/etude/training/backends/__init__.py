"""What differs between Keras' backends: one small module each."""
