"""Checkpoints on disk: Hugging Face folders and `best_model.pt`, written so that a kill never leaves a broken one."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers.utils import logging

from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.errors import UserError
from lact_asr_model.files import complete_file
from lact_asr_model.hybrid_network import HybridNetwork
from lact_asr_model.text import BLANK, make_feature_extractor, make_tokenizer

if TYPE_CHECKING:
    from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor

    from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC

BUNDLED_MODEL_DIR = Path(__file__).parent / "bundled_model"
_WEIGHTS = "model.safetensors"
_WEIGHTS_INDEX = "model.safetensors.index.json"
_BEST_MODEL_KEYS = {"config", "vocabulary", "state_dict"}


class Processor(NamedTuple):
    """What goes before and behind a model; `transformers` joins them in a class that takes a second to import."""

    feature_extractor: "Wav2Vec2FeatureExtractor"
    tokenizer: "Wav2Vec2CTCTokenizer"


def load_network(path: str | Path | None = None) -> tuple[HybridNetwork, Processor]:
    """Network (float32, in evaluation mode) and processor of a folder or a `best_model.pt`; None: the bundled model.

    Raises:
        UserError: no checkpoint is there, it is of another kind or incomplete, or its vocabulary is missing or does
            not fit the model.
    """
    path = BUNDLED_MODEL_DIR if path is None else Path(path)
    if path.is_file():
        network, vocabulary = load_best_model(path)
        return network, Processor(make_feature_extractor(network.config.sampling_rate), make_tokenizer(vocabulary))
    return _load_folder(path)


def load_checkpoint(path: str | Path | None = None) -> tuple["HybridASRForCTC", "Wav2Vec2Processor"]:
    """The same as classes of `transformers`, for training and saving."""
    from transformers import Wav2Vec2Processor

    from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC

    network, processor = load_network(path)
    return HybridASRForCTC.of(network), Wav2Vec2Processor(*processor)


def save_pretrained_folder(
    folder: str | Path,
    model: HybridNetwork,
    processor: "Processor | Wav2Vec2Processor",
    *,
    model_card: str | None = None,
    max_shard_size: str = "50GB",
    compact: bool = False,
) -> None:
    """Write a Hugging Face folder (and `README.md`, if a card is given) that takes the place of `folder` as a whole.

    `compact` stores the matrices inside the blocks as 8-bit floats (E4M3) and everything else in half precision; both
    are loaded as float32. The files are complete in a folder beside it before the first is renamed. A kill between the
    two renames leaves the old one as FOLDER.previous, where `load_checkpoint` finds it.
    """
    from transformers import Wav2Vec2Processor

    from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC

    folder = Path(folder)
    partial, previous = _sibling(folder, "partial"), _sibling(folder, "previous")
    shutil.rmtree(partial, ignore_errors=True)
    with without_progress_bar():
        state_dict = _compact(model) if compact else model.state_dict()
        pretrained: Any = HybridASRForCTC.of(model)
        pretrained.save_pretrained(partial, state_dict=state_dict, max_shard_size=max_shard_size)
    Wav2Vec2Processor(processor.feature_extractor, processor.tokenizer).save_pretrained(partial)
    if model_card is not None:
        (partial / "README.md").write_text(model_card, encoding="utf-8")
    if folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
        folder.rename(previous)
    partial.rename(folder)
    shutil.rmtree(previous, ignore_errors=True)


def save_best_model(path: str | Path, model: HybridNetwork, vocabulary: Mapping[str, int]) -> None:
    """Write one file {"config", "vocabulary", "state_dict"}, which `torch.load(weights_only=True)` reads."""
    content = {
        "config": json.loads(model.config.to_json_string(use_diff=False)),
        "vocabulary": dict(vocabulary),
        "state_dict": {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()},
    }
    save_atomically(path, content)


def load_best_model(path: str | Path) -> tuple[HybridNetwork, dict[str, int]]:
    """Network (in evaluation mode) and vocabulary of `save_best_model`; errors as in `load_network`."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"checkpoint {path}: cannot be read ({error.strerror}); check the path") from None
    except Exception:  # torch.load raises whatever its unpickler stumbles over
        raise UserError(f"checkpoint {path}: is not a PyTorch checkpoint; give a folder or a best_model.pt") from None
    if not isinstance(content, dict) or not _BEST_MODEL_KEYS.issubset(content):
        raise UserError(f"checkpoint {path}: is not of this recogniser; give a best_model.pt of training")
    vocabulary = content["vocabulary"]
    return _build_network(path, content["config"], vocabulary, content["state_dict"]), vocabulary


