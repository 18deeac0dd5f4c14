"""Prediction, disagreement, and which slice to annotate next."""
