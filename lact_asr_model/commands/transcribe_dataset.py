"""`transcribe` with --data_dir: a data set to transcripts, error rates and speed."""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from lact_asr_model.commands.options import output_permission
from lact_asr_model.commands.recognizers import open_recognizer
from lact_asr_model.data.sources import read_references
from lact_asr_model.data.utterance import Utterance
from lact_asr_model.errors import UserError
from lact_asr_model.files import write_atomically
from lact_asr_model.recognition.dataset_report import (
    check_settings,
    dataset_results,
    describe_settings,
    format_results,
)
from lact_asr_model.recognition.destinations import Destination, OneFile, make_destination, progress_told
from lact_asr_model.recognition.outcome import Outcome
from lact_asr_model.recognition.output_formats import (
    ctm_names,
    format_ctm,
    jsonl_head,
    jsonl_line,
    read_jsonl_line,
    text_head,
)
from lact_asr_model.recognition.transcript import AudioSource, Transcript

_SETTINGS = (
    *(
        "data_dir",
        "subset",
        "normalize",
        "checkpoint",
        "beam_size",
        "lm",
        "lm_weight",
        "word_score",
        "beam_threshold",
        "lexicon",
    ),
    *("hotwords", "hotword_weight", "decoding_processes", "move_emission_to_cpu", "seed"),
)


def transcribe_dataset(arguments: argparse.Namespace) -> Outcome:
    """Transcribe a data set and print its error rates and speed.

    Raises:
        UserError: the data, the model or an option cannot be used, or an output file may not be written.
    """
    utterances = read_references(arguments.subset, arguments.data_dir, normalize=arguments.normalize)
    outputs = _Outputs(arguments, utterances)
    num_resumed = len(outputs.transcripts)
    failures: dict[int, str] = {}
    outcome = Outcome(num_transcribed=num_resumed)
    with progress_told(outputs.first, len(utterances)), open_recognizer(arguments) as (transcriber, recognize):
        settings = describe_settings(transcriber, {name: getattr(arguments, name) for name in _SETTINGS})
        if outputs.results_path and arguments.resume:
            check_settings(outputs.results_path, settings)
        outputs.bring_up_to_date()
        results = recognize(
            [AudioSource.of(utterance) for utterance in utterances],
            outputs.transcripts,
            [utterance.duration_seconds for utterance in utterances],
            strict=arguments.strict,
        )
        for index, result in tqdm(results, total=len(utterances) - num_resumed, unit="utt", disable=None):
            outcome.count(result, str(result.path))
            if result.transcript is not None:
                outputs.write(index, result.transcript)
            elif result.error is not None:
                failures[index] = str(result.error)
        outputs.close()
        transcribed = [(utterances[index], transcript) for index, transcript in sorted(outputs.transcripts.items())]
        failed = {utterances[index].id: reason for index, reason in sorted(failures.items())}
        report = dataset_results(transcribed, failed, transcriber, settings, num_resumed)
        if outputs.results_path:
            write_atomically(outputs.results_path, json.dumps(report, indent=2) + "\n")
    print(format_results(report))
    return outcome


class _Outputs:
    """The transcripts of a data set by number, and the files that get them: `transcripts.jsonl` first, then --output.

    `transcripts` holds what there is, as read from JSON lines, so that a run in one piece and a resumed one report the
    same. `results_path` is where the report goes, if anywhere.

    Raises:
        UserError: a file may not be written, or --resume cannot go on with it.
    """

    def __init__(self, arguments: argparse.Namespace, utterances: Sequence[Utterance]) -> None:
        self._utterances = utterances
        self._ctm_names = ctm_names(utterance.id for utterance in utterances)
        self.transcripts: dict[int, Transcript] = {}
        self.results_path: Path | None = None
        self._files: list[tuple[str, Destination]] = []
        places = []
        if arguments.output_dir:
            self.results_path = arguments.output_dir / "results.json"
            places.append(("jsonl", arguments.output_dir / "transcripts.jsonl"))
        if arguments.output:
            places.append((arguments.format or "jsonl", arguments.output))
        if arguments.resume and places[0][0] != "jsonl":
            raise UserError(
                f"--resume: --format {arguments.format} does not hold all of a result; give --output_dir too"
            )

        manifests = [
            folder / name for name in arguments.subset.split("+") for folder in (Path(arguments.data_dir), Path())
        ]
        permission = output_permission(
            arguments, [*manifests, *(Path(utterance.audio_path) for utterance in utterances)]
        )
        if self.results_path:
            permission.check(self.results_path)
            own = {os.path.realpath(path) for path in (self.results_path, places[0][1])}
            if arguments.output and os.path.realpath(arguments.output) in own:
                raise UserError(f"{arguments.output}: is a file of --output_dir; name another one")
        for format_name, path in places:
            heads = [self._head(format_name, index) for index in range(len(utterances))]
            self._files.append((format_name, make_destination(path, permission, format_name, heads)))
        if isinstance(self.first, OneFile):
            for index, line in self.first.lines.items():
                try:
                    self.transcripts[index] = read_jsonl_line(line.decode("utf-8"))
                except ValueError as error:
                    name = utterances[index].id
                    raise UserError(f"{self.first.place}: its line of {name} is damaged ({error}); delete it") from None

    @property
    def first(self) -> Destination | None:
        """The file that a resumed run begins with."""
        return self._files[0][1] if self._files else None

    def bring_up_to_date(self) -> None:
        """Write to the second file what only the first one has."""
        for format_name, destination in self._files:
            for index in sorted(self.transcripts.keys() - set(destination.done)):
                destination.write(index, self._format(format_name, index))

    def write(self, index: int, transcript: Transcript) -> None:
        """Take the transcript of an utterance. Raises UserError when the disk is full."""
        line = jsonl_line(self._utterances[index].id, transcript, reference=self._utterances[index].text)
        self.transcripts[index] = read_jsonl_line(line)
        for format_name, destination in self._files:
            if index not in destination.done:
                destination.write(index, self._format(format_name, index))

    def close(self) -> None:
        """Close the files; they are there even if they are empty."""
        for _, destination in self._files:
            destination.close()

    def _head(self, format_name: str, index: int) -> str:
        utterance = self._utterances[index]
        if format_name == "ctm":
            return f"{self._ctm_names[index]} "
        return text_head(utterance.id) if format_name == "text" else jsonl_head(utterance.id, reference=utterance.text)

    def _format(self, format_name: str, index: int) -> str:
        utterance, transcript = self._utterances[index], self.transcripts[index]
        if format_name == "ctm":
            return format_ctm(self._ctm_names[index], transcript.words)
        if format_name == "text":
            return f"{text_head(utterance.id)}{transcript.text}\n"
        return jsonl_line(utterance.id, transcript, reference=utterance.text) + "\n"
