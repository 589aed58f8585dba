"""Metrics with their intervals, and label-free selection scores.

Pure functions of tensors or arrays; they import nothing of ours but the text helpers of ``errors``.
"""
