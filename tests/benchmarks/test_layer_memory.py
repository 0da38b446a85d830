"""Which utterances are heard as one recording."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from lact_asr_model.data.utterance import Utterance


def test_neighbours_of_a_speaker_are_joined_and_short_rests_left_out(
    load_benchmark: Callable[[str], ModuleType],
) -> None:
    layer_memory = load_benchmark("layer_memory")

    def utterances(speaker: str, *lengths_seconds: float) -> list[Utterance]:
        return [
            Utterance(f"{speaker}{number}", Path("a.wav"), "A", length, speaker=speaker)
            for number, length in enumerate(lengths_seconds)
        ]

    of_all = [*utterances("a", 25, 25, 30), *utterances("b", 20, 28), *utterances("c", 10)]
    pieces = [[utterance.id for utterance in piece] for piece in layer_memory.join(of_all, 60.0)]
    assert pieces == [["a0", "a1"], ["b0", "b1"]]
    assert len(list(layer_memory.join(of_all, 0.0))) == len(of_all)
