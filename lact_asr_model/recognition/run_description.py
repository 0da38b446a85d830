"""What a measurement ran on: hardware, versions and commit, for results that others can judge."""

import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.errors import UserError

if TYPE_CHECKING:
    import torch


def choose_device(name: str | None) -> "torch.device":
    """The device of that name; None = a GPU if there is one. Raises UserError."""
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"device {name}: cannot be used ({reason}); give cpu, or leave the device out") from None
    return device


def describe_run(model: AcousticModel) -> dict[str, Any]:
    """Hardware, threads, versions, and the commit if the package is in a git repository."""
    return {
        "device": str(model.device),
        "hardware": _gpu_name(model.device) if str(model.device).startswith("cuda") else cpu_name(),
        "python": platform.python_version(),
        **model.describe_runtime(),
        "commit": commit(),
    }


def _gpu_name(device: "torch.device") -> str:
    import torch

    return torch.cuda.get_device_name(device)


def cpu_name() -> str:
    """The processor, as it calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str | None:
    """Hash of the checked-out commit, with "-dirty" if files differ from it; None for a package without repository."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # else the repository around it is another one
        return git("describe", "--always", "--abbrev=40", "--dirty", "--match=")
    except (OSError, subprocess.SubprocessError):
        return None
