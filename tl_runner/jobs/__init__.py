"""What a command does: a run, a sweep, a search, a resumed one of them, and how each ends."""
