"""``tl-similarity``: how alike two domains are under some features, and how well these would serve the target."""
