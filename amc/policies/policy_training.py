"""The training itself: episodes, checkpoints, evaluations without noise, and when to stop."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.ddpg.policy_state import PolicyState
from agents.ddpg.trainer import PolicyTrainer
from agents.protocol import EpisodeResult
from amc.errors import CheckpointError
from amc.pipeline.agent_card import task_record
from amc.pipeline.racing import RacingEvaluator, reward_of
from amc.pipeline.recorded_scores import RecordedScores
from amc.pipeline.search import make_env
from amc.policies.planned_task import PlannedTask, workshops
from amc.policies.rules import TrainingRules
from amc.policies.scores import SharedScores
from amc.policies.training_record import TrainingRecord
from amc.storage.agent_card import AgentCard, CurvePoint, Task
from amc.utils.progress import Progress, silent
from amc.utils.stopping import deferring_stops, stop_here
from amc.utils.versions import versions

OnFigures = Callable[[str, int, Mapping[str, float]], None]
"""Takes the task, figures by name, and the number of episodes."""


class PolicyTraining:
    """Trains one policy on some tasks, and evaluates it on them and on held-out ones.

    The policy that is kept, `agent.safetensors`, is that of the evaluation with the highest mean reward on the held-out
    tasks, or on all tasks if none is held out. `checkpoint.safetensors` is the current state.
    """

    def __init__(
        self, folder: Path, tasks: Sequence[PlannedTask], held_out: Sequence[PlannedTask], rules: TrainingRules
    ) -> None:
        """Gathers statistics and tables of all networks, and reads what the folder has.

        Args:
            folder: Where the files are; it exists.
            tasks: What the policy is trained on.
            held_out: What it is only evaluated on.
            rules: How it is trained.

        Raises:
            RunFolderError: If a file of the folder is damaged beyond use.
            CheckpointError: If its checkpoint is damaged, or of other tasks.
        """
        self._tasks = {planned.name: planned for planned in tasks}
        self._held_out = {planned.name: planned for planned in held_out}
        self._rules, self._record = rules, TrainingRecord(folder)
        state = self._record.checkpoint()
        if state is not None and list(state.parts) != list(self._tasks):
            raise CheckpointError(f"the checkpoint in {folder} must belong to the tasks of this training, but does not")
        shops = workshops([*tasks, *held_out])
        self._whole = {name: SharedScores(shop.evaluator) for name, shop in shops.items()}
        self._recorded = {name: self._recording(planned) for name, planned in self._tasks.items()}
        envs = {name: make_env(p.problem, self._recorded[name], p.search(rules)) for name, p in self._tasks.items()}
        self._trainer = PolicyTrainer(envs, rules.ddpg, episodes=rules.episodes, seed=rules.seed, state=state)
        if state is not None:
            past = range(1, self._trainer.episode)
            self._record.check_complete(self._trainer.episode, filter(rules.is_evaluated, past))
        self._best = self._recall()

    def _recording(self, planned: PlannedTask) -> RecordedScores:
        whole, first = self._whole[planned.network], self._rules.first_images
        if first is None:
            return RecordedScores(whole)
        value = reward_of(planned.problem, planned.reward)
        race = RacingEvaluator(whole, planned.problem, value, first)
        return RecordedScores(race, race)

    def _recall(self) -> dict[str, float]:
        """Reads the recorded scores; returns the best reward of each task among the recorded episodes."""
        best: dict[str, float] = {}
        for name, result in self._record.episodes():
            is_past = result.episode < self._trainer.episode
            if name in self._recorded:
                self._recorded[name].recall(result.allocation, result.score, is_past=is_past)
                if is_past:
                    best[name] = max(result.reward, best.get(name, float("-inf")))
        return best

    def run(self, advance: Progress = silent, on_figures: OnFigures = lambda of, episode, figures: None) -> None:
        """Trains until all episodes are played or the training stops early; continues an earlier start.

        Args:
            advance: Takes the share that is done, 0 to 1.
            on_figures: Takes rewards, for curves.

        Raises:
            StopRequested: If the process is asked to end; all up to the last checkpoint is kept.
        """
        total = self._rules.episodes
        with deferring_stops():
            while True:
                episode = self._trainer.episode
                if self._rules.is_due(episode):
                    self._keep(self._trainer.state(), episode, on_figures)
                if episode >= total or self._is_over():
                    advance(1.0, f"episode {episode}")
                    return
                stop_here()
                name, result = self._trainer.play()
                self._record.add_episode(episode, name, result)
                self._best[name] = max(result.reward, self._best.get(name, float("-inf")))
                on_figures(name, episode, {"reward": result.reward})
                advance((episode + 1) / total, f"{name}: reward {result.reward:.4f}, best {self._best[name]:.4f}")

    def _keep(self, state: PolicyState, episode: int, on_figures: OnFigures) -> None:
        """Writes a checkpoint, and evaluates if it is time to."""
        self._record.write_checkpoint(state)
        if not self._rules.is_evaluated(episode) or self._record.is_evaluated(episode):
            return
        played = {name: self._act(planned).reward for name, planned in {**self._tasks, **self._held_out}.items()}
        mean = statistics.fmean(played[name] for name in self._held_out or self._tasks)
        highest = max((record["mean"] for record in self._record.evaluations), default=float("-inf"))
        if mean > highest:
            self._record.write_policy(state, self._card(episode, played))
        self._record.add_evaluation(episode, played, mean)
        for name, reward in played.items():
            on_figures(name, episode, {"reward without noise": reward})

    def _act(self, planned: PlannedTask) -> EpisodeResult:
        """Plays a task without noise."""
        env = make_env(planned.problem, self._whole[planned.network], planned.search(self._rules))
        return self._trainer.act(env)

    def _is_over(self) -> bool:
        """Returns whether the last evaluations brought no gain."""
        means = [float(record["mean"]) for record in self._record.evaluations]
        patience = self._rules.patience
        return bool(patience) and len(means) > patience and max(means[-patience:]) <= max(means[:-patience])

    def _card(self, episode: int, last: Mapping[str, float]) -> AgentCard:
        """Describes the policy after a number of episodes, with the rewards of its evaluation."""
        points: list[dict[str, Any]] = [*self._record.evaluations, {"episode": episode, "rewards": dict(last)}]
        first = next(iter(self._tasks.values()))
        features = list(self._trainer.features)
        return AgentCard(
            agent=str(self._rules.agent),
            kind="weight" if first.problem.kind == "weight" else "filter",
            features=features,
            feature_count=len(features),
            tasks=[self._described(planned) for planned in self._tasks.values()],
            held_out=[self._described(planned, last[name]) for name, planned in self._held_out.items()],
            episodes=episode,
            versions=versions(),
            curve=[CurvePoint(int(point["episode"]), dict(point["rewards"])) for point in points],
            seed=self._rules.seed,
        )

    def _described(self, planned: PlannedTask, reward: float | None = None) -> Task:
        """Describes a task: with its best reward, or with the given one if it is held out."""
        episodes = self._trainer.played.get(planned.name, 0)
        best = self._best.get(planned.name) if episodes else reward
        return task_record(planned.problem, planned.reward, planned.network, episodes, best)
