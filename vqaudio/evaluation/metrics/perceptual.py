"""What listeners would say, as published models predict it: PESQ (ITU-T P.862.2), STOI (Taal et al. 2011), ESTOI
(Jensen and Taal 2016) and DNSMOS (Reddy et al. 2022, arXiv 2110.01763), from their packages, so that figures compare.
"""

from __future__ import annotations

import functools
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np

PESQ_SECONDS = 20.0  # longest piece that PESQ scores at once
STOI_SECONDS = 0.4  # STOI correlates 30 frames of 12.8 ms


def pesq(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    """Wide-band PESQ (MOS-LQO, 1 to 4.64) at 16 kHz; undefined where it finds no speech or hears only silence.

    The package holds 50 utterances and crashes beyond. An utterance takes at least 0.4 s of speech and pause, so longer
    audio is scored in equal pieces of at most 20 s and averaged.
    """
    import pesq as package

    pieces = math.ceil(len(reference) / (PESQ_SECONDS * sample_rate))
    scores = []
    for ours, theirs in zip(np.array_split(reference, pieces), np.array_split(decoded, pieces), strict=True):
        if theirs.any():  # the package divides by the level
            try:
                scores.append(package.pesq(sample_rate, ours, theirs, "wb"))
            except (package.PesqError, ValueError):  # the second where a short piece is silent almost to its end
                continue
    return float(np.mean(scores)) if scores else math.nan


def stoi(reference: np.ndarray, decoded: np.ndarray, sample_rate: int, extended: bool = False) -> float:
    """Short-time objective intelligibility (0 to 1), extended or not; undefined for less than 0.4 s of speech."""
    import pystoi

    if len(reference) < STOI_SECONDS * sample_rate or not reference.any():
        return math.nan
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Not enough STFT frames", category=RuntimeWarning)
        try:
            return float(pystoi.stoi(reference, decoded, sample_rate, extended=extended))
        except RuntimeWarning:
            return math.nan


def dnsmos(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    """DNSMOS P.835, overall (1 to 5), of the decoded speech alone, 16 kHz; speech shorter than 9 s is repeated."""
    return float(_dnsmos_judge()(np.clip(decoded, -1.0, 1.0), sample_rate, False)["ovrl_mos"])


@functools.cache
def _dnsmos_judge() -> Any:
    """The package's DNSMOS with one thread for each network, because many processes measure at once."""
    import onnxruntime
    from speechmos import dnsmos as package

    folder = Path(package.__file__).parent / "dnsmos_models"
    overall, general = str(folder / "sig_bak_ovr.onnx"), str(folder / "model_v8.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    judge = package.DNSMOS(overall, general)
    judge.onnx_sess = onnxruntime.InferenceSession(overall, options)
    judge.p808_onnx_sess = onnxruntime.InferenceSession(general, options)
    return judge
