"""Adaptation to one utterance by a self-supervised loss, for any CTC model: nothing here knows which model it moves."""
