"""What `make` installs is pinned, and pinned to versions that the package accepts."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lact_asr_model.commands.demo import RECORDINGS_DIR

REPOSITORY = Path(__file__).parents[1]
INSTALLED_EXTRAS = ("dev", "augment", "track", "lm", "normalize", "serve", "export")
EXTRAS_OF_TEST_ALL = ("web", "docs", "data", "ray", "tracking")


def pins() -> dict[str, str]:
    """Version of each package in constraints.txt."""
    lines = [line for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def requirements() -> list[str]:
    """Direct requirements of what `make` installs, that of `make test-all` too."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    names = (*INSTALLED_EXTRAS, *EXTRAS_OF_TEST_ALL)
    extras = [requirement for name in names for requirement in project["optional-dependencies"][name]]
    return project["dependencies"] + extras


@pytest.mark.parametrize("text", requirements())
def test_a_requirement_is_pinned_to_a_version_it_accepts(text: str) -> None:
    requirement = Requirement(text)
    assert pins()[canonicalize_name(requirement.name)] in requirement.specifier


def test_pins_are_plain_versions() -> None:
    for name, version in pins().items():
        assert not set(version) & set("/@:+ "), f"{name} is pinned to a file or a local build"


def test_the_wheel_has_every_file_of_the_package() -> None:
    package = REPOSITORY / "lact_asr_model"
    setuptools = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    shipped = {path for pattern in setuptools["package-data"]["lact_asr_model"] for path in package.glob(pattern)}
    files = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert files == {path for path in shipped if path.is_file()}
    assert RECORDINGS_DIR / "manifest.jsonl" in files


def test_make_installs_the_extras_that_are_pinned() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for extras in (INSTALLED_EXTRAS, EXTRAS_OF_TEST_ALL):
        assert f'".[{",".join(extras)}]"' in makefile


def test_continuous_integration_runs_make_test() -> None:
    commands = (REPOSITORY / ".ci" / "run").read_text().splitlines()
    assert commands[-1] == "make test"
