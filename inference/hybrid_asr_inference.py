"""Launcher of `lact_asr_model.commands.transcribe`."""

from lact_asr_model.commands.transcribe import main

if __name__ == "__main__":
    main()
