"""Looking at a model and at data before anything runs."""
