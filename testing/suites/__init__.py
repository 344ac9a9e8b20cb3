"""Tests that run against several API servers: the lab's in `tests`, kube-apiserver in `e2e`.

A test module takes a suite with `from testing.suites.parity import *`, and gives the fixture `client`. The fixture
`namespace` is in `testing.suites.objects`.
"""

import pkgutil

import pytest

pytest.register_assert_rewrite(*(module.name for module in pkgutil.iter_modules(__path__, f"{__name__}.")))
