"""Choices of ``data=``: each module has a function ``load`` that makes a Task."""
