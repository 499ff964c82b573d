"""Haiku building blocks on plain arrays. Nothing here imports xarray."""
