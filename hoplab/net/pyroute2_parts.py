"""The parts of pyroute2 that the lab uses, imported from here because the package itself imports all it has.

`import pyroute2` brings its database, its old one, Wireless and more: 80 modules that no
lab needs, a twentieth of a second.  Its sub-packages do without: they get a package of
that name with the same folder and nothing in it, unless the real one is there already.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys

if "pyroute2" not in sys.modules:
    specification = importlib.util.find_spec("pyroute2")
    if specification is not None:
        # The loader is left out: it is what would run the package's own file.
        package = importlib.util.module_from_spec(importlib.machinery.ModuleSpec("pyroute2", None, is_package=True))
        package.__path__ = list(specification.submodule_search_locations or ())
        sys.modules["pyroute2"] = package

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket

__all__ = ["IPRoute", "NFCTAttrTuple", "NFCTSocket", "NetlinkError"]
