"""A look at all data before the first step: transcripts, and the beginning and end of every recording."""

import json
import os
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import soundfile

from lact_asr_model.audio import AudioFile, EmbeddedAudio, audio_duration_seconds
from lact_asr_model.data.sources import read_utterances
from lact_asr_model.data.utterance import Reading, Utterance
from lact_asr_model.errors import UserError, silenced_stderr
from lact_asr_model.files import write_atomically

REPORT_NAME = "bad_items.jsonl"
CACHE_NAME = "checked_recordings.json"
_NUM_EXAMPLES = 3
_END_SECONDS = 0.1


@dataclass(frozen=True)
class BadItem:
    """What was left out, of which data, and why."""

    source: str
    reason: str


class DataCheck:
    """Reads data sets, leaves out what cannot be used, and remembers which recordings were looked at.

    Args:
        output_dir: gets the report and the memory, a file each.
        max_bad_share: more bad items than this share of a data set are an error.
        spell_out: applied to transcripts before they are normalised; None = nothing.
        writes: whether this process writes the files.
    """

    def __init__(
        self, output_dir: Path, *, max_bad_share: float, spell_out: Callable[[str], str] | None, writes: bool
    ) -> None:
        self.bad_items: list[BadItem] = []
        self._report_path = output_dir / REPORT_NAME
        self._max_bad_share = max_bad_share
        self._writes = writes
        self._recordings = _CheckedRecordings(output_dir / CACHE_NAME)
        self._reading = Reading(spell_out=spell_out, measure=self._recordings.seconds)

    def read(self, option: str, source: str, data_dir: Path | None) -> list[Utterance]:
        """The usable utterances of a source, with the lengths of whole files as their headers tell them.

        Args:
            option: the flag that names the source, for messages.
            source, data_dir: as for `read_utterances`.

        Raises:
            UserError: too many items are bad, or all of them; the report names them.
        """
        bad_items: list[BadItem] = []
        try:
            found = read_utterances(
                source,
                data_dir,
                reading=self._reading,
                on_bad_item=lambda error: bad_items.append(BadItem(f"{option} {source}", str(error))),
            )
        finally:
            if self._writes:
                self._recordings.save()
        utterances = []
        for utterance in found:
            if utterance.text:
                utterances.append(utterance)
            else:
                bad_items.append(BadItem(f"{option} {source}", f"{utterance.id}: its transcript has no letters"))
        self.bad_items += bad_items
        self._write_report()
        share = len(bad_items) / (len(utterances) + len(bad_items))
        if share > self._max_bad_share or not utterances:
            raise UserError(
                f"{option} {source}: {len(bad_items)} of {len(utterances) + len(bad_items)} items are bad, such as "
                f"{bad_items[0].reason} ({self._report_path} lists them); correct them"
                + (f", or raise --max_bad_share {self._max_bad_share:g}" if utterances else "")
            )
        return utterances

    def describe(self) -> list[str]:
        """Lines for the console; none if all is well."""
        if not self.bad_items:
            return []
        examples = [f"  {item.source}: {item.reason}" for item in self.bad_items[:_NUM_EXAMPLES]]
        return [f"left out: {len(self.bad_items)} bad items, all listed in {self._report_path}; such as", *examples]

    def _write_report(self) -> None:
        if not self._writes:
            return
        if self.bad_items:
            self._report_path.parent.mkdir(parents=True, exist_ok=True)
            lines = (json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in self.bad_items)
            write_atomically(self._report_path, "".join(lines))
        else:
            self._report_path.unlink(missing_ok=True)


class _CheckedRecordings:
    """The lengths of recordings, or what is wrong with them, kept in a file by path, size and time of change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_changed = False
        self._known: dict[str, list[int | float | str]] = {}
        with suppress(OSError, ValueError):  # nothing is known then
            self._known = json.loads(path.read_text(encoding="utf-8"))

    def seconds(self, path: AudioFile) -> float:
        """The length of a recording. Raises UserError when its header or its end cannot be read."""
        key = os.path.abspath(str(path))
        status = os.stat(path)
        size, time_ns, outcome = self._known.get(key, (None, None, ""))
        if (size, time_ns) != (status.st_size, status.st_mtime_ns):
            try:
                outcome = seconds_to_the_end(path)
            except UserError as error:
                outcome = str(error)
            self._known[key] = [status.st_size, status.st_mtime_ns, outcome]
            self._is_changed = True
        if isinstance(outcome, str):
            raise UserError(outcome)
        return outcome

    def save(self) -> None:
        """Write the file, if anything is new."""
        if self._is_changed:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, json.dumps(self._known))
            self._is_changed = False


def seconds_to_the_end(path: AudioFile) -> float:
    """The length of a recording from its header, if the last tenth of a second that it promises is there.

    That finds files that are cut without decoding them, of the kinds that libsndfile reads too; of others the header is
    believed. Raises UserError as `load_audio`.
    """
    seconds = audio_duration_seconds(path)
    with path.open() if isinstance(path, EmbeddedAudio) else nullcontext(path) as source:
        try:
            with silenced_stderr():
                opened = soundfile.SoundFile(source)
        except (soundfile.LibsndfileError, TypeError):  # TypeError: a *.raw file, whose format nothing tells
            return seconds
        try:
            with opened as file, silenced_stderr():
                num_frames = min(file.frames, max(1, round(_END_SECONDS * file.samplerate)))
                file.seek(file.frames - num_frames)
                is_cut = len(file.read(num_frames)) == 0 and num_frames > 0
        except soundfile.LibsndfileError:
            is_cut = True
    if is_cut or seconds == 0:
        raise UserError(f"{path}: {'the file is cut short' if is_cut else 'the file has no samples'}; copy it again")
    return seconds
