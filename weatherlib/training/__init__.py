"""Training on one device or many."""
