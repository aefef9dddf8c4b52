"""Synthetic Mixture-of-Experts models whose routing behaves like a trained one's."""
