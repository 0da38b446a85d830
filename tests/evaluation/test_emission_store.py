"""Log-probabilities on disk: what is kept is what was there when the work was shared out."""

from pathlib import Path

import numpy as np

from lact_asr_model.evaluation.emission_store import EmissionStore

KEY = ("clean", "none", "caf\udce9")  # a name of a file that is not UTF-8


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    emissions = [np.zeros((2, 3), dtype=np.float32), np.ones((1, 3), dtype=np.float32)]
    store = EmissionStore(tmp_path / "emissions")
    assert KEY not in store
    store.write(KEY, emissions)
    for each in (store, EmissionStore(tmp_path / "emissions")):
        assert KEY in each
        for read, written in zip(each.read(KEY), emissions, strict=True):
            np.testing.assert_array_equal(read, written)


def test_what_another_process_writes_meanwhile_is_read_but_was_not_kept(tmp_path: Path) -> None:
    stores = [EmissionStore(tmp_path / "emissions") for _ in range(2)]
    stores[0].write(KEY, [np.zeros((2, 3), dtype=np.float32)])
    assert KEY not in stores[1]  # or the two would not share the same work out
    assert stores[1].read(KEY)[0].shape == (2, 3)
