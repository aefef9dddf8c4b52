"""The user's settings: which models there are, who may answer what, and what it may cost."""

from edgemoe.config.load import config_path, load_config
from edgemoe.config.settings import (
    ESCALATE,
    PERSONAL_DATA,
    Budget,
    CloudModel,
    Condition,
    Config,
    LocalModel,
    Rule,
    Target,
    Weights,
)
from edgemoe.config.store import store_threshold
from edgemoe.config.template import write_template
from edgemoe.files import state_folder

__all__ = [
    "ESCALATE",
    "PERSONAL_DATA",
    "Budget",
    "CloudModel",
    "Condition",
    "Config",
    "LocalModel",
    "Rule",
    "Target",
    "Weights",
    "config_path",
    "load_config",
    "state_folder",
    "store_threshold",
    "write_template",
]
