"""What a run leaves behind: its folder, its environment, its result, its log and figures."""
