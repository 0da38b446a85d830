import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.fixture
def load_study(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A study by its name, as Python runs it: modules beside it can be imported."""
    monkeypatch.syspath_prepend(str(STUDIES))
    return importlib.import_module
