"""Classification metrics and label-free selection scores: pure tensor functions that import nothing of ours."""
