"""Choices of ``data=``: each module has a function ``load`` that makes a
:class:`~tl_runner.data.task.Task`."""
