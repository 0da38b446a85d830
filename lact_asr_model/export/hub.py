"""A model of this package to the Hugging Face hub, with its card."""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.acoustic_models.loading import load
from lact_asr_model.acoustic_models.tuned_options import FILE_NAME as TUNED_OPTIONS_NAME
from lact_asr_model.checkpoint_io import save_pretrained_folder
from lact_asr_model.decoding.tuned_weights import FILE_NAME as TUNED_WEIGHTS_NAME
from lact_asr_model.errors import UserError
from lact_asr_model.export.model_card import make_card


def push_to_hub(
    model: str | Path | AcousticModel | None,
    name: str,
    *,
    results: Iterable[str | Path] = (),
    license: str | None = None,
    private: bool | None = None,
    token: str | None = None,
) -> str:
    """Upload a model, its processor, what was tuned for it, and a card; `load(name)` gives it back.

        lact_asr_model.push_to_hub("checkpoints/hybrid/best_model", "user/name", license="cc-by-4.0",
                                   results=["results/dev-clean/results.json"])

    Args:
        model: a checkpoint of this package, by the name that `load` takes, or as `load` gives it.
        name: "user/name". A repository of that name gets a new commit.
        results: `results.json` files of `lact-asr evaluate` and `lact-asr transcribe --data_dir`, for the card.
        license: as the hub calls it, such as "cc-by-4.0"; None = what the checkpoint's own card says.
        private: whether a new repository is; None = the account's default.
        token: None = that of `hf auth login`, or of the environment's HF_TOKEN.

    Returns:
        The address of the model's page.

    Raises:
        UserError: it is no model of this package, a file of results cannot be read, or the hub refuses.
    """
    from huggingface_hub import HfApi, ModelCard

    acoustic_model = load(model) if model is None or isinstance(model, str | Path) else model
    if not isinstance(acoustic_model, HybridAcousticModel):
        raise UserError(f"checkpoint {acoustic_model.name}: is no model of this package; use its own push_to_hub")
    source = acoustic_model.folder or Path()
    card_path = source / "README.md"
    earlier = ModelCard.load(card_path) if acoustic_model.folder and card_path.is_file() else None
    card = make_card(
        name, acoustic_model.model, acoustic_model.vocabulary, license=license, results=results, earlier=earlier
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        save_pretrained_folder(folder, acoustic_model.model, acoustic_model.processor, model_card=card)
        for file_name in (TUNED_OPTIONS_NAME, TUNED_WEIGHTS_NAME):
            if acoustic_model.folder and (source / file_name).is_file():
                shutil.copy(source / file_name, folder)
        api = HfApi(token=token)
        try:
            address = api.create_repo(name, private=private, exist_ok=True)
            api.upload_folder(repo_id=name, folder_path=folder, commit_message=f"Upload {name} with lact-asr")
        except Exception as error:  # whatever the hub or the network raises
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
            raise UserError(
                f"{name}: cannot be uploaded ({reason}); check the name, `hf auth login`, network"
            ) from None
    return str(address)
