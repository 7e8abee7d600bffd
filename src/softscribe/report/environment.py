"""On what a run was trained: versions and hardware, as environment.json in its folder."""

import json
import os
import platform
import sys
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from softscribe.files import replacing
from softscribe.report.run_files import ENVIRONMENT_NAME

PACKAGES = ("softscribe", "torch", "lightning", "numpy", "scipy", "numba", "librosa", "soundfile", "music21", "mir_eval", "matplotlib")


def write_environment(folder: Path) -> None:
    """Write `folder`/environment.json: versions of Python and of the packages that decide a result, processor, GPUs, time of the start.

    It names neither the machine nor the user, so that a run's folder can be given away. A resumed run writes it anew.

    Raises:
        InputError: the folder cannot be written.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_environment(folder)
    >>> json.loads((folder / "environment.json").read_text())["python"] == platform.python_version()
    True
    """
    environment = {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "system": platform.platform(),
        "processor": _processor(),
        "processors available": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "GPUs": ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())) or "none",
    }
    with replacing(folder / ENVIRONMENT_NAME) as temporary:
        temporary.write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """The processor's name: Linux keeps it in /proc/cpuinfo alone."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
