"""A run as one page that needs nothing else: to look at, to keep, to send."""
