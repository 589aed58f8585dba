"""Builders and comparisons that several test files share."""

import pkgutil

import pytest

# their assertions say as much as those of the tests
pytest.register_assert_rewrite(
    *(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__))
)
