"""The recognitions of a comparison decoded once more, with a beam search: from their log-probabilities on disk."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

from tqdm.auto import tqdm

from lact_asr_model.decoding.beam_search import BeamSearchDecoder
from lact_asr_model.decoding.factory import make_decoder
from lact_asr_model.decoding.options import DecodingOptions
from lact_asr_model.evaluation.emission_store import EmissionStore
from lact_asr_model.evaluation.processes import Processes
from lact_asr_model.evaluation.records import RecordLog
from lact_asr_model.evaluation.tasks import Task
from lact_asr_model.text import normalize_text


class BeamDecoders(NamedTuple):
    """A beam search with the weights for what a model says plainly, and one with those for what it says adapted."""

    plain: BeamSearchDecoder
    adapted: BeamSearchDecoder

    @classmethod
    def make(cls, options: DecodingOptions, vocabulary: list[str]) -> Self:
        """Raises UserError: see `make_decoder`."""
        made = (make_decoder(replace(options, for_adapted=adapted), vocabulary) for adapted in (False, True))
        return cls(*cast("Iterator[BeamSearchDecoder]", made))

    def settings(self) -> dict[str, Any]:
        """What a decoding depends on."""
        chosen_elsewhere = ("lm_weight", "word_score", "weights_dir", "for_adapted")
        settings = {name: value for name, value in asdict(self.plain.options).items() if name not in chosen_elsewhere}
        weights = {name: asdict(decoder.weights) for name, decoder in self._asdict().items()}
        return {**settings, "hotwords": list(self.plain.options.hotwords), "weights": weights}


def decoding_log(folder: Path, settings: dict[str, Any], decoding: dict[str, Any], rank: int = 0) -> RecordLog:
    """The log of what is decoded with the settings `decoding`, in a folder of its own below that of the comparison."""
    digest = hashlib.sha256(json.dumps(decoding, sort_keys=True).encode()).hexdigest()[:8]
    return RecordLog(folder / f"beam_{decoding['beam_size']}_{digest}", {**settings, "decoding": decoding}, rank)


def decode_recognitions(
    decoders: Mapping[str, BeamSearchDecoder],
    tasks: Sequence[Task],
    recognitions: RecordLog,
    store: EmissionStore,
    log: RecordLog,
    processes: Processes,
) -> None:
    """Decode this process's share of what is not in the log yet.

    Args:
        decoders: of each method, by name.
        tasks: what was recognised.
        recognitions: the records of all methods; the time of decoding is added to theirs.
        store: has the log-probabilities of each.
        log: gets a record for each.
        processes: those that share the work out.
    """
    keys = [(task.name, method, utterance.id) for task in tasks for method in decoders for utterance in task.utterances]
    missing = [key for key in keys if key not in log][processes.rank :: processes.count]
    for key in tqdm(missing, unit="utt", desc="beam search", disable=None if processes.is_first else True):
        record = recognitions[key]
        emissions = store.read(key)
        start_seconds = time.perf_counter()
        hypotheses = decoders[record.method].collect([decoders[record.method].submit(rows) for rows in emissions])
        elapsed_seconds = time.perf_counter() - start_seconds
        text = normalize_text(" ".join(hypothesis.text for hypothesis in hypotheses if hypothesis.text))
        log.append(replace(record, hyp=text, seconds=record.seconds + elapsed_seconds))
