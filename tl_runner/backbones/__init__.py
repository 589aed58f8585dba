"""Feature extractors. A backbone config's ``name`` is a module of this package with a ``Backbone``."""
