"""Learners of Stable-Baselines3 as they are: TD3, SAC and PPO on the pruning environment, unchanged."""
