"""mlverify: formal verification of multi-label neural networks.

The names below are the public interface; they are imported when first used, so that
``import mlverify`` and ``mlverify --help`` stay fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0.dev0"