def save_atomically(path: str | Path, content: Any) -> None:
    """`torch.save` to a file beside `path`, flushed to the disk, that then takes its place."""
    with complete_file(Path(path)) as file:
        torch.save(content, file)


def _compact(model: HybridNetwork) -> dict[str, Tensor]:
    matrices = model.hidden_matrices()
    return {
        name: tensor.to(torch.float8_e4m3fn if name in matrices else torch.float16)
        for name, tensor in model.state_dict().items()
    }


def _load_folder(folder: Path) -> tuple[HybridNetwork, Processor]:
    from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor

    if not folder.exists() and _sibling(folder, "previous").exists():
        folder = _sibling(folder, "previous")
    if not folder.exists():
        raise UserError(f"checkpoint {folder}: no such file or folder; give a checkpoint folder or a best_model.pt")
    fields = _read_json(folder, "config.json")
    if fields.get("model_type") != HybridASRConfig.model_type:
        raise UserError(
            f"checkpoint {folder}: holds a model of type {fields.get('model_type')!r}; "
            f"it must be {HybridASRConfig.model_type!r}"
        )
    network = _build_network(folder, fields, _read_json(folder, "vocab.json"), _read_weights(folder))
    try:
        feature_extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder)
        tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(folder)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"checkpoint {folder}: its processor cannot be loaded ({reason}); save it again") from None
    return network, Processor(feature_extractor, tokenizer)


def _build_network(
    path: str | Path, fields: dict[str, Any], vocabulary: Mapping[str, int], state_dict: dict[str, Tensor]
) -> HybridNetwork:
    with torch.device("meta"):
        network = HybridNetwork(HybridASRConfig(**fields))
    try:
        network.load_state_dict({name: tensor.float() for name, tensor in state_dict.items()}, assign=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip().rstrip(".")
        raise UserError(f"checkpoint {path}: weights and configuration do not fit ({first}); save it again") from None
    _check_vocabulary(path, vocabulary, network.config)
    return network.eval()


def _check_vocabulary(path: str | Path, vocabulary: Mapping[str, int], config: HybridASRConfig) -> None:
    if len(vocabulary) != config.vocab_size:
        raise UserError(
            f"checkpoint {path}: its vocabulary has {len(vocabulary)} symbols and its model {config.vocab_size}; "
            "use the vocab.json that the model was trained with"
        )
    if sorted(vocabulary.values()) != list(range(len(vocabulary))) or vocabulary.get(BLANK) != config.pad_token_id:
        raise UserError(
            f"checkpoint {path}: its vocabulary must number its symbols from 0, with {BLANK} = {config.pad_token_id}; "
            "use the vocab.json that the model was trained with"
        )


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except OSError:
        raise UserError(
            f"checkpoint {folder}: has no {name}; give the best_model folder or best_model.pt of a training"
        ) from None
    except ValueError as error:
        raise UserError(f"checkpoint {folder}: its {name} is not valid JSON ({error}); copy it again") from None
    if not isinstance(content, dict):
        raise UserError(f"checkpoint {folder}: its {name} is not a JSON object; copy it again")
    return content


def _read_weights(folder: Path) -> dict[str, Tensor]:
    names = [_WEIGHTS]
    if (folder / _WEIGHTS_INDEX).is_file():
        names = sorted(set(_read_json(folder, _WEIGHTS_INDEX).get("weight_map", {}).values()))
    state_dict: dict[str, Tensor] = {}
    for name in names:
        try:
            state_dict |= load_file(folder / name)
        except FileNotFoundError:
            raise UserError(f"checkpoint {folder}: has no {name}; copy the whole folder") from None
        except (SafetensorError, OSError):
            raise UserError(f"checkpoint {folder}: its {name} is damaged; copy it again") from None
    return state_dict


@contextmanager
def without_progress_bar() -> Iterator[None]:
    """Saving and loading a folder in silence."""
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def _sibling(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")
