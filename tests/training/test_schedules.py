import pytest
from hypothesis import given
from hypothesis import strategies as st

from lact_asr_model.errors import UserError
from lact_asr_model.training.schedules import learning_rate_factor


@pytest.mark.parametrize("schedule", ["cosine", "triangular"])
def test_passes_through_the_documented_points(schedule: str) -> None:
    def factor(step: int) -> float:
        return learning_rate_factor(step, warmup_steps=100, max_steps=1100, schedule=schedule)

    assert factor(0) == pytest.approx(0.1)
    assert factor(50) == pytest.approx(0.55)
    assert factor(100) == pytest.approx(1.0)
    assert factor(600) == pytest.approx(0.505)  # half way down, for both shapes
    assert factor(1100) == pytest.approx(0.01)
    assert factor(5000) == pytest.approx(0.01)


def test_stable_stays_at_the_peak_and_falls_in_the_last_fifth_only() -> None:
    def factor(step: int, max_steps: int = 1100) -> float:
        return learning_rate_factor(step, warmup_steps=100, max_steps=max_steps, schedule="stable")

    assert factor(0) == pytest.approx(0.1)
    assert factor(50) == pytest.approx(0.55)
    assert [factor(step) for step in (100, 500, 900)] == pytest.approx([1.0] * 3)
    assert factor(1000) == pytest.approx(0.505)  # half way down
    assert factor(1100) == factor(5000) == pytest.approx(0.01)
    for step in range(900):
        assert factor(step, 1100) == pytest.approx(factor(step, 4000))


def test_the_cosine_stays_above_the_line_at_first_and_below_it_later() -> None:
    def factors(step: int) -> tuple[float, float]:
        lengths = {"warmup_steps": 0, "max_steps": 100}
        return (
            learning_rate_factor(step, **lengths),
            learning_rate_factor(step, **lengths, schedule="triangular"),
        )

    cosine, line = factors(20)
    assert cosine > line
    cosine, line = factors(80)
    assert cosine < line


@given(
    warmup_steps=st.integers(0, 50),
    further_steps=st.integers(1, 200),
    schedule=st.sampled_from(["cosine", "triangular", "stable"]),
)
def test_rises_to_the_peak_and_then_only_falls(warmup_steps: int, further_steps: int, schedule: str) -> None:
    max_steps = warmup_steps + further_steps
    factors = [
        learning_rate_factor(step, warmup_steps=warmup_steps, max_steps=max_steps, schedule=schedule)
        for step in range(max_steps + 2)
    ]
    rising, falling = factors[: warmup_steps + 1], factors[warmup_steps:]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert max(factors) == pytest.approx(1.0)
    assert min(factors) >= 0.01 - 1e-12


@pytest.mark.parametrize("max_steps", [1000, 400])
def test_warmup_that_never_ends_is_an_error_with_both_numbers(max_steps: int) -> None:
    with pytest.raises(UserError, match=rf"--warmup_steps 1000: .* max_steps = {max_steps}; .*"):
        learning_rate_factor(0, warmup_steps=1000, max_steps=max_steps)


def test_an_unknown_schedule_is_an_error() -> None:
    with pytest.raises(UserError, match="--lr_schedule linear: unknown; choose one of cosine, triangular, stable"):
        learning_rate_factor(0, warmup_steps=1, max_steps=2, schedule="linear")
