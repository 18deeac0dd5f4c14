"""Prepare, propagate, train, predict: the one use case that the API, the command line and the viewer all call."""
