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
}


@dataclass(frozen=True, kw_only=True)
class GenerativeConfig:
    """How to rehearse from a generator.

    Attributes:
        hidden: widths of the hidden layers of the classifier; the decoder mirrors them.
        z_width: of the generator's code.
        schedule: a name, or shares separated by commas.
        form: `slices` divides each replay batch over the levels (the paper); `steps` draws one
            level for each step, at which new data enters too.
        truncate: decode only to the level needed; the authors decode to level 1 for every sample.
        same_level_targets: the previous classifier answers at the level of entry; the authors
            answer at level 1 for every sample.
        recompute: generate at level 1 and run the blocks below the entry forward, instead of
            entering what the previous generator takes for features of that level.
        generator: `vae`, or `gaussian`: class means and a shared covariance, with `recompute`.
        generator_every: steps from one training step of the generator to the next.
        generator_levels: `all`, or `drawn`: with feedback and steps, train the stages from the
            drawn level up only.
        feedback: classifier and encoder share the trunk (replay through feedback).
        gated_share: of the decoder's hidden units that each class switches off.
        conditional_prior: one mode of the prior a class.
        fitted_modes: the modes follow the moments of their class's codes, instead of gradients.
        residual: samples carry noise of the covariance that the decoder leaves unexplained.
        targets: of what is rehearsed: `distilled`, the previous classifier's answers at a
            temperature; `labels`, the class it answers; `classes`, the class that was asked for,
            which needs no pass of the previous classifier.
        unbias: `none`; `gradient` weighs the rehearsal gradient of block l by 1 / u_l; `rate`
            multiplies the learning rate of block l by u_l, and `inverse rate` divides it by u_l.
        level_order: of the levels of entry in the form `steps`: `random`, or `ascending` within an
            experience, which leaves blocks still once all above them are being trained.
        batch: new samples in a step.
        rehearsed: generated samples in a step.
        lr: of Adam.
        seed: of everything random.
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
        if self.generator == "gaussian" and (self.feedback or not self.recompute):
            raise ConfigError("generator 'gaussian' needs recompute, and no feedback")
