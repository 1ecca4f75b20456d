from __future__ import annotations

import pytest
import torch
from torch import nn

from amc.pruning.batch_norm import affine_of, is_batch_norm, output_scale
from amc.pruning.regression.row_moments import RowMoments, diagonal_blocks


def trained(affine=True):
    generator = torch.Generator().manual_seed(0)
    norm = nn.BatchNorm2d(3, affine=affine).eval()
    for tensor in (norm.running_mean, norm.weight, norm.bias):
        if tensor is not None:
            tensor.data = torch.randn(3, generator=generator)
    norm.running_var = torch.rand(3, generator=generator) + 0.1
    return norm


@pytest.mark.parametrize("affine", [True, False])
def test_a_batch_norm_is_a_scale_and_a_shift(affine):
    norm, images = trained(affine), torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    scale, shift = affine_of(norm)
    torch.testing.assert_close(images * scale[:, None, None] + shift[:, None, None], norm(images))


def test_errors_count_by_the_absolute_scale_and_alike_without_a_norm():
    norm = trained()
    torch.testing.assert_close(output_scale(norm, 3), affine_of(norm)[0].abs())
    for other in (None, nn.Identity(), nn.BatchNorm2d(3, track_running_stats=False)):
        assert not is_batch_norm(other)
        assert output_scale(other, 3).tolist() == [1, 1, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_moments_do_not_depend_on_the_batches(dtype):
    generator = torch.Generator().manual_seed(0)
    rows, others = torch.randn(2, 90, 6, generator=generator), torch.randn(2, 90, 4, generator=generator)
    moments = RowMoments(dtype=dtype)
    for start in (0, 30, 60):
        moments.add(rows[:, start : start + 30], others[:, start : start + 30])
    assert moments.rows == 90
    torch.testing.assert_close(moments.products, (rows.transpose(1, 2) @ others / 90).to(dtype))
    torch.testing.assert_close(moments.mean, rows.mean(1).to(dtype))
    torch.testing.assert_close(moments.other_mean, others.mean(1).to(dtype))


@pytest.mark.parametrize("size", [1, 3])
def test_diagonal_blocks_are_blocks_of_the_whole(size):
    rows = torch.randn(2, 50, 6, generator=torch.Generator().manual_seed(0))
    whole = (rows.transpose(1, 2) @ rows).unflatten(1, (-1, size)).unflatten(3, (-1, size))
    torch.testing.assert_close(diagonal_blocks(size)(rows, rows), whole.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2))
