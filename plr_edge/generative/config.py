"""Settings of rehearsal from a generator, with their defaults."""

from __future__ import annotations

from dataclasses import dataclass

from plr_edge.errors import ConfigError

_CHOICES = {
    "form": ("slices", "steps"),
    "generator": ("vae", "gaussian"),
    "targets": ("distilled", "labels", "classes"),
    "generator_levels": ("all", "drawn"),
    "unbias": ("none", "gradient", "rate", "inverse rate"),
    "level_order": ("random", "ascending"),
    "answer": ("trained", "closed form", "both"),
}


@dataclass(frozen=True, kw_only=True)
class GenerativeConfig:
    """How to rehearse from a generator. The defaults are the form of the paper's authors.

    Attributes:
        hidden: widths of the hidden layers of the classifier; the decoder mirrors them.
        z_width: length of the generator's code.
        schedule: name of a schedule, or comma-separated shares.
        form: `slices` divides each replay batch over the levels, as in the paper. `steps` draws
            one level per step, at which new data enters too.
        truncate: decode only down to the level needed. The authors decode every sample to level 1.
        same_level_targets: the previous classifier answers at the level of entry. The authors let
            it answer at level 1.
        recompute: generate at level 1 and run the blocks below the level of entry, instead of
            entering the features that the generator decodes for that level.
        generator: `vae`; or `gaussian`, class means and a shared covariance, with `recompute`.
        generator_every: steps between training steps of the generator.
        generator_levels: `all`; or `drawn`, which trains only the stages from the drawn level up
            and needs `feedback` and the form `steps`.
        feedback: classifier and encoder share the trunk (replay through feedback).
        gated_share: share of the decoder's hidden units that each class switches off, 0..1.
        conditional_prior: one mode of the prior per class.
        fitted_modes: modes follow the moments of their class's codes instead of gradients.
        residual: samples carry noise with the covariance that the decoder leaves unexplained.
        targets: targets of generated samples. `distilled`: the previous classifier's answers at a
            temperature. `labels`: the class that it answers. `classes`: the class that was
            requested, which needs no pass through the previous classifier.
        unbias: `none`. `gradient`: divide the rehearsal gradient of block l by u_l. `rate`:
            multiply the learning rate of block l by u_l. `inverse rate`: divide it by u_l.
        level_order: order of the levels of entry in the form `steps`. `random`; or `ascending`
            within an experience, so that a block rests once only blocks above it are trained.
        new_share: weight of new samples in the loss. 0: one divided by the number of the
            experience, as the authors. Otherwise the log frequency of each class in a step is
            added to its logit (Menon et al., ICLR 2021), so that this weight favours no class.
        averaged_share: at the end of an experience the weights become their mean over this last
            share of its steps, 0..1. 0: the weights of the last step.
        decayed: the learning rate falls linearly to 0 within each experience.
        frozen_after: number of experiences after which the blocks below `entry_level` are kept
            still, so that statistics of real features of that level never go stale. 0: never.
        entry_level: level at which everything enters from then on; 1 is the latent.
        answer: with `frozen_after`. `trained`: the trained classifier. `closed form`: linear
            discriminants of the statistics of `entry_level`; nothing is trained afterwards. `both`:
            the sum of their standardised scores.
        with_latent: the discriminants read the latent beside the features of `entry_level`.
        modes: mixture components of each class in the statistics of `entry_level`.
        batch: new samples in a step.
        rehearsed: generated samples in a step.
        lr: learning rate of Adam.
        temperature: temperature of the distillation.
        kl_weight: weight of the KL divergence in the generator's loss.
        seed: random seed.

    Raises:
        ConfigError: a choice is unknown, or two settings exclude each other.
    """

    hidden: tuple[int, ...] = (2000, 2000)
    z_width: int = 100
    schedule: str = "internal"
    form: str = "slices"
    truncate: bool = False
    same_level_targets: bool = False
    recompute: bool = False
    generator: str = "vae"
    generator_every: int = 1
    generator_levels: str = "all"
    feedback: bool = False
    gated_share: float = 0.0
    conditional_prior: bool = True
    fitted_modes: bool = False
    residual: bool = False
    targets: str = "distilled"
    unbias: str = "none"
    level_order: str = "random"
    new_share: float = 0.0
    averaged_share: float = 0.0
    decayed: bool = False
    frozen_after: int = 0
    entry_level: int = 2
    answer: str = "trained"
    with_latent: bool = False
    modes: int = 1
    batch: int = 256
    rehearsed: int = 256
    lr: float = 1e-4
    temperature: float = 2.0
    kl_weight: float = 1 / 3072
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be one of {allowed}")
        if self.generator_levels == "drawn" and not (self.feedback and self.form == "steps"):
            raise ConfigError("generator_levels 'drawn' needs feedback and the form 'steps'")
        if self.frozen_after and self.generator != "gaussian":
            raise ConfigError("frozen_after needs the generator 'gaussian'")
        if self.generator == "gaussian" and (self.feedback or not self.recompute):
            raise ConfigError("generator 'gaussian' needs recompute, and no feedback")
