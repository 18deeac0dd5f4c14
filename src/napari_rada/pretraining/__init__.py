"""Synthetic scans, and the network that learns from them to complete annotated slices on any scan."""
