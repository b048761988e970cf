"""The Trainer, its step, its state on disk, and runs."""
