"""What people write for limits: values in, columns out, and one line for what can't be."""

import pytest

from appliance.accounts import attributes, limits, manage, terms
from appliance.accounts.models import Account, Plan, Pool
from appliance.crypto import SecretBox
from appliance.errors import UserError
from rlm_python import time_windows

BOX = SecretBox(bytes(32))


@pytest.mark.parametrize(
    ("key", "text", "columns"),
    [
        ("down", "20M", {"rate_down_bps": 20_000_000}),
        ("burst", "40M/10M 15M/4M 8 5", {"burst": "10M/40M 4M/15M 8 5"}),
        ("windows", "mo-fr 8:00-20:00, daily 22:00-6:00 @ 50m/10m", None),
        ("idle", "15m", {"idle_timeout_s": 900}),
        ("quota", "10G/month", {"quota_bytes": 10**10, "quota_period": "month"}),
        ("quota", "none", {"quota_bytes": None, "quota_period": "total"}),
        ("slow", "1M/512k", {"slow_down_bps": 1_000_000, "slow_up_bps": 512_000}),
        ("slow", "1M", {"slow_down_bps": 1_000_000, "slow_up_bps": 1_000_000}),
        ("devices", "none", {"devices": 0}),
        ("vlan", "30", {"vlan": 30}),
        (
            "attributes",
            'Mikrotik-Group = "kids"\nPort-Limit=2',
            {"attributes": "Mikrotik-Group = kids\nPort-Limit = 2"},
        ),
    ],
)
def test_values(key: str, text: str, columns: dict[str, object] | None) -> None:
    found = limits.values({key: text})
    if columns is None:
        assert found == {"windows": "Mo-Fr 08:00-20:00, daily 22:00-06:00 @50M/10M"}
    else:
        assert found == columns


def test_what_is_shown_can_be_written_again() -> None:
    given = {
        "down": "20M",
        "up": "5M",
        "burst": "40M/10M 15M/4M 8 5",
        "windows": "daily 22:00-06:00 @50M/10M",
        "session_limit": "2h",
        "quota": "10G/month",
        "slow": "1M/512k",
        "vlan": "30",
    }
    columns = manage.plan_columns(Plan()) | limits.values(given)
    assert {key: text for key, text in limits.shown(columns).items() if text} == given


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("quota", "10G/fortnight", "no period"),
        ("slow", "0/1M", "no limit"),
        ("vlan", "4095", "1 to 4094"),
        ("devices", "-1", "1 to 1000"),
        ("windows", "daily 22:00-06:00 @fast/slow", "not a speed"),
        ("windows", "daily 22:00-06:00 @5M", "not a time window"),
        ("attributes", "Foo = 1", "no such attribute"),
        ("attributes", "Class = 0x01", "the server itself"),
        ("attributes", "Cleartext-Password = x", "never leaves"),
        ("attributes", "Idle-Timeout = soon", "integer is needed"),
        ("attributes", "Service-Type = Nonsense", "integer is needed (one of"),
        ("attributes", "Framed-IP-Address = 300.1.1.1", "ipaddr is needed"),
        ("attributes", 'Reply-Message = "a\nb"', "is no attribute"),
        ("attributes", "Reply-Message = " + "x" * 300, "string is needed"),
        ("router_pool", " x", "can't be a name"),
        ("pool", "nowhere", "no pool"),
    ],
)
def test_what_can_not_be(core: str, key: str, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words.replace("(", r"\(")) as caught:
        limits.values({key: text})
    assert "\n" not in str(caught.value).replace(text, "")


def test_dictionary_knows_vendors_and_values() -> None:
    assert attributes.parse("Mikrotik-Rate-Limit = 1M/1M") == "Mikrotik-Rate-Limit = 1M/1M"
    assert attributes.parse("Service-Type := Framed-User") == "Service-Type = Framed-User"


@pytest.mark.parametrize("burst", ["1M/1M", "10M/40M 4M/15M 0x8", "10M/40M 4M/15M 8 9"])
def test_a_burst_below_the_rate_or_of_nonsense_is_refused(core: str, burst: str) -> None:
    with pytest.raises(UserError):
        manage.add_plan("p", {"rate_down_bps": 20_000_000, "rate_up_bps": 5_000_000, "burst": burst})
    assert not Plan.select().exists()


def test_a_slow_speed_needs_a_quota(core: str) -> None:
    with pytest.raises(UserError, match="needs a quota"):
        manage.add_plan("p", {"slow_down_bps": 1})


class TestOverrides:
    @pytest.fixture(autouse=True)
    def plan(self, core: str) -> None:
        manage.add_plan("home", {"rate_down_bps": 20_000_000, "rate_up_bps": 5_000_000, "session_timeout_s": 60})
        manage.add_account("bob", "home", "secret", BOX, overrides={"rate_down_bps": 50_000_000})

    def own(self, **given: str) -> dict[str, object]:
        account = Account.get()
        before = terms.overrides(account.overrides)
        manage.change_account(account, {"overrides": limits.overrides(before, given)})
        return terms.overrides(Account.get().overrides)

    def test_set_none_and_back_to_the_plan(self) -> None:
        assert self.own(session_limit="none") == {"rate_down_bps": 50_000_000, "session_timeout_s": None}
        assert manage.account_columns(Account.get())["session_timeout_s"] is None
        assert self.own(session_limit="plan", up="1M") == {"rate_down_bps": 50_000_000, "rate_up_bps": 1_000_000}
        assert self.own(down="plan", up="plan") == {}
        assert Account.get().overrides == ""

    def test_a_plan_can_not_be_changed_so_that_an_accounts_own_limits_break(self) -> None:
        self.own(down="10M", burst="15M/15M 8M/3M 8")
        with pytest.raises(UserError, match="account 'bob' has limits of its own"):
            manage.change_plan("home", {"rate_up_bps": 16_000_000})

    def test_a_pool_that_an_account_takes_from_stays(self) -> None:
        manage.add_pool("public", "198.51.100.16", "198.51.100.17")
        self.own(pool="public")
        with pytest.raises(UserError, match="account 'bob'"):
            manage.remove_pool("public")
        self.own(pool="plan")
        manage.remove_pool("public")
        assert not Pool.select().exists()


def test_speeds_of_windows_round_trip() -> None:
    text = "daily 22:00-06:00 @50M/10M, Sa-Su 00:00-24:00 @0/1500"
    assert time_windows.parse(time_windows.format(time_windows.parse(text))) == time_windows.parse(text)
