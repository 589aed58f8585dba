"""The digits tasks' domains. A name in ``data.source`` or ``data.target`` is a module of this
package with a ``Domain``."""
