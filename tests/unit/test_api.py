"""The API: who may, what is taken and refused, pages of lists, the record, secrets; the document by schemathesis."""

import contextlib
import html
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings, strategies
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from appliance import config, wishes
from appliance.accounts import manage
from appliance.accounts.models import Account, AccountUsage, Plan, Registration, Session, core_db
from appliance.admin import frame, people
from appliance.admin.models import Audit
from appliance.config import Config
from appliance.service import ANSWERED
from tests.unit import test_admin

box, app = test_admin.box, test_admin.app

ROOT = "/api/v1"


class Program:
    """Speaks WSGI as nginx does, with a token."""

    def __init__(self, app: Any, token: str = "") -> None:
        self._app, self.token = app, token

    def ask(self, method: str, url: str, body: Any = None, **more: str) -> tuple[int, Any, dict[str, str]]:
        path, _, query = url.partition("?")
        sent = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path if path.startswith("/metrics") else ROOT + path,
            "QUERY_STRING": query,
            "SERVER_NAME": "box",
            "SERVER_PORT": "443",
            "CONTENT_LENGTH": str(len(sent)),
            "CONTENT_TYPE": "application/json",
            "wsgi.input": io.BytesIO(sent),
            "wsgi.errors": io.StringIO(),
            "wsgi.url_scheme": "https",
            **({"HTTP_AUTHORIZATION": f"Bearer {self.token}"} if self.token else {}),
            **more,
        }
        got: list[Any] = []
        text = b"".join(self._app(environ, lambda status, headers, *_: got.extend((status, dict(headers)))))
        headers = got[1]
        if text and headers["Content-Type"].startswith("application/json"):
            return int(got[0].split()[0]), json.loads(text), headers
        return int(got[0].split()[0]), text.decode(), headers

    def get(self, url: str) -> Any:
        status, answer, _ = self.ask("GET", url)
        assert status == 200, answer
        return answer

    def refused(self, method: str, url: str, body: Any = None, **more: str) -> tuple[int, str]:
        status, answer, _ = self.ask(method, url, body, **more)
        assert set(answer) == {"error"}
        return status, answer["error"]


@pytest.fixture
def programs(box: Config, app: Any) -> Iterator[dict[str, Program]]:
    """One of each role."""
    with core_db.connection_context():
        tokens = {role: people.add_token(f"t-{role}", role) for role in people.ROLES}
    yield {role: Program(app, token) for role, token in tokens.items()}


@pytest.fixture
def program(programs: dict[str, Program]) -> Program:
    return programs["owner"]


def records(subject: str) -> list[tuple[str, str, Any]]:
    with core_db.connection_context():
        rows = Audit.select().where(Audit.subject == subject).order_by(Audit.id)
        return [(row.who, row.action, json.loads(row.changes)) for row in rows]


def test_an_account_from_its_making_to_its_end(program: Program) -> None:
    status, made, headers = program.ask("POST", "/accounts", {"name": "anna/b", "plan": "home"})
    assert (status, headers["Location"]) == (201, f"{ROOT}/accounts/anna%2Fb")
    assert len(made.pop("password")) == 12
    assert made == program.get("/accounts/anna/b")
    assert (made["plan"], made["enabled"], made["limits"], made["used_bytes"]) == ("home", True, {}, 0)
    wish = {"limits": {"down": "5M", "simultaneous": 2, "quota": None}, "valid_until": 2_000_000_000}
    status, changed, _ = program.ask("PATCH", "/accounts/anna/b", wish)
    assert (status, changed["limits"]) == (200, wish["limits"])
    assert changed["valid_until"] == 2_000_000_000
    _, changed, _ = program.ask("PATCH", "/accounts/anna/b", {"enabled": False, "limits": {"down": "5M"}})
    assert (changed["enabled"], changed["limits"], changed["valid_until"]) == (False, {"down": "5M"}, 2_000_000_000)
    assert program.ask("DELETE", "/accounts/anna/b")[:2] == (204, "")
    assert program.refused("GET", "/accounts/anna/b") == (404, "there is no account 'anna/b'")
    who, actions = {who for who, _, _ in records("account anna/b")}, [a for _, a, _ in records("account anna/b")]
    assert (who, actions) == ({"token t-owner"}, ["added", "changed", "changed", "removed"])
    assert records("account anna/b")[2][2] == {
        "enabled": [True, False],
        "simultaneous": [2, None],
    }


