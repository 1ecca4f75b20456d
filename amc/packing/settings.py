"""The options of packing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from amc.errors import ConfigurationError
from amc.packing.codec import MOST_INDEX_BITS, MOST_VALUES
from amc.packing.sharing import INITIALISATIONS
from amc.utils.conversion import conform
from amc.utils.options import Chosen, create, spell

_MOST_BITS = (MOST_VALUES - 1).bit_length()


@dataclass(frozen=True)
class PackConfig:
    """How a network is packed.

    Attributes:
        conv_bits: Bits of a code in convolutions, 1 to 8: a layer has at most 2^bits values beside zero.
        fc_bits: The same for linear layers and all other matrices.
        bits: The same for single layers, by name pattern; of several that match a layer, the first counts.
        conv_index_bits: Bits of the distance from one weight that is not zero to the next, in convolutions, 1 to 8,
            before it is coded.
        fc_index_bits: The same for linear layers and all other matrices.
        initialisation: Where the clusters of the weights start.
        pack_epochs: Epochs in which the shared values are trained; 0 leaves them as the clustering has them.
        pack_rate: Peak of the learning rate for that, far smaller than that of fine-tuning: the gradient of a value is
            the sum over all weights that share it.

    Raises:
        UnknownNameError: If the initialisation does not exist.
        ConfigurationError: If an option has another type or is out of its range.
    """

    conv_bits: int = 8
    fc_bits: int = 5
    bits: Mapping[str, int] = field(default_factory=dict)
    conv_index_bits: int = 8
    fc_index_bits: int = 5
    initialisation: Chosen = "linear"
    pack_epochs: int = 2
    pack_rate: float = 1e-4

    def __post_init__(self) -> None:
        """Checks the options."""
        object.__setattr__(self, "initialisation", spell(INITIALISATIONS, self.initialisation))
        conform(self)
        create(INITIALISATIONS, self.initialisation)
        single = {f"bits of {pattern}": bits for pattern, bits in self.bits.items()}
        for name, bits in {"conv_bits": self.conv_bits, "fc_bits": self.fc_bits, **single}.items():
            if not 1 <= bits <= _MOST_BITS:
                raise ConfigurationError(f"{name} must be from 1 to {_MOST_BITS}, not {bits}")
        for name in ("conv_index_bits", "fc_index_bits"):
            if not 1 <= getattr(self, name) <= MOST_INDEX_BITS:
                raise ConfigurationError(f"{name} must be from 1 to {MOST_INDEX_BITS}, not {getattr(self, name)}")
        if self.pack_epochs < 0 or self.pack_rate <= 0:
            raise ConfigurationError(
                f"pack_epochs must be at least 0 and pack_rate positive, not {self.pack_epochs} and {self.pack_rate:g}"
            )
