"""How many times faster than real time is the HCQT, and what do its parts take?

.venv/bin/python scripts/benchmark_features.py
"""

import time

import numpy as np

from softscribe.sound import HcqtSettings, estimate_tuning_semitones, hcqt

SECONDS = 120


def main() -> None:
    settings = HcqtSettings()
    samples = np.random.default_rng(0).standard_normal(SECONDS * settings.sample_rate).astype(np.float32) * 0.1
    hcqt(samples[: 5 * settings.sample_rate], settings, 0.0)  # compile and load what is loaded once
    start = time.perf_counter()
    tuning = estimate_tuning_semitones(samples, settings.sample_rate)
    middle = time.perf_counter()
    hcqt(samples, settings, tuning)
    end = time.perf_counter()
    for name, seconds in (("tuning", middle - start), ("transforms", end - middle), ("both", end - start)):
        print(f"{name}: {SECONDS / seconds:.0f} x real time")


if __name__ == "__main__":
    main()
