"""Layers to cases and predictions to layers; readers, writers, sample data. No Qt here."""
