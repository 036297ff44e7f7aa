"""How far a frozen part of each precision may be from the float32 network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ParityLimits:
    """How much a frozen part may differ from float32 PyTorch, on images it was not calibrated on.

    Attributes:
        relative_error: largest difference of a value of a latent, as a share of the largest value.
        cosine: smallest cosine similarity between the two latents of an image.
        top1_agreement: smallest share of images with the same top-1 class, 0..1.
        feature_cosine: smallest cosine similarity between the two features of an image.
    """

    relative_error: float
    cosine: float
    top1_agreement: float
    feature_cosine: float = 0.0


# measured with MobileNetV2 at 96 to 224 pixels on frames of the embedded film: `precisions` in
# benchmarks/results.md
PARITY_LIMITS = {
    "fp32": ParityLimits(1e-3, 0.9999, 0.99, 0.9999),
    "fp16": ParityLimits(0.05, 0.999, 0.95, 0.99),
    "int8": ParityLimits(1.0, 0.95, 0.70),
}
