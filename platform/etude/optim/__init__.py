"""Optimizers by name and schedules in the compiled step."""
