"""Whether what an earlier run left in the folder is of the utterances that are compared now."""

from collections.abc import Collection, Iterable, Sequence

from lact_asr_model.errors import UserError
from lact_asr_model.evaluation.records import RecordLog
from lact_asr_model.evaluation.tasks import Task


def check_kept(log: RecordLog, tasks: Sequence[Task], methods: Iterable[str], streams: Collection[str]) -> None:
    """Refuse records of other utterances that have the ids of these, and those of a stream of others.

    A stream that was stopped has left the beginning of its task.

    Raises:
        UserError: there are such records.
    """
    for method in methods:
        for task in tasks:
            for utterance in task.utterances:
                key = (task.name, method, utterance.id)
                if key in log and log[key].ref != (utterance.text or ""):
                    raise UserError(
                        f"{log.folder}: holds results of another utterance {utterance.id}, with another transcript; "
                        "give another --output_dir"
                    )
            if method not in streams:
                continue
            kept = log.ids(task.name, method)
            if kept != [utterance.id for utterance in task.utterances[: len(kept)]]:
                raise UserError(
                    f"{log.folder}: holds results of '{method}' from a stream of other utterances; give another "
                    "--output_dir"
                )
