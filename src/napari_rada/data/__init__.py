"""Values that every stage shares: cases, grids, classes, annotated slices, patches."""
