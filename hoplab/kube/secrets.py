"""The values of a Secret: written as base64 in `data`, as they are in `stringData`."""

from __future__ import annotations

import base64
import binascii

from hoplab.kube.objects import KubeObject


def secret_data(secret: KubeObject) -> dict[str, bytes]:
    """The values of a Secret: `data` decoded, `stringData` over it; what is no base64 is left out."""
    found: dict[str, bytes] = {}
    for key, text in (secret.document.get("data") or {}).items():
        try:
            found[key] = base64.b64decode(text, validate=False)
        except (binascii.Error, ValueError):
            continue
    return found | {key: text.encode() for key, text in (secret.document.get("stringData") or {}).items()}
