"""The package is built in layers: a module imports only lower ones, so that each can be read without those above."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "lact_asr_model"
LAYERS = [
    {"errors"},
    {"files", "text", "metrics", "ops", "container_structure"},
    {"audio"},
    {"audio_search"},
    {"adaptation"},
    {"activations"},
    {"configuration_hybrid_asr"},
    {"wav2vec2_encoder", "log_mel_encoder", "lact_layer"},
    {"hybrid_network"},
    {"modeling_hybrid_asr"},
    {"checkpoint_io"},
    {"data"},
    {"decoding"},
    {"acoustic_models"},
    {"recognition"},
    {"training", "evaluation"},
    {"export"},
    {"serving"},
    {"commands"},
    {"cli"},
]
RANKS = {unit: rank for rank, units in enumerate(LAYERS) for unit in units}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
LAUNCHERS = [*REPOSITORY.glob("training/*.py"), *REPOSITORY.glob("inference/*.py")]
MODEL_FREE = {"errors", "ops", "adaptation"}  # all that adaptation may know of this package
MODELS = ("transformers", "lact_asr_model.modeling", "lact_asr_model.configuration", "lact_asr_model.acoustic_models")
LIGHT_MODULES = ("errors", "audio", "text", "metrics", "adaptation.options", "audio_search", "commands.options", "cli")
HEAVY_PACKAGES = ("torch", "transformers", "scipy", "pyroomacoustics", "matplotlib", "gradio")
BANNED_PACKAGES = {"torchaudio", "speechbrain", "torch_audiomentations", "audiomentations", "evaluate"}
VAGUE_NAMES = {"utils", "util", "helpers", "misc", "common"}


def unit_of(path: Path) -> str:
    """The top-level module or folder of the package that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_names(path: Path) -> Iterator[str]:
    """Absolute dotted names of everything that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the full name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_lower_layers(path: Path) -> None:
    unit = unit_of(path)
    assert unit in RANKS, f"give {unit} a place in LAYERS"
    for name in imported_names(path):
        package, _, rest = name.partition(".")
        imported_unit = rest.split(".")[0]
        if package == PACKAGE.name and imported_unit != unit:
            assert RANKS.get(imported_unit, len(LAYERS)) < RANKS[unit], f"{unit} must not import {name}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "adaptation").glob("*.py")), ids=lambda path: path.stem)
def test_adaptation_knows_no_model(path: Path) -> None:
    for name in imported_names(path):
        package, _, rest = name.partition(".")
        assert package != "transformers", f"{path.name} must not import {name}"
        if package == PACKAGE.name:
            assert rest.split(".")[0] in MODEL_FREE, f"{path.name} must not import {name}"


def test_no_module_imports_itself_over_others() -> None:
    names = {f"{PACKAGE.name}.{'.'.join(path.relative_to(PACKAGE).with_suffix('').parts)}": path for path in MODULES}

    def imported_modules(path: Path) -> Iterator[str]:
        for name in imported_names(path):
            yield from {name, name.rpartition(".")[0]} & names.keys()

    tuple(TopologicalSorter({name: set(imported_modules(path)) for name, path in names.items()}).static_order())


@pytest.mark.parametrize("path", MODULES + LAUNCHERS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_banned_package_and_no_vague_name(path: Path) -> None:
    roots = {name.split(".")[0] for name in imported_names(path)}
    assert not roots & BANNED_PACKAGES
    assert path.stem not in VAGUE_NAMES


def test_the_layers_are_all_there() -> None:
    assert {unit_of(path) for path in MODULES} == set(RANKS)


def test_adaptation_loads_no_model_either() -> None:
    imports = ", ".join(f"lact_asr_model.adaptation.{path.stem}" for path in (PACKAGE / "adaptation").glob("[!_]*.py"))
    script = (
        f"import sys, {imports}; print(*(name for name in sys.modules if 'transformers' in name or 'hybrid' in name))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "procedure" in imports
    assert result.stdout.strip() == ""


def test_light_modules_load_nothing_heavy() -> None:
    imports = ", ".join(f"lact_asr_model.{name}" for name in LIGHT_MODULES)
    script = f"import sys, {imports}; print(*sorted(set(sys.modules) & set({HEAVY_PACKAGES!r})))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
