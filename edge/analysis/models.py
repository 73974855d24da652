"""The networks of a configuration, loaded once for many files and streams."""

from __future__ import annotations

from dataclasses import dataclass

from moodring.config import Config
from moodring.errors import ConfigError
from moodring.inference.bundle import Bundle, load_configured
from moodring.networks import Networks, open_networks
from moodring.run.replay import reproducible


@dataclass(frozen=True, slots=True)
class Models:
    """A verified bundle and its loaded networks. They hold no state between calls: threads and streams can share them.

    `config` is the configuration that they were loaded for, without settings that depend on the machine: `auto` is ONNX Runtime
    with float32.
    """

    config: Config
    bundle: Bundle
    networks: Networks


def load_models(config: Config | None = None) -> Models:
    """Load the bundle and the networks that a configuration names. Raises BundleError or BackendError."""
    config = reproducible(config or Config())
    bundle = load_configured(config.bundle, config.bundle_key)
    return Models(config, bundle, open_networks(config, bundle))


def choose_models(config: Config | None, models: Models | None) -> tuple[Config, Models]:
    """Return the configuration to use and the networks for it, loaded now unless `models` holds them.

    Raises ConfigError if the configuration needs other networks than `models`.
    """
    if models is None:
        models = load_models(config)
    config = models.config if config is None else reproducible(config)
    if _needs(config) != _needs(models.config):
        raise ConfigError(
            "the models were loaded for another bundle, inference or fusion.method than this configuration has; call "
            "load_models with it"
        )
    return config, models


def _needs(config: Config) -> tuple[object, ...]:
    """Return the settings that the loaded networks depend on."""
    return config.bundle, config.bundle_key, config.inference, config.fusion.method