def test_a_secret_is_shown_once_and_never_recorded(program: Program) -> None:
    given = {"name": "bob", "plan": "home", "password": "his own secret"}
    assert "password" not in program.ask("POST", "/accounts", given)[1]
    _, changed, _ = program.ask("PATCH", "/accounts/bob", {"new_password": True})
    assert len(changed["password"]) == 12
    assert "password" not in program.get("/accounts/bob")
    _, made, _ = program.ask("POST", "/routers", {"name": "attic", "address": "192.0.2.7"})
    assert len(made["secret"]) == 32
    assert "secret" not in program.get("/routers/attic")
    said = records("account bob") + records("router attic")
    for secret in (given["password"], changed["password"], made["secret"]):
        assert secret not in json.dumps(said)
    assert said[1][2] == {"password": ["…", "…"]}


def test_what_is_refused(program: Program) -> None:
    program.ask("POST", "/accounts", {"name": "anna", "plan": "home"})
    new: dict[str, Any] = {"name": "x", "plan": "home"}
    for body, sentence in (
        ({"plan": "home"}, "body: name is missing"),
        (new | {"colour": 1, "size": 2}, "body: 'colour', 'size' can't be given; there are: name, plan, enabled"),
        (new | {"enabled": "yes"}, "enabled: true or false is needed, not a string"),
        (new | {"valid_until": True}, "valid_until: a whole number is needed, not a boolean"),
        (new | {"valid_until": 1.5}, "valid_until: a whole number is needed, not a number"),
        (new | {"valid_until": -1}, "valid_until: 0 to"),
        (new | {"limits": {"down": 5}}, "limits.down: a string is needed, not a number"),
        (new | {"limits": {"fast": "5M"}}, "limits: 'fast' can't be given"),
        (new | {"limits": {"down": "fast"}}, "'fast'"),
        (new | {"plan": "gold"}, "there is no plan 'gold'"),
        (new | {"address": "300.1.1.1"}, "no IPv4 address"),
        (new | {"name": "a\x00b"}, "name: it has characters that can't be printed"),
        (new | {"name": "\ud800"}, "name: it has characters that can't be printed"),
        (new | {"name": ""}, "name: 1 to 253 characters"),
        ([], "body: an object is needed, not an array"),
        (b"", "body: that is no JSON"),
        (b"\xff", "body: that is no JSON"),
        (b'{"name": "x", "name": "y", "plan": "home"}', "a key stands twice"),
        (b'{"name": "x", "plan": "home", "valid_until": NaN}', "NaN is no number of JSON"),
        (b"[" * 30_000, "body: it is nested too deeply"),
    ):
        status, said = program.refused("POST", "/accounts", body)
        assert (status, sentence in said) == (400, True), said
    assert program.refused("POST", "/accounts", {"name": "anna", "plan": "home"})[0] == 409
    assert program.refused("POST", "/accounts", new, CONTENT_TYPE="text/plain")[0] == 415
    assert program.refused("POST", "/accounts", b" " * 70_000)[0] == 413
    assert program.refused("PUT", "/accounts/anna", new)[0] == 405
    assert program.refused("GET", "/nothing")[0] == 404
    assert program.refused("GET", "/accounts?colour=1") == (
        400,
        "query: 'colour' can't be given; there are: limit, cursor, plan, enabled",
    )
    for query in ("limit=0", "limit=x", "limit=5&limit=6", "cursor=x", "cursor=1-2", "enabled=1", "plan=%ff"):
        assert program.refused("GET", f"/accounts?{query}")[0] == 400, query
    assert program.refused("DELETE", "/plans/home") == (
        409,
        "1 accounts have plan 'home': give them another one first",
    )


def test_a_list_comes_in_pages_that_miss_nothing(program: Program) -> None:
    with core_db.connection_context(), core_db.atomic():
        plan, other = Plan.get(), manage.add(Plan, "plan", name="other")
        rows = [{"name": f"a{n:03}", "plan": (plan, other)[n % 2], "password": b"", "created_at": n} for n in range(25)]
        Account.insert_many(rows).execute()
        for account in Account.select():
            AccountUsage.insert_many(
                [{"account": account, "day": 20261100 + n, "input_octets": n, "output_octets": 2} for n in range(1, 4)]
            ).execute()
    assert [row["name"] for row in everything(program, "/accounts", 7)] == [f"a{n:03}" for n in range(25)]
    assert len(everything(program, "/accounts?plan=other", 5)) == 12
    assert everything(program, "/accounts?enabled=false", 5) == []
    usage = everything(program, "/usage?from=2026-11-02", 7)
    assert len(usage) == 50
    assert usage[0] == {"account": "a000", "day": "2026-11-02", "input_octets": 2, "output_octets": 2}
    assert [row["day"] for row in program.get("/usage?account=a003&to=2026-11-02")["items"]] == [
        "2026-11-01",
        "2026-11-02",
    ]


