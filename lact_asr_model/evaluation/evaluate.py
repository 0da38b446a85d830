"""Methods against conditions on the same utterances: one call, or what the command of this name does."""

import json
import os
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.acoustic_models.loading import as_acoustic_model, load
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.data.conditions import parse_conditions
from lact_asr_model.decoding.options import DecodingOptions
from lact_asr_model.errors import UserError
from lact_asr_model.evaluation.comparison import run, summarize_all, warm_up, weights_digest
from lact_asr_model.evaluation.decodings import BeamDecoders, decode_recognitions, decoding_log
from lact_asr_model.evaluation.emission_store import EmissionStore
from lact_asr_model.evaluation.methods import Method, parse_methods
from lact_asr_model.evaluation.processes import ALONE, Processes, num_processes
from lact_asr_model.evaluation.recognizers import is_taught, make_recognizer
from lact_asr_model.evaluation.records import RESULTS_NAME, Record, RecordLog
from lact_asr_model.evaluation.summary import BASELINE
from lact_asr_model.evaluation.tasks import Task, make_tasks
from lact_asr_model.files import write_atomically
from lact_asr_model.recognition.run_description import describe_run


@dataclass(frozen=True)
class Comparison:
    """What is compared; each field is a flag of `lact-asr evaluate`, whose --help says what it does.

    All methods decode greedily; `decoding` is a beam search of the same log-probabilities besides, which also teaches
    the taught losses.

    Raises:
        UserError: a method, a condition, or a combination of them that there is not, or data that cannot be read.
    """

    subset: str
    data_dir: str | Path | None = None
    extra_subsets: str | None = None
    max_utterances: int | None = None
    normalize: bool = False
    conditions: str = "clean"
    noise_dir: str | Path | None = None
    impulse_response_dir: str | Path | None = None
    babble_dir: str | Path | None = None
    methods: str = "none,ttt"
    steps: str | None = None
    baseline: str = BASELINE
    peer_learning_rate: float | None = None
    batch_size: int = 1
    seed: int = 0
    decoding: DecodingOptions | None = None
    parsed_methods: list[Method] = field(init=False, repr=False)
    tasks: list[Task] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        methods = parse_methods(self.methods, self.steps)
        if self.baseline != BASELINE and self.baseline not in {method.name for method in methods}:
            raise UserError(f"--baseline {self.baseline}: is not one of the methods; add it to --methods")
        for method in methods:
            if method.is_stream and self.batch_size > 1:
                raise UserError(f"method '{method.name}': takes one utterance at a time; leave out --batch_size")
            if method.is_stream and num_processes() > 1:
                raise UserError(f"method '{method.name}': takes one utterance after the other; run it without torchrun")
        conditions = parse_conditions(
            self.conditions,
            noise_dir=self.noise_dir,
            impulse_response_dir=self.impulse_response_dir,
            babble_paths=[self.babble_dir] if self.babble_dir else (),
        )
        data_dir = None if self.data_dir is None else str(self.data_dir)
        tasks = make_tasks(
            conditions,
            self.subset,
            self.extra_subsets,
            data_dir=data_dir,
            max_utterances=self.max_utterances,
            normalize=self.normalize,
        )
        object.__setattr__(self, "parsed_methods", methods)
        object.__setattr__(self, "tasks", tasks)

    def settings(self) -> dict[str, Any]:
        """What the recognitions depend on, for `settings.json`."""
        names = (
            "subset",
            "normalize",
            "seed",
            "batch_size",
            "noise_dir",
            "impulse_response_dir",
            "babble_dir",
            "peer_learning_rate",
        )
        values = {name: getattr(self, name) for name in names}
        values["data_dir"] = None if self.data_dir is None else os.path.abspath(self.data_dir)
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def evaluate(
    model: Any,
    subset: str,
    *,
    options: AdaptationOptions | None = None,
    output_dir: str | Path | None = None,
    processor: Any = None,
    **comparison: Any,
) -> dict[str, Any]:
    """Error rates, intervals and costs of methods under conditions, as `lact-asr evaluate` finds them.

    Args:
        model: what `load` gives, a name for it, or a `transformers` CTC model.
        subset: what to recognise, as for the command.
        options: of our method; None = the model's own.
        output_dir: keeps every recognition, and a run that was stopped goes on there; None = nothing is kept.
        processor: of a `transformers` model; None = that of its checkpoint.
        comparison: the other fields of `Comparison`, such as conditions="clean,gaussian:0.01".

    Returns:
        The content of `results.json`; "results" has a summary for each condition and method, "mean_of_shifted" one for
        each method; "results_of_beam" and "mean_of_shifted_of_beam" are those of the beam search, if there was one.

    Raises:
        UserError: see `Comparison`; or a recording cannot be read.
    """
    is_name = model is None or isinstance(model, str | Path)
    acoustic_model = load(model) if is_name else as_acoustic_model(model, processor)
    checked = Comparison(subset, **comparison)
    with tempfile.TemporaryDirectory() as scratch_dir:
        folder = Path(scratch_dir if output_dir is None else output_dir)
        results, _ = compare(acoustic_model, checked, options or acoustic_model.default_options, folder)
    assert results is not None
    return results


