"""Configurations of published figures, by name: `amc compress --config cifar10_resnet56`."""
