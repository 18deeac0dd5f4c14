"""Region and text guidance: weight files, encoders, prompts."""
