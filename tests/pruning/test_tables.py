from __future__ import annotations

import dataclasses

import pytest
import torch

from amc.errors import ConfigurationError, UnknownNameError
from amc.pruning import TableOptions, build_tables
from amc.pruning.regression.statistics import SamplingOptions, gather_grams
from amc.pruning.tables import width_grids


def build(case, **options):
    return build_tables(case.model, case.structure, torch.split(case.images, 20), TableOptions(**options))


def test_gram_matrix_is_the_mean_outer_product_of_the_rows(net):
    grams = gather_grams(net.model, ["head"], [net.images[:40], net.images[40:]], SamplingOptions())
    seen = []
    net.model.head.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        net.model(net.images)
    torch.testing.assert_close(grams["head"].matrix[0], seen[0].T @ seen[0] / 64)
    torch.testing.assert_close(grams["head"].mean[0], seen[0].mean(0))
    assert grams["head"].rows == 64


def test_gathering_leaves_modes_and_hooks_as_they_were(net):
    net.model.train()
    net.model.head.eval()
    before = net.model.block1.bn1.running_mean.clone()
    gather_grams(net.model, ["head"], [net.images], SamplingOptions())
    assert net.model.training
    assert not net.model.head.training
    assert not net.model.head._forward_hooks
    torch.testing.assert_close(net.model.block1.bn1.running_mean, before)


@pytest.mark.parametrize("gram_memory", [1, 1 << 30])
@pytest.mark.parametrize("criterion", ["elimination", "l1", "taylor"])
def test_the_share_that_is_done_rises_to_one(net, gram_memory, criterion):
    shares = []
    options, labels = TableOptions(criterion, gram_memory=gram_memory), torch.arange(len(net.images)) % 4
    batches = torch.split(net.images, 20)
    build_tables(net.model, net.structure, batches, options, shares.append, labels=torch.split(labels, 20))
    passes = (3 if gram_memory == 1 else 1) + (criterion == "taylor")
    assert len(shares) == 4 * passes + 3
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_every_width_is_tabulated_when_memory_allows(case):
    table = build(case)
    for index, group in enumerate(case.structure.groups):
        assert table.groups[index].grid == tuple(range(1, group.channels + 1))
    assert table.memory == sum(
        block.nbytes for group in table.groups.values() for by in group.blocks.values() for block in by.values()
    )


def test_memory_bound_thins_the_widths_and_drops_channels_in_order(net):
    full, tight = build(net), build(net, memory=8000)
    assert tight.memory <= 8000 < full.memory
    table = tight.groups[1]
    assert len(table.grid) < 10
    missing = next(width for width in range(1, 10) if width not in table.grid)
    larger = min(width for width in table.grid if width > missing)
    block, intercept = table.lookup("block2.conv2.weight", missing)
    stays = [table.kept(larger).tolist().index(channel) for channel in table.kept(missing).tolist()]
    torch.testing.assert_close(block, table.blocks["block2.conv2.weight"][larger][:, stays])
    torch.testing.assert_close(intercept, table.intercepts["block2.conv2.weight"][larger])


def test_grids_end_with_the_dense_width_and_stay_under_the_bound():
    grids = width_grids({0: (64, 1000), 1: (16, 10)}, TableOptions(memory=200_000))
    assert grids[1] == tuple(range(1, 17))
    assert grids[0][-1] == 64
    assert sum(grids[0]) * 1000 + sum(grids[1]) * 10 <= 200_000


def test_passes_over_the_images_do_not_change_the_result(net):
    together, apart = build(net), build(net, gram_memory=1)
    for index in together.groups:
        assert together.groups[index].order.tolist() == apart.groups[index].order.tolist()


def test_same_seed_same_table(net):
    options = {"sampling": SamplingOptions(rows=100, seed=5)}
    first, second = build(net, **options), build(net, **options)
    other = build(net, sampling=SamplingOptions(rows=100, seed=6))
    one, two, three = (table.groups[0].blocks["block1.conv2.weight"][3] for table in (first, second, other))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_too_many_features_are_ranked_but_not_refit(net):
    table = build(net, sampling=SamplingOptions(max_features=50))
    assert "block1.conv2.weight" not in table.groups[0].blocks
    assert sorted(table.groups[0].order.tolist()) == list(range(8))
    assert "head.weight" in table.groups[2].blocks


def test_norm_criteria_order_by_the_writers_filters(net):
    for name, power in (("l1", 1), ("l2", 2)):
        table = build_tables(net.model, net.structure, [], TableOptions(criterion=name, refit=False))
        norms = net.model.block2.conv1.weight.detach().flatten(1).norm(power, 1)
        assert table.groups[1].order.tolist() == norms.argsort().tolist()
        assert table.memory == 0


def test_random_criterion_follows_the_seed(net):
    def orders(seed):
        options = TableOptions("random", refit=False, sampling=SamplingOptions(seed=seed))
        return [table.order.tolist() for table in build_tables(net.model, net.structure, [], options).groups.values()]

    assert orders(0) == orders(0)
    assert orders(0) != orders(1)


def test_group_whose_reader_is_never_called_falls_back_to_norms(net):
    readers = [
        dataclasses.replace(cut, role="follow") if cut.role == "read" else cut for cut in net.structure.groups[0].cuts
    ]
    group = dataclasses.replace(net.structure.groups[0], cuts=tuple(readers))
    structure = dataclasses.replace(net.structure, groups=(group, *net.structure.groups[1:]))
    table = build_tables(net.model, structure, [net.images])
    norms = net.model.block1.conv1.weight.detach().flatten(1).norm(2, 1)
    assert table.groups[0].order.tolist() == norms.argsort().tolist()


def test_missing_images_and_unknown_criteria_are_told(net):
    with pytest.raises(ConfigurationError, match="calibration images"):
        build_tables(net.model, net.structure, [])
    with pytest.raises(UnknownNameError, match="did you mean 'elimination'"):
        build(net, criterion="eliminaton")


def test_diagonal_blocks_are_those_of_the_whole_matrix(net):
    layers = ["block1.conv2", "head"]
    whole = gather_grams(net.model, layers, [net.images], SamplingOptions())
    blocks = gather_grams(net.model, layers, [net.images], SamplingOptions(max_features=1))
    for layer, positions in zip(layers, (9, 1), strict=True):
        split = whole[layer].matrix[0].unflatten(0, (-1, positions)).unflatten(2, (-1, positions))
        torch.testing.assert_close(blocks[layer].matrix[0], split.diagonal(dim1=0, dim2=2).permute(2, 0, 1))
