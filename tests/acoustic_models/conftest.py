"""Checkpoints of tiny random CTC models of every kind that `transformers` has, with a vocabulary of their own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    Data2VecAudioConfig,
    Data2VecAudioForCTC,
    HubertConfig,
    HubertForCTC,
    PretrainedConfig,
    SeamlessM4TFeatureExtractor,
    SEWConfig,
    SEWDConfig,
    SEWDForCTC,
    SEWForCTC,
    Wav2Vec2BertConfig,
    Wav2Vec2BertForCTC,
    Wav2Vec2Config,
    Wav2Vec2ConformerConfig,
    Wav2Vec2ConformerForCTC,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    WavLMConfig,
    WavLMForCTC,
)

SYMBOLS = ["_", *"abcdefg", "[PAD]", *"hijklmnop", "[UNK]", *"qrstuvwxyz'"]  # the blank is number 8
SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "initializer_range": 0.5, "hidden_dropout": 0.3, "layerdrop": 0.3,
}  # fmt: skip
CONV = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
SEW_CONV = {
    "conv_dim": (8,) * 7, "conv_kernel": (10, 3, 3, 3, 3, 2, 2), "conv_stride": (5, 2, 2, 2, 2, 2, 2),
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
KINDS: dict[str, tuple[type, type[PretrainedConfig], dict[str, Any]]] = {
    "wav2vec2": (Wav2Vec2ForCTC, Wav2Vec2Config, {**SIZES, **CONV}),
    "wav2vec2-large": (Wav2Vec2ForCTC, Wav2Vec2Config, {**SIZES, **CONV, **LAYER_NORM}),
    "wav2vec2-adapter": (
        Wav2Vec2ForCTC,
        Wav2Vec2Config,
        {**SIZES, **CONV, "add_adapter": True, "num_adapter_layers": 2},
    ),
    "hubert": (HubertForCTC, HubertConfig, {**SIZES, **CONV}),
    "wavlm": (WavLMForCTC, WavLMConfig, {**SIZES, **CONV, "num_buckets": 8, "max_bucket_distance": 16}),
    "data2vec-audio": (
        Data2VecAudioForCTC,
        Data2VecAudioConfig,
        {**SIZES, **CONV, "num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5},
    ),
    "wav2vec2-conformer": (
        Wav2Vec2ConformerForCTC,
        Wav2Vec2ConformerConfig,
        {**SIZES, **CONV, "conv_depthwise_kernel_size": 7},
    ),
    "sew": (SEWForCTC, SEWConfig, {**SIZES, **SEW_CONV}),
    "sew-d": (SEWDForCTC, SEWDConfig, {**SIZES, **SEW_CONV}),
    "wav2vec2-bert": (Wav2Vec2BertForCTC, Wav2Vec2BertConfig, {**SIZES, "conv_depthwise_kernel_size": 7}),
    "wav2vec2-bert-adapter": (
        Wav2Vec2BertForCTC,
        Wav2Vec2BertConfig,
        {**SIZES, "conv_depthwise_kernel_size": 7, "add_adapter": True},
    ),
}


def save_tokenizer(folder: Path, symbols: list[str] | dict[str, list[str]], **names: str) -> Wav2Vec2CTCTokenizer:
    folder.mkdir(parents=True, exist_ok=True)
    numbered = (
        {language: number_of(each) for language, each in symbols.items()}
        if isinstance(symbols, dict)
        else number_of(symbols)
    )
    (folder / "vocab.json").write_text(json.dumps(numbered))
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), **names)
    tokenizer.save_pretrained(folder)
    return tokenizer


def number_of(symbols: list[str]) -> dict[str, int]:
    return {symbol: index for index, symbol in enumerate(symbols)}


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """A folder of the kind; keywords are fields of its configuration."""

    def make(kind: str, *, do_normalize: bool = True, **fields: Any) -> Path:
        model_class, config_class, sizes = KINDS[kind]
        folder = tmp_path / kind
        torch.manual_seed(0)
        config = config_class(**{"vocab_size": len(SYMBOLS), "pad_token_id": SYMBOLS.index("[PAD]"), **sizes, **fields})
        model_class(config).save_pretrained(folder)
        names = {"bos_token": "[PAD]", "eos_token": "[PAD]"}
        save_tokenizer(folder, SYMBOLS, pad_token="[PAD]", unk_token="[UNK]", word_delimiter_token="_", **names)
        if kind.startswith("wav2vec2-bert"):
            SeamlessM4TFeatureExtractor(feature_size=80, num_mel_bins=80).save_pretrained(folder)
        else:
            mask = kind == "wav2vec2-large"
            extractor = Wav2Vec2FeatureExtractor(do_normalize=do_normalize, return_attention_mask=mask)
            extractor.save_pretrained(folder)
        return folder

    return make


LANGUAGES = {
    "eng": ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghij"],
    "deu": ["<pad>", "<s>", "</s>", "<unk>", "|", *"klmnoäöüß"],
}


@pytest.fixture
def multilingual(tmp_path: Path) -> tuple[Path, dict[str, Wav2Vec2ForCTC]]:
    """A folder as that of MMS, and the model of each language: adapters and heads differ, the rest they share."""
    folder = tmp_path / "mms"
    save_tokenizer(folder, LANGUAGES, target_lang="eng")
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    models: dict[str, Wav2Vec2ForCTC] = {}
    for seed, (language, symbols) in enumerate(LANGUAGES.items()):
        torch.manual_seed(seed)
        config = Wav2Vec2Config(vocab_size=len(symbols), **SIZES, **CONV, **LAYER_NORM, adapter_attn_dim=4)
        model = Wav2Vec2ForCTC(config).eval()
        own = model._get_adapters()
        assert len(own) > 2  # not the head alone
        if models:
            shared = {name: each for name, each in models["eng"].state_dict().items() if name not in own}
            model.load_state_dict(shared, strict=False)
        save_file(
            {name: each.data.contiguous() for name, each in own.items()}, folder / f"adapter.{language}.safetensors"
        )
        models[language] = model
    models["eng"].save_pretrained(folder)
    return folder, models


@pytest.fixture
def recordings() -> list[np.ndarray]:
    return [
        0.1 * np.random.default_rng(seed).standard_normal(num_samples, dtype=np.float32)
        for seed, num_samples in enumerate((8000, 11111, 12345, 9600))
    ]
