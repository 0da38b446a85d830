"""Scripts of `benchmarks/` as modules."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS_DIR = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load_benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a script by its name, as Python finds it beside the script that it runs."""
    monkeypatch.syspath_prepend(BENCHMARKS_DIR)
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if (BENCHMARKS_DIR / f"{name}.py").is_file():
            del sys.modules[name]
