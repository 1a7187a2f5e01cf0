"""Any history of a vault: what is seen at any time is what a plain model says, and the manifest says the same."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from appliance.vault import history, manifest, rebuild, retention
from appliance.vault.clock import DAY_MS
from appliance.vault.manifest import Manifest
from appliance.vault.models import Event, Head, Refused, Span, Vault, Version, vault_db
from tests.unit.vault_box import Box

PATHS = ("/a", "/b", "/f/a", "/f/b", "/f/g/a", "/f", "/f/g", "/g")
Tree = dict[str, bytes | None]  # None is a folder

steps = st.lists(
    st.one_of(
        st.tuples(st.just("store"), st.sampled_from(PATHS), st.binary(max_size=3)),
        st.tuples(st.just("remove"), st.sampled_from(PATHS)),
        st.tuples(st.just("rename"), st.sampled_from(PATHS), st.sampled_from(PATHS)),
        st.tuples(st.just("make_folder"), st.sampled_from(PATHS)),
        st.tuples(st.just("remove_folder"), st.sampled_from(PATHS)),
        st.tuples(st.just("undelete"), st.integers(0, 9)),
        st.tuples(st.just("back"), st.integers(0, 9)),
        st.tuples(st.just("retain"), st.integers(0, 3)),
    ),
    max_size=14,
)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    box = Box(tmp_path_factory.mktemp("vault"))
    yield box
    box.close()


class Model:
    """Files and folders as anybody would write them, with what they were after each step."""

    def __init__(self) -> None:
        self.tree: Tree = {}
        self.contents: list[bytes] = []

    def parents(self, path: str) -> list[str]:
        parts = path.split("/")[1:-1]
        return ["/" + "/".join(parts[: i + 1]) for i in range(len(parts))]

    def put(self, path: str, data: bytes) -> bool:
        if any(self.tree.get(folder, None) is not None for folder in self.parents(path)):
            return False
        if path in self.tree and self.tree[path] is None:
            return False
        self.tree |= dict.fromkeys((folder for folder in self.parents(path)), None)
        self.tree[path] = data
        return True

    def below(self, path: str) -> list[str]:
        return [other for other in self.tree if other.startswith(path + "/")]

    def remove(self, path: str) -> bool:
        if self.tree.get(path) is None:
            return False
        del self.tree[path]
        return True

    def remove_folder(self, path: str) -> bool:
        if path not in self.tree or self.tree[path] is not None or self.below(path):
            return False
        del self.tree[path]
        return True

    def make_folder(self, path: str) -> bool:
        if path in self.tree or any(self.tree.get(folder) is not None for folder in self.parents(path)):
            return False
        self.tree |= dict.fromkeys([*self.parents(path), path], None)
        return True

    def rename(self, path: str, target: str) -> bool:
        if path not in self.tree or target.startswith(path + "/"):
            return False
        if path == target:
            return True
        data = self.tree[path]
        if target in self.tree and (data is None or self.tree[target] is None):
            return False
        if any(self.tree.get(folder) is not None for folder in self.parents(target)):
            return False
        moved = {target + other[len(path) :]: self.tree.pop(other) for other in [path, *self.below(path)]}
        self.tree |= dict.fromkeys(self.parents(target), None)
        self.tree |= moved
        return True


def seen(box: Box, vault: Any, at: int | None = None) -> Tree:
    return {path: None if entry.is_folder else box.get(entry.version) for path, entry in box.store.tree(vault, at)}


def everything() -> list[Any]:
    rows: list[Any] = []
    for model in (Version, Span, Event):
        columns = [field for field in model._meta.sorted_fields if field.name != "id" or model is Version]
        rows += sorted(repr(row) for row in model.select(*columns).tuples())
    rows += list(Vault.select(Vault.name, Vault.used_bytes, Vault.used_files).order_by(Vault.name).tuples())
    head = Head.get_by_id(1)
    return [*rows, (head.n, head.sha256, head.bytes, head.at_ms)]


def act(box: Box, vault: Any, model: Model, step: tuple[Any, ...], past: list[tuple[int, Tree]]) -> None:
    verb, *words = step
    before = dict(model.tree)
    try:
        if verb == "store":
            allowed = model.put(*words)
            box.put(vault, *words)
        elif verb in ("remove", "rename", "make_folder", "remove_folder"):
            allowed = getattr(model, verb)(*words)
            getattr(box.store, verb)(vault, *words)
        elif verb == "undelete":
            versions = list(Version.select().where(Version.vault == vault).order_by(Version.id))
            if not versions:
                return
            version = versions[words[0] % len(versions)]
            allowed = model.put(version.path, box.get(version))
            history.undelete(box.store, version)
        elif verb == "back":
            at, tree = past[words[0] % len(past)]
            allowed, model.tree = True, dict(tree)
            history.restore_view(box.store, vault, at)
        else:
            allowed = True
            box.clock.wait(words[0] * DAY_MS // 2)
            retention.run(box.store)
    except Refused:
        assert not allowed, step
        model.tree = before
        return
    assert allowed, step


@given(steps)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history(box: Box, history_: list[tuple[Any, ...]]) -> None:
    number = Vault.select().count()
    vault = box.vault(f"v{number}", keep_days=3650)
    model = Model()
    past: list[tuple[int, Tree]] = [(box.clock.wall - 1, {})]
    for step in history_:
        act(box, vault, model, step, past)
        box.clock.wait(50)
        assert seen(box, vault) == model.tree, step
        past.append((box.clock.wall, dict(model.tree)))
        box.clock.wait(50)
    for at, tree in past:
        assert seen(box, vault, at) == tree
    used = Vault.get_by_id(vault.id)
    assert used.used_files == sum(data is not None for data in model.tree.values())
    assert used.used_bytes == sum(version.bytes for version in Version.select().where(Version.vault == vault))


def test_the_catalogue_made_anew_is_the_same(box: Box) -> None:
    """After the histories above."""
    before = everything()
    assert len(before) > 20
    report = rebuild.rebuild(box.store.place())
    assert (everything(), report.missing) == (before, 0)
    assert rebuild.prove(box.store.place()).problem == ""


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40)), max_size=12),
    st.integers(0, 20),
    st.integers(0, 3),
    st.integers(0, 30),
)
@example([("a", 20), ("a", 0), ("a", 15)], 0, 0, 30)  # one that is locked beside one that isn't any more
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_retention_erases_what_nothing_keeps_and_no_more(
    box: Box, writes: list[tuple[str, int]], days: int, versions: int, lock: int
) -> None:
    vault = box.vault(f"r{Vault.select().count()}", keep_days=days, keep_versions=versions, lock_days=lock)
    stored: list[tuple[int, str, int]] = []
    for name, wait in writes:
        stored.append((box.put(vault, name, b"x").id, name, box.clock.since_boot))
        box.clock.wait(wait * DAY_MS)
        retention.run(box.store)
    now, kept = box.clock.since_boot, set()
    for index, (number, name, at) in enumerate(stored):
        later = [other for other in stored[index + 1 :] if other[1] == name]
        left = later[0][2] if later else None
        if left is None or now - left < days * DAY_MS or now - at < lock * DAY_MS or len(later) <= versions:
            kept.add(number)
    assert {version.id for version in Version.select().where(Version.vault == vault)} == kept


def test_a_clock_that_is_set_ends_no_lock(box: Box) -> None:
    vault = box.vault("locked", keep_days=0, keep_versions=0, lock_days=30)
    first = box.put(vault, "/x", b"first")
    box.put(vault, "/x", b"second")
    box.clock.wall += 3650 * DAY_MS
    retention.run(box.store)
    assert box.get(first.id) == b"first"
    box.clock.wall -= 7300 * DAY_MS
    box.put(vault, "/y", b"")  # a time after the last event, all the same
    box.clock.number, box.clock.since_boot = "boot-2", 3650 * DAY_MS  # no time that was seen to go by
    retention.run(box.store)
    assert box.get(first.id) == b"first"
    box.clock.wait(29 * DAY_MS)
    retention.run(box.store)
    assert box.get(first.id) == b"first"
    box.clock.wait(2 * DAY_MS)
    retention.run(box.store)
    assert Version.get_or_none(Version.id == first.id) is None
    assert not (box.store.place() / "objects" / first.sha256[:2] / first.sha256).exists()


def test_what_broke_off_between_manifest_and_catalogue_is_done_and_half_a_line_is_not(box: Box) -> None:
    vault = box.vault("broken")
    good = box.put(vault, "/x", b"good")
    with Manifest(box.store.place()) as file:
        head = Head.get_by_id(1)
        record = {"n": head.n + 1, "previous": head.sha256, "at": head.at_ms + 1, "age": head.age_ms}
        line = manifest.encode(record | {"vault": "broken", "event": "delete", "path": "/x"}) + b"\n"
        file.append(line, head.bytes)
        whole = file.size
        file.append(line[:20], whole)
    box.store.recover()
    assert seen(box, vault) == {}
    with Manifest(box.store.place()) as file:
        assert file.size == whole
    history.undelete(box.store, good)
    assert seen(box, vault) == {"/x": b"good"}
    assert rebuild.prove(box.store.place()).problem == ""


def test_a_manifest_that_was_changed_is_noticed(box: Box) -> None:
    path = box.store.place() / "manifest" / "manifest.jsonl"
    text = path.read_bytes()
    path.write_bytes(text.replace(b'"event":"store"', b'"event":"stire"', 1))
    try:
        assert "doesn't follow" in rebuild.prove(box.store.place()).problem
        path.write_bytes(b"".join(text.splitlines(keepends=True)[:-1]))
        assert "another manifest" in rebuild.prove(box.store.place()).problem
        with pytest.raises(Refused, match="shorter"):
            box.put(Vault.select().first(), "/z", b"")
    finally:
        path.write_bytes(text)


def test_ten_thousand_files_are_listed_by_one_query(box: Box) -> None:
    vault = box.vault("many")
    version = box.put(vault, "/m/00000", b"")
    rows = [(vault.id, "/m", f"{number:05}", version.id, 0, 0) for number in range(1, 10_000)]
    fields = [Span.vault, Span.folder, Span.name, Span.version, Span.modified_s, Span.from_ms]
    with vault_db.atomic():
        for begin in range(0, len(rows), 1000):
            Span.insert_many(rows[begin : begin + 1000], fields).execute()
    queries: list[Any] = []
    database = vault_db.obj
    execute = database.execute_sql

    def listened(*words: Any, **more: Any) -> Any:
        queries.append(words)
        return execute(*words, **more)

    database.execute_sql = listened
    try:
        names = [entry.name for entry in box.store.entries(vault, "/m")]
    finally:
        del database.execute_sql
    assert names == [f"{number:05}" for number in range(10_000)]
    assert len(queries) == 2  # one for the folder itself
    sql, words = queries[1]
    plan = " ".join(str(row) for row in database.execute_sql(f"EXPLAIN QUERY PLAN {sql}", words))
    assert "USING INDEX span_now" in plan or "USING INDEX span_place" in plan
    assert "TEMP B-TREE" not in plan
