"""Scores without target labels, by which an epoch or a run may be chosen. Higher is better."""
