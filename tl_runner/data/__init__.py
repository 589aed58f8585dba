"""Domains and tasks as tensors; choices of ``data=`` are the modules of ``tasks``."""
