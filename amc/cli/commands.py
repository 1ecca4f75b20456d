"""The subcommands of `amc` by name."""

from __future__ import annotations

from amc.cli.command import Command
from amc.utils.registry import Registry

COMMANDS: Registry[Command] = Registry("command")
COMMANDS.register(
    "compress", "amc.cli.compress:COMMAND", "Fit a network into a budget: search, prune, fine-tune, compare."
)
COMMANDS.register("search", "amc.cli.search:COMMAND", "Search for a policy and save it; prune nothing.")
COMMANDS.register("prune", "amc.cli.prune:COMMAND", "Prune a network as a policy says.")
COMMANDS.register("finetune", "amc.cli.finetune:COMMAND", "Fine-tune the pruned network of a run.")
COMMANDS.register(
    "evaluate", "amc.cli.evaluate:COMMAND", "Measure a run's network, or any network, on the test images."
)
COMMANDS.register("inspect", "amc.cli.inspect:COMMAND", "Show what can be pruned in a network, and what it costs.")
COMMANDS.register(
    "export", "amc.cli.export:COMMAND", "Write a run's network as ONNX, torch.export or safetensors, and time it."
)
COMMANDS.register("pack", "amc.cli.pack:COMMAND", "Write a run's network into one small file (Deep Compression).")
COMMANDS.register(
    "study", "amc.cli.study:COMMAND", "Compare agents under the same rules, or rewards with fine-tuned accuracy."
)
COMMANDS.register("train", "amc.cli.train:COMMAND", "Train a policy on several networks and budgets.")
COMMANDS.register("policy", "amc.cli.policy:COMMAND", "Show a trained agent: its card, and what it does to a network.")
COMMANDS.register("report", "amc.cli.report:COMMAND", "Write a page on runs and studies.")
COMMANDS.register("watch", "amc.cli.watch:COMMAND", "Follow a run from another terminal.")
COMMANDS.register("bench", "amc.cli.bench:COMMAND", "Time the search, and compare it with the reference procedure.")
COMMANDS.register(
    "profile", "amc.cli.profile:COMMAND", "Measure the latency of a network at many widths, for time budgets."
)
COMMANDS.register("zoo", "amc.cli.zoo:COMMAND", "Check which networks can be pruned, and how well.")
