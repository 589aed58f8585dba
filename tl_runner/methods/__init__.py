"""Transfer methods, one file each. A method config's ``name`` is a module of this package with a
``Method``."""
