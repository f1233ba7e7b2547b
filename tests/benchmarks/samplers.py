"""How many samples of noise a minute one core draws.

    python tests/benchmarks/samplers.py [MILLIONS]

Operating system's randomness, one thread, CPU time of this process alone; building the table is timed apart.
"""

from __future__ import annotations

import sys
import time

from app.privacy.laws import GaussianMagnitude, LaplaceMagnitude
from app.privacy.randomness import SystemRandom
from app.privacy.sampler import Sampler


def main(millions: float) -> None:
    count, source = round(millions * 1e6), SystemRandom()
    print("law               scale (steps)  table (s)  million samples a minute")
    for name, law in (("discrete Laplace", LaplaceMagnitude), ("discrete Gaussian", GaussianMagnitude)):
        for scale in (300.0, 1000.0, 16000.0):
            start = time.process_time()
            sampler = Sampler(law(scale), signed=True)
            built = time.process_time()
            sampler.draw((count,), source)
            drawn = time.process_time()
            print(f"{name:<17} {scale:>13,.0f} {built - start:>10.2f} {60 * count / (drawn - built) / 1e6:>25,.0f}")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
