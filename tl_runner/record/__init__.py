"""Record of a run: its folder, its environment, its result, its log and figures."""
