"""MCRpy 0.2.0 as a peer: periodic two-phase images from the two-point statistics of targets.

    pip install "lawful[bench]"
    python benchmarks/microstructure_timing.py --targets targets.npy
    python benchmarks/mcrpy_peer.py --targets targets.npy --out mcrpy.npz
    python benchmarks/microstructure_timing.py --mcrpy mcrpy.npz

MCRpy optimises grey pixels by L-BFGS-B against the FFT correlations of a target, resolved by
direction, at all lags below `--limit` pixels of each level of a pyramid, coarsest level first
(Seibert et al., Computational Materials Science 2021). Saved are its grey pixels, the images it
makes of them by rounding, and the seconds of each reconstruction: its compilation is in them, since
MCRpy compiles its functions anew for every sample; the characterisation of the target is not.

The published wheel calls `numpy.product`, which NumPy 2 no longer has: the name is put back here.
"""

import argparse
import logging
import os
import time

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
if not hasattr(np, "product"):
    np.product = np.prod

import mcrpy
import tensorflow
from mcrpy.src.Settings import select_subsettings


def settings(options: argparse.Namespace) -> mcrpy.MatchingSettings:
    return mcrpy.MatchingSettings(
        descriptor_types=["FFTCorrelations"],
        limit_to=options.limit,
        optimizer_type="LBFGSB",
        max_iter=options.iterations,
        use_multigrid_descriptor=not options.single,
        use_multigrid_reconstruction=not options.single,
        convergence_data_steps=10**6,
        logging_level=logging.ERROR,
    )


def reconstruct(image: np.ndarray, chosen: mcrpy.MatchingSettings) -> tuple[np.ndarray, float]:
    """Grey pixels with the statistics of the image, and the seconds they took."""
    target = mcrpy.Microstructure(image.astype(np.float64), use_multiphase=False)
    known = mcrpy.characterize(target, select_subsettings(chosen, mcrpy.CharacterizationSettings))
    how = select_subsettings(chosen, mcrpy.ReconstructionSettings)
    began = time.perf_counter()
    _, found = mcrpy.reconstruct(known, image.shape, settings=how)
    return found.numpy()[..., 0], time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", required=True, help=".npy, images (n, N, N) of 0 and 1")
    parser.add_argument("--out", required=True, help=".npz")
    parser.add_argument("--first", type=int, help="only the first so many targets")
    parser.add_argument("--limit", type=int, default=8, help="lags of a level, in its pixels")
    parser.add_argument("--iterations", type=int, default=500, help="of a level, at most")
    parser.add_argument("--single", action="store_true", help="one level, no pyramid")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tensorflow.get_logger().setLevel("ERROR")
    np.random.seed(options.seed)  # MCRpy draws its first pixels from the global generator
    targets = np.load(options.targets, allow_pickle=False)[: options.first]
    chosen, grey, seconds = settings(options), [], []
    reconstruct(targets[0], chosen)  # what only the first call of a process takes
    for number, image in enumerate(targets):
        field, took = reconstruct(image, chosen)
        grey.append(field)
        seconds.append(took)
        between = float(((field > 0.05) & (field < 0.95)).mean())
        print(f"target {number}: {took:.2f} s, {between:.1%} of the pixels between the phases")
    images = np.round(grey).astype(np.uint8)  # what its `Microstructure.decode_phases` does
    np.savez_compressed(
        options.out, targets=targets, images=images, grey=np.float32(grey), seconds=seconds
    )


if __name__ == "__main__":
    main()
