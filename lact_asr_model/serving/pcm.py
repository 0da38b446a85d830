"""Raw audio as it arrives: 16-bit samples, one channel, 16 kHz, little-endian."""

import numpy as np

from lact_asr_model.recognition.sample_arrays import as_samples


class PcmDecoder:
    """Bytes to samples; a sample may be spread over two pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def decode(self, piece: bytes) -> np.ndarray:
        """float32 [samples] of the piece."""
        content = self._rest + piece
        num_bytes = len(content) // 2 * 2
        self._rest = content[num_bytes:]
        return as_samples(np.frombuffer(content[:num_bytes], dtype="<i2"), "stream")
