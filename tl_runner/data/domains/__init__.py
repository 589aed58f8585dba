"""Domains of the digits tasks.

A name in ``data.source`` or ``data.target`` is a module of this package with a ``Domain``.
"""
