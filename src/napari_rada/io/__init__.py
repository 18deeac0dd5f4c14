"""Files to cases and predictions to files: the only file-format code."""
