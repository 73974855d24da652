"""The networks of a bundle, loaded for this machine."""

from __future__ import annotations

from dataclasses import dataclass

from moodring.config import Config
from moodring.fusion import Fuser, open_fuser
from moodring.inference.branches import FaceBranch, SpeechBranch
from moodring.inference.bundle import Bundle
from moodring.inference.variants import DEFAULT_VARIANT, VariantPlan, fixed_plan


@dataclass(frozen=True, slots=True)
class Networks:
    """The loaded networks. They hold no state between calls, so all streams of a process share them."""

    face: FaceBranch | None
    speech: SpeechBranch | None
    fuser: Fuser


def open_networks(config: Config, bundle: Bundle, plan: VariantPlan | None = None) -> Networks:
    """Load a bundle's networks. Raises BundleError or BackendError.

    `plan` gives the variant (engine and precision) of each network. Without it: the configured variant, else a safe one.
    """
    threads = config.inference.threads
    forms = plan or fixed_plan(bundle, config.inference.backend, config.inference.precision)
    branches = [name for name in ("face", "speech") if name in bundle.models]
    models = {name: bundle.open(name, forms[name].precision, forms[name].backend, threads) for name in branches}
    joins = forms.get("fusion", DEFAULT_VARIANT)
    return Networks(
        FaceBranch(models["face"], bundle.models["face"]) if "face" in models else None,
        SpeechBranch(models["speech"], bundle.models["speech"]) if "speech" in models else None,
        open_fuser(bundle, config.fusion.method, joins.precision, joins.backend, threads=threads),
    )
