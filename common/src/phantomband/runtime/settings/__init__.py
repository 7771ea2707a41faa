"""Configuration of nodes and clients: `sources` reads it, the other modules say which keys there are.

Every section is frozen. A key's docstring is its line in docs/reference/configuration.md.
"""

from phantomband.runtime.settings.base import PluggableProgram
from phantomband.runtime.settings.client import STORED_BRIDGES, ClientConfig
from phantomband.runtime.settings.gateway import PADDING_NAMES, GatewaySection
from phantomband.runtime.settings.mixer import MIX_NAMES, MixerSection
from phantomband.runtime.settings.node import NodeConfig
from phantomband.runtime.settings.sources import load

__all__ = [
    "MIX_NAMES",
    "PADDING_NAMES",
    "STORED_BRIDGES",
    "ClientConfig",
    "GatewaySection",
    "MixerSection",
    "NodeConfig",
    "PluggableProgram",
    "load",
]
