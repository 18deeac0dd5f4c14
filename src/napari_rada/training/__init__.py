"""Losses, schedules, the trainer and the run folder."""
