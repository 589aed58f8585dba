"""Similarity of two domains: distances, transferability and pictures of their features.

``measures`` is the table of all measures. Those are pure functions of arrays; ``compare`` and
``table`` are the command ``tl-similarity``.
"""
