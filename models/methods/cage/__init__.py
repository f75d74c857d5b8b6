"""CAGE: network, losses, backbones and augmentation."""