def everything(program: Program, url: str, limit: int) -> list[dict[str, Any]]:
    found, cursor = [], ""
    while True:
        answer = program.get(f"{url}{'&' if '?' in url else '?'}limit={limit}{cursor}")
        assert len(answer["items"]) <= limit
        found += answer["items"]
        if answer["next"] is None:
            return found
        cursor = f"&cursor={answer['next']}"


def test_plans_and_routers(program: Program) -> None:
    made = program.ask("POST", "/plans", {"name": "gold", "down": "20M", "quota": "10G/month", "simultaneous": 3})[1]
    assert (made["down"], made["quota"], made["simultaneous"], made["up"]) == ("20M", "10G/month", 3, None)
    changed = program.ask("PATCH", "/plans/gold", {"down": None, "slow": "1M/512k"})[1]
    assert (changed["down"], changed["quota"], changed["slow"]) == (None, "10G/month", "1M/512k")
    assert records("plan gold")[1][2] == {"down": ["20M", None], "slow": [None, "1M/512k"]}
    assert program.refused("PATCH", "/plans/gold", {"quota": None})[1].startswith("a slow speed needs a quota")
    assert program.ask("DELETE", "/plans/gold")[0] == 204
    assert program.refused("POST", "/routers", {"name": "x"})[1].startswith("an address is needed")
    made = program.ask("POST", "/routers", {"name": "hall", "address": "192.0.2.8", "kind": "chilli"})[1]
    assert (made["coa_port"], made["message_authenticator"]) == (3799, True)
    assert program.refused("POST", "/routers", {"name": "two", "address": "192.0.2.8"})[0] == 409
    assert program.refused("PATCH", "/routers/hall", {"kind": "gateway"})[0] == 400
    assert program.ask("PATCH", "/routers/hall", {"coa": "none"})[1]["coa"] == "none"
    assert program.ask("DELETE", "/routers/hall")[0] == 200


