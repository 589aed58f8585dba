"""Metrics with their intervals and label-free selection scores: pure functions of tensors or arrays
that import nothing of ours."""
