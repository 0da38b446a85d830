"""What every method recognises: utterances under conditions, and other utterances as they are."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lact_asr_model.data.conditions import Condition, parse_condition
from lact_asr_model.data.sources import read_references
from lact_asr_model.data.utterance import Utterance
from lact_asr_model.errors import UserError
from lact_asr_model.evaluation.summary import CLEAN


@dataclass(frozen=True)
class Task:
    """Utterances, with their texts, under a condition."""

    condition: Condition
    utterances: Sequence[Utterance]

    @property
    def name(self) -> str:
        return self.condition.name


def make_tasks(
    conditions: Sequence[Condition],
    subset: str,
    extra_subsets: str | None = None,
    *,
    data_dir: str | None = None,
    max_utterances: int | None = None,
    normalize: bool = False,
) -> list[Task]:
    """A subset under each condition, and other subsets as they are.

    Args:
        conditions: each with a name of its own.
        subset: as for `read_references`.
        extra_subsets: "NAME=SUBSET,...": each is a condition of that name.
        data_dir: folder of the subsets.
        max_utterances: only so many of each subset, spread evenly over it; None = all.
        normalize: spell numbers and symbols of the references out.

    Raises:
        UserError: a subset cannot be read, an utterance has no transcript or the id of another, or a name is taken.
    """
    utterances = _read_references(subset, data_dir, max_utterances, normalize)
    tasks = [Task(condition, utterances) for condition in conditions]
    for text in extra_subsets.split(",") if extra_subsets is not None else []:
        name, _, extra_subset = text.strip().partition("=")
        if not re.fullmatch(r"[\w-]+", name) or not extra_subset:
            raise UserError(f"--extra_subsets '{text}': is not NAME=SUBSET; write for example children=children.jsonl")
        if name in {CLEAN, *(task.name for task in tasks)}:
            raise UserError(f"--extra_subsets '{text}': '{name}' is the name of another condition; choose a new one")
        condition = replace(parse_condition(CLEAN), name=name)
        tasks.append(Task(condition, _read_references(extra_subset, data_dir, max_utterances, normalize)))
    return tasks


def _read_references(subset: str, data_dir: str | None, max_utterances: int | None, normalize: bool) -> list[Utterance]:
    utterances = read_references(subset, data_dir, normalize=normalize)
    if max_utterances is not None and max_utterances < len(utterances):
        utterances = [utterances[index * len(utterances) // max_utterances] for index in range(max_utterances)]
    seen: set[str] = set()
    for utterance in utterances:
        if utterance.text is None:
            raise UserError(f"utterance {utterance.id}: it has no transcript to compare with; leave it out")
        if utterance.id in seen:
            raise UserError(f"utterance {utterance.id}: two of them have this id; evaluate their sources one by one")
        seen.add(utterance.id)
    return utterances
