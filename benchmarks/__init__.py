"""Experiments as data, published numbers, records of real runs."""
