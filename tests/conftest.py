"""Tiny configuration, model and speech-like data that the whole suite shares."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC, Wav2Vec2Processor

from lact_asr_model.checkpoint_io import save_pretrained_folder
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.text import build_vocabulary, make_processor

REPOSITORY = Path(__file__).parents[1]
SAMPLING_RATE = 16000
CHARACTER_SECONDS = 0.12
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ' "
TRANSCRIPTS = {
    "train-tiny": ["A CAB", "BAD CAFE", "FACE", "DEAF BEE", "A BED", "ADD A BEAD", "FEED"],
    "dev-tiny": ["A FACE", "BAD BED", "CAFE"],
    "test-tiny": ["A BEE", "DEAD CAB"],
}

ARPA = """\\data\\
ngram 1=6
ngram 2=1

\\1-grams:
-1.5\t<unk>\t0
-99\t<s>\t-0.3
-1.2\t</s>\t0
-0.4\tFACE\t-0.2
-0.9\tBED\t-0.4
-0.7\tA\t-0.1

\\2-grams:
-0.2\tA FACE

\\end\\
"""


@pytest.fixture
def tiny_config() -> HybridASRConfig:
    """The configuration for tests: every part of the model is there, a few thousand parameters each."""
    return HybridASRConfig.from_file(REPOSITORY / "configs" / "tiny_asr_config.json")


@pytest.fixture
def tiny_model(tiny_config: HybridASRConfig) -> HybridASRForCTC:
    """A randomly initialised tiny model in eval mode, the same in every test."""
    torch.manual_seed(0)
    return HybridASRForCTC(tiny_config).eval()


@pytest.fixture
def decisive_model(tiny_model: HybridASRForCTC) -> HybridASRForCTC:
    """The tiny model with an output layer so large that its entropy differs from utterance to utterance."""
    torch.manual_seed(3)
    torch.nn.init.normal_(tiny_model.lm_head.weight, std=1.0)
    return tiny_model


@pytest.fixture(scope="session")
def processor() -> Wav2Vec2Processor:
    """Feature extractor and tokenizer of the whole alphabet."""
    return make_processor(build_vocabulary(["ABCDEFGHIJKLMNOPQRSTUVWXYZ'"]))


@pytest.fixture
def checkpoint_dir(
    tiny_model: HybridASRForCTC, processor: Wav2Vec2Processor, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with the tiny model."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    save_pretrained_folder(folder, tiny_model, processor)
    return folder


@pytest.fixture
def wav2vec2(processor: Wav2Vec2Processor) -> Wav2Vec2ForCTC:
    """A random Wav2Vec2ForCTC with dropout, in evaluation mode."""
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(processor.tokenizer),
        pad_token_id=0,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        hidden_dropout=0.3,
        layerdrop=0.3,
        initializer_range=0.5,
    )
    return Wav2Vec2ForCTC(config).eval()


@pytest.fixture
def wav2vec2_dir(wav2vec2: Wav2Vec2ForCTC, processor: Wav2Vec2Processor, tmp_path: Path) -> Path:
    wav2vec2.save_pretrained(tmp_path / "wav2vec2")
    processor.save_pretrained(tmp_path / "wav2vec2")
    return tmp_path / "wav2vec2"


@pytest.fixture(scope="session")
def librispeech_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with LibriSpeech subsets train-tiny (7 utterances), dev-tiny (3) and test-tiny (2), flac and wav."""
    root = tmp_path_factory.mktemp("librispeech") / "LibriSpeech"
    for speaker, (subset, transcripts) in enumerate(TRANSCRIPTS.items(), start=1):
        chapter = root / subset / str(speaker) / "10"
        chapter.mkdir(parents=True)
        lines = []
        for number, transcript in enumerate(transcripts):
            name = f"{speaker}-10-{number:04d}"
            suffix = ".wav" if number % 2 else ".flac"
            soundfile.write(chapter / f"{name}{suffix}", spell_in_tones(transcript, seed=number), SAMPLING_RATE)
            lines.append(f"{name} {transcript}\n")
        (chapter / f"{speaker}-10.trans.txt").write_text("".join(lines))
    return root.parent


def spell_in_tones(transcript: str, seed: int = 0) -> np.ndarray:
    """Audio in which each character is a tone of its own pitch (a space is a pause), with a little noise."""
    time_seconds = np.arange(int(CHARACTER_SECONDS * SAMPLING_RATE)) / SAMPLING_RATE
    envelope = np.hanning(len(time_seconds))
    tones = [
        np.sin(2 * np.pi * (200 + 120 * ALPHABET.index(character)) * time_seconds) * envelope * (character != " ")
        for character in transcript
    ]
    noise = np.random.default_rng(seed).normal(scale=0.003, size=len(tones) * len(time_seconds))
    return (0.3 * np.concatenate(tones) + noise).astype(np.float32)


@pytest.fixture(scope="session")
def arpa_text() -> str:
    """A language model of three words, as an ARPA file writes it."""
    return ARPA


@pytest.fixture
def arpa_path(tmp_path: Path, arpa_text: str) -> Path:
    path = tmp_path / "three_words.arpa"
    path.write_text(arpa_text)
    return path


@pytest.fixture(scope="session")
def write_media() -> Callable[..., None]:
    """`write_media(path, samples, sampling_rate, codec, ...)`: an audio or video file of any kind, without ffmpeg."""
    return _write_media


def _write_media(
    path: Path,
    samples: np.ndarray,
    sampling_rate: int,
    codec: str,
    *,
    options: dict[str, str] | None = None,
    with_picture: bool = False,
) -> None:
    """Write float [samples] or [2, samples], on request with a black picture; none of them is a silent video."""
    channels = np.atleast_2d(samples)
    with av.open(str(path), "w", options=options or {}) as container:
        if channels.size:
            stream = container.add_stream(codec, rate=sampling_rate, layout="mono" if len(channels) == 1 else "stereo")
            stream.bit_rate = 64000
        if with_picture:
            picture = container.add_stream("mpeg4", rate=10)
            picture.width = picture.height = 64
            container.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
            container.mux(picture.encode(None))
        if channels.size:
            integers = np.round(channels * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(integers.T.reshape(1, -1), format="s16", layout=stream.layout.name)
            frame.sample_rate = sampling_rate
            frame.pts = 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
