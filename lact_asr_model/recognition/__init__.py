"""Transcription with a trained model, with or without adaptation to each utterance."""
