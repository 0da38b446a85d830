"""Conditions and methods in words, for tables and pictures."""

from lact_asr_model.evaluation.summary import BASELINE

_CONDITIONS = {
    "telephone": "telephone band",
    "mu_law": "μ-law telephone",
    "gsm": "GSM telephone",
    "opus": "Opus at a low rate",
    "mp3": "MP3 at a low rate",
    "clip": "clipped",
}
_LEVELS = {"noise": "noise at {} dB", "babble": "other voices at {} dB", "gain": "gain of {} dB"}
_METHODS = {
    "suta": "SUTA",
    "tent": "TENT",
    "suta_mean": "SUTA, mean of answers",
    "suta_lm": "SUTA-LM",
    "li_tta": "LI-TTA",
}
_OURS = {"ttt": "ours", "continual": "ours, carried on"}


def condition_label(name: str) -> str:
    """Such as "white noise, σ 0.01" for gaussian:0.01; a name that is not known stays as it is."""
    kind, _, value = name.partition(":")
    value, _, folder = value.partition(":")
    if kind == "gaussian" and value:
        return f"white noise, σ {value}"
    if kind == "room":
        return f"room, {value.replace('_', ' ')}" if value else "a room"
    if kind in _LEVELS and value:
        return _LEVELS[kind].format(value.replace("-", "−")) + (f", {folder}" if folder else "")
    return _CONDITIONS.get(name, name)


def method_label(name: str) -> str:
    """Such as "SUTA, 10 steps" for suta:10, or "ours (front_end, loss lm), 1 step"."""
    if name == BASELINE:
        return "no adaptation"
    name, _, steps = name.partition(":")
    name, _, loss = name.partition("@")
    algorithm, _, parameters = (name, "", "") if name in _METHODS else name.partition("_")
    details = ", ".join(part for part in (parameters, f"loss {loss}" if loss else "") if part)
    label = _METHODS.get(algorithm) or _OURS.get(algorithm, algorithm)
    number = {"": "", "1": ", 1 step"}.get(steps, f", {steps} steps")
    return label + (f" ({details})" if details else "") + number