def compare(
    model: AcousticModel,
    comparison: Comparison,
    options: AdaptationOptions,
    output_dir: Path,
    processes: Processes = ALONE,
) -> tuple[dict[str, Any] | None, list[Record]]:
    """Recognise this process's share; the first process then writes `results.json`, and alone gets what all found."""
    decoding = comparison.decoding
    decoders = None
    if decoding is not None:
        weights_dir = model.folder or decoding.weights_dir
        decoders = BeamDecoders.make(replace(decoding, weights_dir=weights_dir), model.vocabulary)
    taught = [method.name for method in comparison.parsed_methods if is_taught(method, options)]
    if taught and decoders is None:
        raise UserError(f"method '{taught[0]}': learns from a beam search; add --beam_size 50")
    recognizers = {
        method.name: make_recognizer(
            method,
            model,
            options,
            peer_learning_rate=comparison.peer_learning_rate,
            device=model.device,
            batch_size=comparison.batch_size,
            teacher=decoders.plain if decoders else None,
            keep_emissions=decoders is not None,
        )
        for method in comparison.parsed_methods
    }
    settings = {
        "checkpoint": "bundled model" if model.name is None else model.name,
        "weights_sha256": weights_digest(model.model),
        **comparison.settings(),
        "ttt": asdict(options),
    }
    if decoders and taught:
        settings["teacher"] = decoders.settings()
    with processes.first_one_first():
        store = EmissionStore(output_dir / "emissions") if decoders else None
        log = RecordLog(output_dir, settings, processes.rank)
        decodes = decoding_log(output_dir, settings, decoders.settings(), processes.rank) if decoders else None
    warm_up(recognizers.values())
    run(
        recognizers,
        comparison.tasks,
        log,
        streams=[method.name for method in comparison.parsed_methods if method.is_stream],
        batch_size=comparison.batch_size,
        seed=comparison.seed,
        processes=processes,
        store=store,
    )
    processes.wait_for_all()
    with processes.first_one_first():
        log.merge()
    tasks = comparison.tasks
    if decoders and store and decodes:
        of_methods = {
            method.name: decoders.adapted if method.adapts else decoders.plain for method in comparison.parsed_methods
        }
        decode_recognitions(of_methods, tasks, log, store, decodes, processes)
        processes.wait_for_all()
    if not processes.is_first:
        return None, []
    summaries, shifted = summarize_all(log, tasks, list(recognizers), comparison.seed, comparison.baseline)
    results = {
        **settings,
        "extra_subsets": comparison.extra_subsets,
        **describe_run(model),
        "num_processes": processes.count,
        "results": summaries,
        "mean_of_shifted": shifted,
    }
    if decoders and decodes:
        decodes.merge()
        of_beam = summarize_all(decodes, tasks, list(recognizers), comparison.seed, comparison.baseline)
        results["decoding"] = decoders.settings()
        results["results_of_beam"], results["mean_of_shifted_of_beam"] = of_beam
    write_atomically(output_dir / RESULTS_NAME, json.dumps(results, indent=2) + "\n")
    records = [
        log[task.name, method, utterance.id]
        for task in tasks
        for method in recognizers
        for utterance in task.utterances
    ]
    return results, records
