"""Label three slices, get the volume."""
