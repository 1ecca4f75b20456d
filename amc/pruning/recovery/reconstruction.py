"""Sequential reconstruction of a pruned network.

The layers are refit by least squares in the order of execution, each on what the pruned network, refit so far,
feeds it, toward what the dense network computes there. Later layers thus make up for the errors of earlier ones.
Where a layer's output enters a residual sum, its target is the dense network's sum less the pruned network's other
summand, so that the layer makes up for the error of the whole stream. Where only rectifiers read the output, what they
hide is left free. One forward pass of the pruned network over all calibration images suffices: each layer's weights are
solved for just before the layer runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from amc.pruning.batch_norm import affine_of, before_norm, is_batch_norm, output_scale, sign_of
from amc.pruning.recovery.dense_targets import Job, dense_targets
from amc.pruning.recovery.dropped_operators import Operators, operators_of, stand_ins
from amc.pruning.recovery.layer_refit import Floor, LayerProblem, LayerSolver
from amc.pruning.recovery.rectified import rectified
from amc.pruning.recovery.residual_sums import Summands, confirm_residual_sums, traced_sums
from amc.pruning.recovery.row_sampling import draw_rows, row_weights
from amc.pruning.regression.patches import READER_TYPES, Reader, is_reader, output_rows
from amc.runtime.batch_size import batch_size_for
from amc.runtime.call import call, evaluation_mode, input_of, named_tensors
from amc.runtime.hooks import hooked
from amc.structure import LayerSpec, ModelStructure
from amc.structure.operator_watch import OperatorWatch
from amc.structure.residual_blocks import is_within
from amc.structure.residual_sums import ResidualSum
from amc.structure.slicing import kept_positions, widths_of
from amc.utils.progress import Progress, silent, steps_of

_ACTIVATIONS_HELD = 4  # a layer's input and output, its unfolded or reordered copy, and a residual stream


@dataclass(frozen=True)
class ReconstructionOptions:
    """How the layers of the pruned network are refit.

    Attributes:
        rows: Output positions sampled for each layer.
        ridge: Ridge toward the weights as they are, relative to the mean of the Gram matrix's diagonal; features per
            row are added.
        memory: Bound on the dense network's outputs held, in bytes; fewer rows are sampled where it binds.
        activation_memory: Bound on the activations that live at once while all images pass through the pruned network,
            in bytes, estimated from the largest; fewer images are used where it binds.
        max_features: Layers with more inputs than this (channels / groups * kernel positions) are left as they are.
        seed: Seed of the sampling.
        rectified: How often a layer in front of a rectifier is solved for again, with outputs that the rectifier hides
            left free; 0 to fit them like the others.
        weighted: Whether positions that sway the network's output more are sampled more often.
    """

    rows: int = 100_000
    ridge: float = 1e-3
    memory: int = 2 << 30
    activation_memory: int = 6 << 30
    max_features: int = 4608
    seed: int = 0
    rectified: int = 5
    weighted: bool = True


def reconstruct(
    pruned: nn.Module,
    dense: nn.Module,
    structure: ModelStructure,
    kept: Mapping[int, Tensor],
    images: Tensor,
    options: ReconstructionOptions | None = None,
    advance: Progress = silent,
    *,
    sparse: Collection[str] = (),
    solver: LayerSolver | None = None,
) -> None:
    """Refits the layers of a pruned network in sequence, in place.

    Args:
        pruned: The network after `FilterPruner.prune`.
        dense: The dense network.
        structure: Its structure.
        kept: Kept channels of every group that was cut, as `FilterPruner.kept` returns them.
        images: Normalised calibration images `(N, C, H, W)`, on the networks' device. All go through the pruned network
            at once; `options.activation_memory` bounds how many are used.
        options: How to refit.
        advance: Takes the share that is done, 0 to 1, as it grows.
        sparse: Names of layers that have lost weights but no channels.
        solver: Chooses the weights of every layer that is refit; those of least error if None.
    """
    planned = Reconstruction.plan(dense, pruned, structure, kept, images, options, advance, sparse=sparse)
    planned.refit(pruned, solver)


@dataclass
class Reconstruction:
    """The refit of networks that are cut alike, with what the dense network computes noted once.

    Attributes:
        dense: The dense network.
        jobs: The layers to refit, by name.
        targets: What the dense network computes there.
        images: The calibration images.
        options: How to refit.
        step: Called after each layer.
        rectified: The layers whose outputs only rectifiers read.
        dropped: What modules of dropped blocks ran in the dense network.
    """

    dense: nn.Module
    jobs: Mapping[str, Job]
    targets: Mapping[str, Tensor]
    images: Tensor
    options: ReconstructionOptions
    step: Callable[[], None]
    rectified: frozenset[str] = frozenset()
    dropped: Operators = field(default_factory=dict)

    @staticmethod
    def plan(
        dense: nn.Module,
        pruned: nn.Module,
        structure: ModelStructure,
        kept: Mapping[int, Tensor],
        images: Tensor,
        options: ReconstructionOptions | None = None,
        advance: Progress = silent,
        *,
        sparse: Collection[str] = (),
    ) -> Reconstruction:
        """Decides what is refit, and notes what the dense network computes; see `reconstruct` for the arguments."""
        options = options or ReconstructionOptions()
        with evaluation_mode(dense), evaluation_mode(pruned), torch.no_grad():
            layers = [layer for layer in structure.layers if _can_be_refit(dense, layer, options)]
            sizes = _output_sizes(dense, layers, images[:3])
            layers = [layer for layer in layers if layer.name in sizes]
            images = images[: _affordable(layers, sizes, options)]
            gone = structure.dropped(widths_of(structure, kept))
            dropped = operators_of(dense, gone, images[:2])
            sums = _residual_sums(dense, pruned, structure, images[:2], dropped)
            jobs = _plan_jobs(dense, structure, layers, sizes, sums, kept, frozenset(sparse), images, options)
            jobs = {name: job for name, job in jobs.items() if not is_within(name, gone)}
            step = steps_of(-(-len(images) // batch_size_for(images)) + len(jobs), advance)
            targets = dense_targets(dense, jobs, images, step)
            hidden = rectified(dense, jobs, images[:2]) if options.rectified else frozenset()
        return Reconstruction(dense, jobs, targets, images, options, step, hidden, dropped)

    def refit(self, pruned: nn.Module, solver: LayerSolver | None = None, *, from_dense: bool = True) -> None:
        """Refits a network in place.

        Args:
            pruned: The network.
            solver: As for `reconstruct`.
            from_dense: Whether the ridge draws toward the dense weights where there is a solver; else toward those that
                the network has.
        """
        with evaluation_mode(pruned), torch.no_grad():
            _refit(pruned, self, solver, from_dense)


def _affordable(
    layers: Sequence[LayerSpec], sizes: Mapping[str, tuple[int, ...]], options: ReconstructionOptions
) -> int:
    """Returns how many images' activations the memory holds at once."""
    largest = max((prod(sizes[layer.name]) * layer.weight_shape[0] for layer in layers), default=1)
    return max(1, options.activation_memory // (4 * _ACTIVATIONS_HELD * largest))


def _residual_sums(
    dense: nn.Module, pruned: nn.Module, structure: ModelStructure, images: Tensor, dropped: Operators
) -> dict[str, ResidualSum]:
    """Returns the sums that hold in both networks; a layer without one is refit to its own output."""
    sums = {name: found for name, found in traced_sums(structure, dense).items() if not is_within(name, dropped)}
    sums = confirm_residual_sums(sums, dense, images)
    return confirm_residual_sums(sums, pruned, images, dropped)


def _plan_jobs(
    dense: nn.Module,
    structure: ModelStructure,
    layers: Sequence[LayerSpec],
    sizes: Mapping[str, tuple[int, ...]],
    sums: Mapping[str, ResidualSum],
    kept: Mapping[int, Tensor],
    sparse: Collection[str],
    images: Tensor,
    options: ReconstructionOptions,
) -> dict[str, Job]:
    """Decides which layers are refit, and on which rows."""
    state = named_tensors(dense)
    stays = kept_positions(structure, kept, {name: tuple(tensor.shape) for name, tensor in state.items()})
    gone = structure.dropped(widths_of(structure, kept))
    changed = {layer.name for layer in layers if layer.weight in stays or is_within(layer.name, gone)}
    cut = (place for place, layer in enumerate(layers) if layer.name in changed or layer.name in sparse)
    first = next(cut, len(layers))
    layers = layers[first:]  # nothing ahead of the first cut has an error
    channels = sum(layer.weight_shape[0] for layer in layers)
    limit = min(options.rows, max(1, options.memory // (4 * max(channels, 1))))
    totals = {layer.name: prod(sizes[layer.name]) * len(images) for layer in layers}
    sampled = {name: prod(sizes[name]) for name, total in totals.items() if total > limit}
    weights = row_weights(dense, sampled, images, options.seed) if options.weighted and sampled else {}
    jobs = {}
    for place, layer in enumerate(layers):
        outputs = stays.get(layer.weight, {}).get(0, torch.arange(layer.weight_shape[0]))
        generator = torch.Generator().manual_seed(options.seed * 100_003 + place)
        rows = draw_rows(weights.get(layer.name), totals[layer.name], limit, generator)
        jobs[layer.name] = Job(layer, outputs, sizes[layer.name], rows, sums.get(layer.name))
    return jobs


def _can_be_refit(dense: nn.Module, layer: LayerSpec, options: ReconstructionOptions) -> bool:
    """Returns whether a layer is one regression from its input to its output."""
    if layer.weight != f"{layer.name}.weight" or layer.kind == "attention" or layer.calls != 1:
        return False
    module = dense.get_submodule(layer.name)
    return is_reader(module) and module.weight[0].numel() <= options.max_features


def _output_sizes(dense: nn.Module, layers: Sequence[LayerSpec], images: Tensor) -> dict[str, tuple[int, ...]]:
    """Returns the sizes of every layer's output but for images and channels.

    Left out are layers that are not called, as their weights are used otherwise, and those whose first axis holds other
    things than the images in their order, such as windows, tokens, or images sorted by what the network makes of them:
    which rows belong to which image is then not known. Of the images in reverse, the output must be the same in
    reverse.
    """
    sizes: dict[str, tuple[int, ...]] = {}
    sums: dict[str, Tensor] = {}

    def noter(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            found = output.detach().double().flatten(1).sum(1)
            first = sums.setdefault(name, found)
            if found is first or len(found) != len(images) or len(first) != len(images):
                return
            if torch.allclose(found, first.flip(0), rtol=1e-2, atol=1e-3 * float(found.abs().max())):
                sizes[name] = tuple(output.shape[1:-1] if isinstance(module, nn.Linear) else output.shape[2:])

        return hook

    hooks = [dense.get_submodule(layer.name).register_forward_hook(noter(layer.name)) for layer in layers]
    with hooked(hooks):
        call(dense, images)
        call(dense, images.flip(0))
    return sizes


def _reset_mean(pruned: nn.Module, dense: nn.Module, job: Job) -> nn.Module | None:
    """Takes back the intercept of an earlier refit, so that the dense layer's output is the target as it stands.

    Returns:
        The pruned network's batch norm behind the layer, None if there is none.
    """
    if not job.layer.batch_norm:
        return None
    norm = dense.get_submodule(job.layer.batch_norm)
    if is_batch_norm(norm):
        assert norm.running_mean is not None
        mean = norm.running_mean[job.outputs.to(norm.running_mean.device)]
        pruned.get_submodule(job.layer.batch_norm).running_mean = mean
    return pruned.get_submodule(job.layer.batch_norm)


def _reset_weight(module: Reader, source: nn.Module) -> None:
    """Gives a layer the dense weights again, toward which the ridge draws, before a solver chooses among them."""
    assert isinstance(source, READER_TYPES)
    module.weight.copy_(source.weight)


def _refit(pruned: nn.Module, planned: Reconstruction, solver: LayerSolver | None, from_dense: bool) -> None:
    """Runs the pruned network once and solves for each layer's weights just before it runs.

    A layer that sees other images than in the dense network, as experts may, keeps the weights that it has.
    """
    dense, jobs, targets, images = planned.dense, planned.jobs, planned.targets, planned.images
    summands = Summands([job.residual for job in jobs.values() if job.residual])
    watch = OperatorWatch(summands.report)

    def refitter(job: Job) -> Callable[[nn.Module, tuple[Tensor, ...], dict[str, Tensor]], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            assert isinstance(module, READER_TYPES)
            read, name = input_of(inputs, named), job.layer.name
            with watch.suspended():
                if name in targets and len(read) == len(images) and summands.holds(job.residual):
                    norm = _reset_mean(pruned, dense, job)
                    other = summands.take(job.residual) if job.residual else None
                    if other is None or not _is_silent(norm):
                        if solver is not None and from_dense:
                            _reset_weight(module, dense.get_submodule(name))
                        _solve(norm, job, module, read, other, planned, solver)
            planned.step()

        return hook

    hooks = [
        pruned.get_submodule(name).register_forward_pre_hook(refitter(job), with_kwargs=True)
        for name, job in jobs.items()
    ]
    hooks += stand_ins(pruned, watch, planned.dropped)
    with hooked(hooks), watch.watching():
        call(pruned, images)


def _is_silent(norm: nn.Module | None) -> bool:
    """Returns whether a batch norm silences its layer, as in residual branches that begin with gains of zero.

    No output is better than another then.
    """
    return is_batch_norm(norm) and not affine_of(norm)[0].any()


def _solve(
    norm: nn.Module | None,
    job: Job,
    module: Reader,
    inputs: Tensor,
    other: Tensor | None,
    planned: Reconstruction,
    solver: LayerSolver | None,
) -> None:
    """Refits one layer and writes its weights and what takes the intercept.

    Where its output enters a sum, its target is the dense sum less the pruned network's other summand.
    """
    target, options, floor = planned.targets[job.layer.name], planned.options, None
    summand = torch.zeros(target.shape[1]).to(target) if other is None else output_rows(other, module, job.rows)
    if other is not None:
        target = before_norm(norm, target - summand)
    if job.layer.name in planned.rectified:
        floor = Floor(before_norm(norm, -summand), sign_of(norm, summand))
    problem = LayerProblem(job, module, inputs, target, module.bias is not None or is_batch_norm(norm), floor)
    importance = output_scale(norm, len(job.outputs)).square()
    weight, constant = problem.solve(options.ridge, importance, solver, options.rectified)
    module.weight.copy_(weight.reshape(module.weight.shape))
    if module.bias is not None:
        module.bias.copy_(constant)
    elif is_batch_norm(norm):
        assert norm.running_mean is not None
        norm.running_mean -= constant.float()
