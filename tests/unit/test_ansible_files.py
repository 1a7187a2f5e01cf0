"""What Ansible writes: TOML that the product reads, and a firewall that knows the product's ports."""

import importlib.util
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import Config

COLLECTION = Path(__file__).parents[2] / "ansible"
FIREWALL = COLLECTION / "roles/appliance/templates/nftables.conf.j2"

_WORDS = st.text(st.characters(exclude_categories=["Cs"]))
_SCALARS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | _WORDS
_VALUES = st.recursive(
    _SCALARS | st.lists(_SCALARS),
    lambda inner: st.dictionaries(_WORDS, inner, max_size=3) | st.lists(st.dictionaries(_WORDS, inner, max_size=3)),
    max_leaves=12,
)


def to_toml() -> Callable[[object], str]:
    spec = importlib.util.spec_from_file_location("to_toml", COLLECTION / "plugins/filter/to_toml.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[object], str] = module.FilterModule().filters()["to_toml"]
    return found


TO_TOML = to_toml()


@given(st.dictionaries(_WORDS, _VALUES, max_size=4))
def test_what_is_written_is_read_back(tables: dict[str, Any]) -> None:
    assert tomllib.loads(TO_TOML(tables)) == tables


def test_text_stays_as_it_is() -> None:
    assert TO_TOML("# by hand\n[site]\n") == "# by hand\n[site]\n"


@pytest.mark.parametrize("value", [None, [1], {"site": {"name": None}}])
def test_what_toml_has_no_words_for_is_refused(value: object) -> None:
    with pytest.raises(Exception, match="to_toml: "):
        TO_TOML(value)


def test_the_firewall_lets_in_what_is_for_the_outside() -> None:
    """Ports that are switched off by default have nobody who listens; guests are the gateway's table's business."""
    text = FIREWALL.read_text(encoding="utf-8")
    opened = {
        int(port) for line in re.findall(r"dport (\{[^}]*\}|\d+) accept", text) for port in re.findall(r"\d+", line)
    }
    default = Config()
    outside = {
        default.radius.authentication_port,
        default.radius.accounting_port,
        default.tunnel.listen_port,
        default.netflow.port,
        default.vault.port,
        default.vault.tls_port,
        default.admin.port,
        2083,  # RadSec, as docs/configuration.md proposes
    }
    inside = {default.portal.http_port, default.portal.https_port, default.gateway.coa_port, 53}
    assert outside <= opened
    assert f"dport {default.vault.passive_first}-{default.vault.passive_last} accept" in text
    assert not inside & opened
    assert opened - outside == {67, 68, 546}  # DHCP, ours and the guests'
    assert "flush ruleset" not in text
