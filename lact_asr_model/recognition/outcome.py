"""How a command that transcribes ended: what was read whole, in part, or not at all."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lact_asr_model.errors import UserError, print_error, print_warning

if TYPE_CHECKING:
    from lact_asr_model.recognition.transcript import FileResult


@dataclass
class Outcome:
    """How many inputs were transcribed, how many of these only in part, and how many could not be read."""

    num_transcribed: int = 0
    num_partial: int = 0
    num_failed: int = 0

    @property
    def exit_code(self) -> int:
        """0: all is well; 1: something is missing; 2: nothing could be done."""
        if self.num_failed and not self.num_transcribed:
            return 2
        return 1 if self.num_failed or self.num_partial else 0

    def count(self, result: "FileResult", name: str) -> None:
        """Count a result and print its warnings and its error, with the file under `name`."""
        for warning in result.warnings:
            print_warning(warning.replace(str(result.path), name))
        if result.error is not None:
            self.num_failed += 1
            print_error(UserError(str(result.error).replace(str(result.path), name)))
        else:
            self.num_transcribed += 1
            self.num_partial += result.is_partial
