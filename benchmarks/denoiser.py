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
    parser.add_argument("--objects", type=int, default=8)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--bias-weight", type=float, default=12.0)
    arguments = parser.parse_args()
    begin, own = time.perf_counter(), time.process_time()
    model = train_denoiser(
        load_protocol(arguments.protocol),
        mas=arguments.mas,
        n_objects=arguments.objects,
        steps=arguments.steps,
        bias_weight=arguments.bias_weight,
    )
    facts = model.facts
    seconds = f"{time.perf_counter() - begin:.0f} s, {time.process_time() - own:.0f} s of processor time"
    print(f"{seconds}; {model.n_bytes / 1000:.0f} kB; pixels of {facts['pixel_mm']:.2f} mm")
    ratio = facts["noise_after_hu"] / facts["noise_before_hu"]
    print(f"noise {facts['noise_before_hu']:.2f} to {facts['noise_after_hu']:.2f} HU, ratio {ratio:.2f}")
    print(f"largest bias of a uniform region {facts['bias_hu']:+.2f} HU")
    for contrast, before in facts["edge_mm"].items():
        after = facts["edge_after_mm"][contrast]
        print(f"edge of {contrast}: sigma {before:.2f} to {after:.2f} mm, TTF50 times {before / after:.2f}")


if __name__ == "__main__":
    main()
