"""Adaptation to one recording: the procedure, and a command that shows a transcript before and after it."""

from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.adaptation.procedure import Adaptation, adapt
from lact_asr_model.commands.adapt import main

__all__ = ["Adaptation", "AdaptationOptions", "adapt", "main"]

if __name__ == "__main__":
    main()
