"""From annotated slices to dense pseudo-labels."""
