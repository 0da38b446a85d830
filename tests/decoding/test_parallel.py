import multiprocessing

import pytest

from lact_asr_model.decoding.factory import make_decoder
from lact_asr_model.decoding.options import DecodingOptions
from lact_asr_model.decoding.parallel import ParallelDecoder
from lact_asr_model.errors import UserError

pytest.importorskip("kenlm", reason="the lm extra is not installed")

VOCABULARY = ["<pad>", "<unk>", "|", "A", "B"]


@pytest.mark.parametrize("num_processes", [1, 2])
def test_processes_decode_as_one_would(tiny_lm, random_log_probs, num_processes: int) -> None:
    options = DecodingOptions(beam_size=20, lm=str(tiny_lm.arpa), n_best=2)
    batch = [random_log_probs(frames, 5, seed=frames, sharpness=2.0) for frames in (30, 3, 17, 1, 24)]
    here = make_decoder(options, VOCABULARY)
    with ParallelDecoder(options, VOCABULARY, num_processes) as decoder:
        assert decoder.decode_all(batch) == [here.decode(log_probs) for log_probs in batch]
        assert decoder.decode(batch[2]) == here.decode(batch[2])


def test_errors_reach_the_parent(tiny_lm, random_log_probs) -> None:
    with pytest.raises(UserError, match="decoding processes 0"):
        ParallelDecoder(DecodingOptions(), VOCABULARY, 0)
    with pytest.raises(UserError, match="no such file or folder"):
        ParallelDecoder(DecodingOptions(beam_size=5, lm="missing"), VOCABULARY, 1)


def test_a_killed_process_is_one_line(tiny_lm, random_log_probs) -> None:
    with ParallelDecoder(DecodingOptions(beam_size=5, lm=str(tiny_lm.arpa)), VOCABULARY, 1) as decoder:
        for process in multiprocessing.active_children():
            process.kill()
            process.join()
        with pytest.raises(UserError, match="a decoding process was killed"):
            decoder.decode_all([random_log_probs(5, 5)] * 2)
