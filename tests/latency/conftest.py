"""A family of networks whose times follow a law, so that no test depends on a clock."""

from __future__ import annotations

import pytest

from amc.latency.plan import plan_networks
from amc.latency.profile_file import Network, Operator, Profile
from amc.problem import Decision, DecisionSpace

SIZES = {"a": 64, "b": 128}


def steps(length, size=16):
    return -(-length // size)


def law(a, b):
    """Microseconds of two operators: a convolution 3 -> a and one a -> b, in blocks of 16 channels."""
    return 40 + 20 * steps(a), 5 + 12 * steps(a) * steps(b)


def fake_network(role, widths, error=0.0):
    a, b = (widths.get(name, size) for name, size in SIZES.items())
    first, second = law(a, b)
    total, dense = (sum(law(*pair)) + 100 for pair in ((a, b), SIZES.values()))
    operators = [
        Operator("stem", "Conv", (first, first), [1, 3, 8, 8, a, 3, 1, 1, 1, a, 8, 8]),
        Operator("body", "Conv", (second, second), [1, a, 8, 8, b, a, 1, 1, 1, b, 8, 8]),
    ]
    ratio = total / dense * (1 + error)
    return Network(role, dict(widths), (dense / 1e3, dense / 1e3), (ratio * dense / 1e3, 1.0), ratio, operators)


def fake_profile(error=0.0, **changes):
    """Returns a profile without noise but an error of unseen networks, of alternating sign."""
    space = DecisionSpace(tuple(Decision(n, size, step=8) for n, size in SIZES.items()), "filter")
    plan = plan_networks(space)
    networks = [
        fake_network(p.role, p.widths, error * (-1) ** number if p.role == "check" else 0.0)
        for number, p in enumerate(plan)
    ]
    fields = {
        "format": 1,
        "model": "two",
        "decisions": SIZES,
        "steps": dict.fromkeys(SIZES, 8),
        "planned": len(plan),
        "batch": 1,
        "engine": "onnxruntime",
        "threads": 1,
        "precision": "float32",
        "processor": "none",
        "flags": [],
        "versions": {},
        "rounds": 5,
        "networks": networks,
    }
    return Profile(**{**fields, **changes})


@pytest.fixture
def make_profile():
    return fake_profile


@pytest.fixture(name="law")
def law_of_times():
    return law
