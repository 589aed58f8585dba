"""Choices of ``track=``: where the numbers of ``metrics.jsonl`` go as well."""
