"""What the service takes at most."""

from dataclasses import dataclass

from lact_asr_model.errors import UserError


@dataclass(frozen=True)
class Limits:
    """Bounds that keep one client, or many, from using up the machine.

    max_bytes: of a request's body. max_seconds: of audio in it, after decoding. max_requests: requests that are worked
    on or wait at once. timeout_seconds: to receive a body, to read it, and to recognise it, for each of these.
    max_streams: live captions at once. max_stream_seconds: of audio in one of them.

    Raises:
        UserError: one of them is not a positive number.
    """

    max_bytes: int = 25_000_000
    max_seconds: float = 3600.0
    max_requests: int = 64
    timeout_seconds: float = 600.0
    max_streams: int = 4
    max_stream_seconds: float = 4 * 3600.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < float("inf"):
                raise UserError(f"{name} {value}: is not a positive number; leave it out for the default")
