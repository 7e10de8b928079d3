"""Train the learned denoiser for a clinical protocol and print what it does to noise, means and edges.

Run ``NUMBA_NUM_THREADS=2 python benchmarks/denoiser.py``; the model stays in the user's cache.
"""

from __future__ import annotations

import argparse
import time

from twinlab.ct.denoiser_training import train_denoiser
from twinlab.scanner import load_protocol


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--protocol", default="qc_axial")
    parser.add_argument("--mas", type=float, default=40.0)
    parser.add_argument("--objects", type=int, default=12)
    parser.add_argument("--steps", type=int, default=1200)
    arguments = parser.parse_args()
    begin = time.perf_counter()
    model = train_denoiser(
        load_protocol(arguments.protocol),
        mas=arguments.mas,
        n_objects=arguments.objects,
        steps=arguments.steps,
    )
    facts = model.facts
    print(
        f"{time.perf_counter() - begin:.0f} s; {model.n_bytes / 1000:.0f} kB; pixels of {facts['pixel_mm']:.2f} mm"
    )
    ratio = facts["noise_after_hu"] / facts["noise_before_hu"]
    print(f"noise {facts['noise_before_hu']:.2f} to {facts['noise_after_hu']:.2f} HU, ratio {ratio:.2f}")
    print(f"largest bias of a uniform region {facts['bias_hu']:+.2f} HU")
    for contrast, before in facts["edge_mm"].items():
        after = facts["edge_after_mm"][contrast]
        print(f"edge of {contrast}: sigma {before:.2f} to {after:.2f} mm, TTF50 times {before / after:.2f}")


if __name__ == "__main__":
    main()
