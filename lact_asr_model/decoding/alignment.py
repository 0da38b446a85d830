"""Where in the audio a given transcript was said: its most probable CTC path (Viterbi)."""

from itertools import pairwise

import numpy as np

from lact_asr_model.decoding.greedy import words_of_path
from lact_asr_model.decoding.hypothesis import Word
from lact_asr_model.text import BLANK, WORD_SEPARATOR


def align_words(log_probs: np.ndarray, text: str, vocabulary: list[str]) -> list[Word]:
    """The words of `text` with their frames and confidence, as greedy decoding would give them on this path.

    Args:
        log_probs: [frames, vocab], finite; at least as many frames as the text needs.
        text: words of symbols of the vocabulary, single spaces between them.
        vocabulary: the symbol of every index.
    """
    path = best_path(log_probs, text, vocabulary)
    return words_of_path(path, log_probs[np.arange(len(path)), path], vocabulary)


def frames_needed(text: str) -> int:
    """Fewest frames that CTC can spell `text` in: one a character, and a blank between two equal ones."""
    return len(text) + sum(first == second for first, second in pairwise(text))


def best_path(log_probs: np.ndarray, text: str, vocabulary: list[str]) -> np.ndarray:
    """[frames] indices of the most probable path that spells `text`; see `align_words`."""
    blank, separator = vocabulary.index(BLANK), vocabulary.index(WORD_SEPARATOR)
    characters = [vocabulary.index(WORD_SEPARATOR if character == " " else character) for character in text]
    num_frames, num_states = len(log_probs), 2 * len(characters) + 1

    # Even states are the gaps around the characters. A separator beside a word boundary changes nothing, so a gap
    # there may be spelled by blanks and separators alike.
    symbols = np.full(num_states, blank)
    symbols[1::2] = characters
    ends_word = np.array([True, *(index == separator for index in characters), True])
    is_boundary = np.zeros(num_states, dtype=bool)
    is_boundary[0::2] = ends_word[:-1] | ends_word[1:]
    likelier_silence = np.where(log_probs[:, separator] > log_probs[:, blank], separator, blank)

    def emissions(frame: int) -> np.ndarray:
        row = log_probs[frame]
        return np.where(is_boundary, row[likelier_silence[frame]], row[symbols])

    may_skip_gap = np.zeros(num_states, dtype=bool)
    may_skip_gap[3::2] = symbols[3::2] != symbols[1:-2:2]
    skip_penalty = np.where(may_skip_gap, 0.0, -np.inf)

    steps = np.zeros((num_frames, num_states), dtype=np.int8)
    candidates = np.full((3, num_states), -np.inf)
    scores = np.full(num_states, -np.inf)
    scores[:2] = emissions(0)[:2]
    for frame in range(1, num_frames):
        candidates[0] = scores
        candidates[1, 1:] = scores[:-1]
        candidates[2, 2:] = scores[:-2]
        candidates[2] += skip_penalty
        steps[frame] = candidates.argmax(axis=0)
        scores = candidates.max(axis=0) + emissions(frame)

    state = num_states - 1
    if num_states > 1 and scores[-2] > scores[-1]:
        state -= 1
    path = np.empty(num_frames, dtype=np.int64)
    for frame in range(num_frames - 1, -1, -1):
        path[frame] = likelier_silence[frame] if is_boundary[state] else symbols[state]
        state -= int(steps[frame, state])
    return path
