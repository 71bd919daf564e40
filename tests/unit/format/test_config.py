"""Configs that a stranger wrote."""

from __future__ import annotations

import json

import pytest

from packer.engine.chunking import ChunkParams
from packer.errors import FormatError
from packer.format.version import Config

SOUND = Config(ChunkParams(), "blake3:" + "0" * 64, 1, "t", {"files": 1}, 9, "tool", "1.5")
WRONG = (None, True, 1, 1.5, "text", [1], {"a": None}, {"a": -1}, {"a": [1]})


@pytest.mark.parametrize("field", sorted(json.loads(SOUND.encode()).keys() - {"format"}))
def test_a_field_of_any_wrong_type_is_malformed(field: str) -> None:
    value = json.loads(SOUND.encode())
    assert Config.decode(SOUND.encode(), "config") == SOUND
    for wrong in WRONG:
        if type(wrong) is type(value[field]) and not isinstance(wrong, dict):
            continue
        changed = json.dumps(value | {field: wrong}).encode()
        with pytest.raises(FormatError):
            Config.decode(changed, "config")
    del value[field]
    with pytest.raises(FormatError):
        Config.decode(json.dumps(value).encode(), "config")