def test_a_changed_router_is_applied_by_a_wish_that_tells_its_outcome(
    box: Config, programs: dict[str, Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    program, steps = programs["operator"], []
    real = wishes.wish

    def after_the_change(*args: Any) -> str:
        steps.append(core_db.in_transaction())
        return real(*args)

    monkeypatch.setattr(wishes, "wish", after_the_change)
    _, made, _ = program.ask("POST", "/routers", {"name": "attic", "address": "192.0.2.7"})
    _, changed, _ = program.ask("PATCH", "/routers/attic", {"radsec": True})
    status, removed, _ = program.ask("DELETE", "/routers/attic")
    assert status == 200
    numbers = [answer["wish"] for answer in (made, changed, removed)]
    with wishes.folder(box.paths.state) as folder:
        assert wishes.waiting(folder) == numbers
        asked = [wishes.read(folder, number) for number in numbers]
        assert {(wish.who, *map(len, (wish.settings, wish.modules, wish.files))) for wish in asked} == {
            ("token t-operator", 0, 0, 0)
        }
        assert steps == [False] * 3, "root would read what isn't there yet"
        assert program.get(f"/wishes/{numbers[0]}") == {"id": numbers[0], "state": "waiting", "refusal": None}
        for number, said in zip(numbers, ("", "nginx refuses it"), strict=False):
            (box.paths.state / ANSWERED / number).write_text(said)
            wishes.remove(folder, f"{number}.json")
    assert program.get(f"/wishes/{numbers[0]}")["state"] == "done"
    assert program.get(f"/wishes/{numbers[1]}") == {
        "id": numbers[1],
        "state": "refused",
        "refusal": "nginx refuses it",
    }
    for strange in ("x", "1" * 19 + "-01234567", "..%2Fanswers"):
        assert program.refused("GET", f"/wishes/{strange}")[0] == 404
    assert programs["reader"].refused("GET", f"/wishes/{numbers[0]}")[0] == 403
    assert program.refused("GET", "/wishes")[0] == 404
    assert program.refused("PATCH", "/routers/none", {"radsec": True})[0] == 404
    with wishes.folder(box.paths.state) as folder:
        assert wishes.waiting(folder) == numbers[2:], "what wasn't changed isn't applied"


def test_sessions(program: Program) -> None:
    program.ask("POST", "/accounts", {"name": "anna", "plan": "home"})
    with core_db.connection_context():
        account = Account.get()
        for number in range(4):
            Session.create(
                unique_id=str(number),
                account="anna",
                account_ref=account,
                nas="hall",
                acct_session_id="1",
                mac="aa:bb:cc:00:00:01",
                started_at=number,
                updated_at=number,
                ended_at=None if number == 2 else 9,
            )
    ids = [row["started_at"] for row in everything(program, "/sessions?account=anna", 3)]
    assert ids == [3, 2, 1, 0]
    (online,) = program.get("/sessions?state=online&router=hall")["items"]
    assert online["started_at"] == 2
    assert program.refused("GET", "/sessions?router=hall")[0] == 400
    (ended, *_) = program.get("/sessions?state=ended")["items"]
    assert program.refused("DELETE", f"/sessions/{ended['id']}")[0] == 409
    status, said = program.refused("DELETE", f"/sessions/{online['id']}")
    assert (status, "isn't in the list any more" in said) == (409, True)
    for nonsense in ("x", "-1", "99999999999999999999", "²"):
        assert program.refused("GET", f"/sessions/{nonsense}")[0] == 404


def test_vouchers(programs: dict[str, Program]) -> None:
    program = programs["operator"]
    order = {"name": "may", "plan": "home", "count": 12, "prefix": "m", "price": "5.00", "currency": "EUR"}
    made = program.ask("POST", "/voucher-batches", order)[1]
    assert (made["price_minor"], made["vouchers"]["unused"]) == (500, 12)
    codes = [row["code"] for row in everything(program, "/vouchers?batch=may&state=unused", 5)]
    assert len(set(codes)) == 12
    assert program.get(f"/vouchers/{codes[0].upper()[:4]}-{codes[0][4:]}")["code"] == codes[0]
    assert program.ask("PATCH", f"/vouchers/{codes[0]}", {"enabled": False})[1]["state"] == "revoked"
    assert records(f"voucher {codes[0]}") == [("token t-operator", "changed", {"enabled": [True, False]})]
    until = made["created_at"] + 86_400
    changed = program.ask("PATCH", "/voucher-batches/may", {"unused_until": until})[1]
    assert (changed["unused_until"], changed["vouchers"]["revoked"]) == (until, 1)
    assert program.ask("PATCH", "/voucher-batches/may", {"revoked": True})[1]["vouchers"]["revoked"] == 12
    assert program.ask("DELETE", "/voucher-batches/may")[:2] == (200, {"removed": 12, "stay": 0})
    assert [action for _, action, _ in records("batch may")] == ["added", "changed", "revoked", "removed"]
    for wrong, sentence in (
        ({"price": "5.00", "currency": None}, "currency: a string is needed, not null"),
        ({"length": 3}, "3 characters can't be a voucher's length"),
        ({"unused_until": 5}, "unused_until: that is over"),
        ({"count": 100_001}, "count: 1 to 100000 is possible"),
    ):
        assert sentence in program.refused("POST", "/voucher-batches", order | wrong)[1]
    program.ask("POST", "/voucher-batches", order)
    assert program.refused("POST", "/voucher-batches", order)[0] == 409
    assert program.refused("GET", "/vouchers?state=unused")[0] == 400
    assert programs["reader"].refused("GET", "/vouchers")[0] == 403  # they let in whoever reads them
    assert programs["reader"].get("/accounts")["items"] == []
    assert programs["reader"].refused("POST", "/voucher-batches", order)[0] == 403
    assert programs["reader"].refused("POST", "/routers", {"name": "x"})[0] == 403


def test_registrations(box: Config) -> None:
    box.file.write_text(box.file.read_text() + '[portal]\nregistration = "operator"\nregistration_plan = "home"\n')
    app = frame.Frame(config.load(box.file)).app()
    with core_db.connection_context():
        for number in (1, 2):
            Registration.create(
                kind="operator", state="waiting", mac=str(number), name="Eva", contact="eva@example.net", created_at=5
            )
        reader, program = (Program(app, people.add_token(f"r-{role}", role)) for role in ("reader", "operator"))
    assert [row["id"] for row in program.get("/registrations?state=waiting")["items"]] == [2, 1]
    assert reader.refused("GET", "/registrations")[0] == 403
    made = program.ask("PATCH", "/registrations/1", {"state": "accepted"})[1]
    assert (made["state"], made["decided_by"]) == ("accepted", "token r-operator")
    assert program.get(f"/accounts/{made['account']}")["plan"] == "home"
    assert "accepted already" in program.refused("PATCH", "/registrations/1", {"state": "refused"})[1]
    assert "can be decided" in program.refused("PATCH", "/registrations/2", {"state": "waiting"})[1]
    assert program.ask("PATCH", "/registrations/2", {"state": "refused"})[1]["state"] == "refused"
    assert program.ask("DELETE", "/registrations/2")[0] in (200, 204)
    assert program.refused("GET", "/registrations/2")[0] == 404
    assert [action for _, action, _ in records("registration 2")] == ["refused", "removed"]
    assert "eva" not in str(records("registration 2"))


def test_the_page_says_it_for_people(box: Config, app: Any, program: Program) -> None:
    """What it shows as examples can be made."""
    body = html.unescape(test_admin.browser(app, "reader").get("/api").body)
    for name in ("accounts", "plans", "sessions", "usage", "routers"):
        assert f"GET /api/v1/{name}</code>" in body
    samples = re.findall(r"--json '([^']+)' https?://[^/]*/api/v1([^<]+)</pre>", body)
    assert len(samples) >= 3
    for sample, path in samples:
        assert program.ask("POST", path, sample.encode())[0] == 201, sample


# The document, held against the application

KEYS = {
    "accounts": "anna",
    "plans": "home",
    "registrations": "1",
    "routers": "attic",
    "sessions": "1",
    "voucher-batches": "may",
    "vouchers": "unknown",
}


@pytest.mark.parametrize("examples", [1, pytest.param(40, marks=pytest.mark.system)])
def test_answers_are_as_described(box: Config, app: Any, programs: dict[str, Program], examples: int) -> None:
    """Whatever fits the document or just doesn't, in each of its operations, half of the time on what is there."""
    if examples < 10 and "postgresql" in box.database_url:
        pytest.skip("the slow proof does it there too")
    program = programs["owner"]
    program.ask("POST", "/routers", {"name": "attic", "address": "192.0.2.7"})
    schema = schemathesis.openapi.from_wsgi(f"{ROOT}/openapi.json", let_in(app, program))
    operations: list[Any] = [result.ok() for result in schema.get_all_operations()]  # type: ignore[union-attr]
    assert len(operations) > 15
    for operation in operations:
        for mode in schemathesis.GenerationMode if operation.body else [schemathesis.GenerationMode.POSITIVE]:
            check(operation.as_strategy(generation_mode=mode), program, examples)


def let_in(app: Any, program: Program) -> Any:
    """With the token on each request, and a document that doesn't ask for it: who may is tried elsewhere."""
    document = program.get("/openapi.json")
    del document["security"], document["components"]["securitySchemes"]
    text = json.dumps(document).encode()

    def answered(environ: dict[str, Any], start: Any) -> Any:
        if environ["PATH_INFO"] != f"{ROOT}/openapi.json":
            return app({**environ, "HTTP_AUTHORIZATION": f"Bearer {program.token}"}, start)
        start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
        return [text]

    return answered


def check(cases: Any, program: Program, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=cases, there=strategies.booleans())
    def answers(case: Any, there: bool) -> None:
        name = case.operation.path.split("/")[3]
        if there and name in KEYS and "key" in case.path_parameters:
            program.ask("POST", "/accounts", {"name": "anna", "plan": "home"})
            program.ask("POST", "/voucher-batches", {"name": "may", "plan": "home", "count": 1})
            case.path_parameters["key"] = KEYS[name]
        answer = case.call()
        left_out = [positive_data_acceptance]
        if answer.status_code == 413:  # nothing was said of what was in there
            left_out.append(negative_data_rejection)
        case.validate_response(answer, excluded_checks=left_out)

    with contextlib.suppress(Unsatisfiable):  # nothing that could be sent wouldn't fit
        answers()
