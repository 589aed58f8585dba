"""Losses as pure tensor functions: the formula, the shapes, the paper. They import nothing of ours
but each other."""
