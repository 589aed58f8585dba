"""Domains and tasks as tensors. A data config's ``name`` is a module of this package with a
``load``."""
