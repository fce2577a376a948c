"""Mininet's classes, imported from here because the import needs some help.

Mininet 2.3.0 asks `distutils` for one function.  Python had that package until 3.11;
from 3.12 on setuptools stands in for it.  Where both are there, setuptools puts itself
first and takes longer to load than all of the lab's own code: so Python's is preferred.
"""

from __future__ import annotations

import importlib.util
import sys
from contextlib import suppress

if sys.version_info < (3, 12):
    with suppress(ImportError):
        import _distutils_hack

        _distutils_hack.remove_shim()
        if importlib.util.find_spec("distutils.version") is None:
            _distutils_hack.add_shim()

from mininet.link import Intf, Link
from mininet.net import Mininet
from mininet.node import Host, Switch
from mininet.topo import Topo

__all__ = ["Host", "Intf", "Link", "Mininet", "Switch", "Topo"]
