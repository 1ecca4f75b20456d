"""Network Slimming: L1 on the scales of batch norms."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from amc.training.penalties.layers import batch_norms, check_strength
from amc.training.terms import Batch, Term, Training


@dataclass
class BatchNormL1(Term):
    """Adds `strength * sum(abs(scale))` over the scales of batch norms (Liu et al. 2017, arXiv:1708.06519, Eq. 1).

    Channels whose scale ends near zero matter little; the criterion `bn_scale` ranks channels by it. The authors take
    1e-4 for VGG and 1e-5 for ResNets, when training from scratch.

    Deviation: the authors' weight decay also acts on the scales, which penalises them twice; `decay` restores that.

    Attributes:
        strength: Weight of the sum.
        layers: Name patterns of the batch norms.
        decay: Whether the weight decay acts on the scales, too.

    Raises:
        ConfigurationError: If the strength is negative.
    """

    strength: float = 1e-4
    layers: tuple[str, ...] = ("*",)
    decay: bool = False
    _scales: list[nn.Parameter] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        """Checks the options."""
        check_strength("slimming", self.strength)

    def attach(self, training: Training) -> None:
        """Finds the scales.

        Raises:
            ConfigurationError: If no batch norm matches.
        """
        norms = batch_norms(training.model, self.layers).values()
        self._scales = [norm.weight for norm in norms if isinstance(norm.weight, nn.Parameter)]
        if not self.decay:
            training.spare_decay(self._scales)

    def loss(self, batch: Batch) -> Tensor:
        """Returns the weighted sum."""
        total = self._scales[0].abs().sum()
        for scale in self._scales[1:]:
            total = total + scale.abs().sum()
        return self.strength * total.float()

    def detach(self) -> None:
        """Releases the scales."""
        self._scales = []
