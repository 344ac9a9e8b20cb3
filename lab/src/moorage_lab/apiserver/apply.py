"""Server-side apply and field ownership (KEP-555; the algorithm is structured-merge-diff's `merge.Updater`)."""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from moorage_lab.apiserver import fields as fieldset
from moorage_lab.apiserver.fields import Path, key_of, members
from moorage_lab.apiserver.objects import Obj
from moorage_lab.apiserver.schema import Fields, Rules
from moorage_lab.apiserver.status import Cause, StatusError, apply_conflict


class Manager(NamedTuple):
    """An owner of fields; a program has one of these per operation and subresource."""

    name: str
    operation: str
    """`Apply` or `Update`."""
    api_version: str
    subresource: str = ""


class Owned(NamedTuple):
    paths: frozenset[Path]
    time: str = ""
    """When the set last changed, RFC 3339."""


Managers = Mapping[Manager, Owned]


def read_managers(entries: Iterable[Any] | None) -> dict[Manager, Owned]:
    """Parses `metadata.managedFields`; entries without a manager or an operation are dropped (`[{}]` resets)."""
    found: dict[Manager, Owned] = {}
    for entry in entries or ():
        if isinstance(entry, dict) and entry.get("operation"):
            manager = Manager(
                str(entry.get("manager", "")),
                str(entry["operation"]),
                str(entry.get("apiVersion", "")),
                str(entry.get("subresource", "")),
            )
            paths = fieldset.from_fields_v1(entry.get("fieldsV1") or {})
            found[manager] = Owned(frozenset(paths), str(entry.get("time", "")))
    return found


def write_managers(managers: Managers) -> list[Obj]:
    """The entries of `metadata.managedFields`: applied sets first, then the others, oldest first."""
    entries = []
    ordered = sorted(managers.items(), key=lambda item: (item[0].operation, item[1].time, item[0]))
    for manager, owned in ordered:
        entry = {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": manager.api_version,
            "time": owned.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": fieldset.to_fields_v1(owned.paths),
            "subresource": manager.subresource,
        }
        entries.append({key: value for key, value in entry.items() if value != ""})
    return entries


def after_update(before: Obj, after: Obj, rules: Rules, managers: Managers, manager: Manager, now: str) -> Managers:
    """The managers after a write other than apply: the writer takes the fields that it changed from all others."""
    set_, removed = fieldset.changed(before, after, rules)
    return _transfer(managers, manager, set_, set_ | removed, now)


def _transfer(managers: Managers, to: Manager, gained: set[Path], lost: set[Path], now: str) -> Managers:
    result: dict[Manager, Owned] = {}
    for manager, owned in {to: Owned(frozenset()), **managers}.items():
        paths = (owned.paths - lost) | (gained if manager == to else frozenset())
        if paths:
            result[manager] = owned if paths == owned.paths else Owned(frozenset(paths), now)
    return result


def apply(
    live: Obj,
    config: Obj,
    rules: Rules,
    managers: Managers,
    manager: Manager,
    fill: Callable[[Obj], None],
    *,
    force: bool,
    now: str,
) -> tuple[Obj, Managers]:
    """The object with `config` applied by `manager`, and the managers after it. Nothing given is changed.

    `fill` puts defaults into an object, in place.

    Fields that the same manager applied before, leaves out now and shares with nobody are removed. Raises
    StatusError 409 where a field that another manager owns would change, unless `force`.
    """
    wanted = frozenset(members(config, rules))
    before = managers.get(manager, Owned(frozenset())).paths
    others = {who: owned for who, owned in managers.items() if who != manager}
    merged = _merge(live, config, rules, ())
    kept = wanted.union(*(owned.paths for owned in others.values()))
    result = copy.deepcopy(_prune(merged, rules, (), (), before - kept, kept))
    # The live object has its defaults: without them, every atomic list that leaves one out would differ.
    fill(result)
    set_, removed = fieldset.changed(live, result, rules)
    clashes = {who: sorted(owned.paths & set_) for who, owned in others.items() if owned.paths & set_}
    if clashes and not force:
        raise _conflicts(clashes, others)
    after = dict(_transfer(others, manager, set(), set_ | removed, now))
    if wanted:
        same = manager in managers and before == wanted
        after[manager] = managers[manager] if same else Owned(wanted, now)
    return result, after


def _merge(live: Any, config: Any, rules: Rules, fields: Fields) -> Any:
    rule = rules.get(fields)
    if isinstance(live, dict) and isinstance(config, dict) and not (rule and rule.atomic):
        result = dict(live)
        for key, value in config.items():
            result[key] = _merge(live[key], value, rules, (*fields, key)) if key in live else value
        return result
    if isinstance(live, list) and isinstance(config, list) and rule and (rule.keys or rule.set):
        applied = {key_of(item, rule): item for item in config}
        have = {key_of(item, rule): item for item in live}
        queue = [(key, item) for key, item in applied.items() if key in have]
        # Items that both have get the order of the applied list, within the places that they occupy together.
        ordered = iter(queue)
        places = [next(ordered) if key in applied else (key, None) for key in have]
        result_items = [have[key] if item is None else _merge(have[key], item, rules, fields) for key, item in places]
        return result_items + [item for key, item in applied.items() if key not in have]
    return config


def _prune(
    value: Any, rules: Rules, fields: Fields, path: Path, dropped: frozenset[Path], kept: frozenset[Path]
) -> Any:
    """The value without the fields in `dropped`; None if nothing is left."""
    rule = rules.get(fields)

    def needed(place: Path) -> bool:
        return any(other[: len(place)] == place for other in kept)

    def under(place: Path) -> bool:
        return any(other[: len(place)] == place for other in dropped)

    if not path or under(path):
        if path in dropped and not needed(path):
            return None
        if isinstance(value, dict) and not (rule and rule.atomic):
            result = {}
            for key, item in value.items():
                inner = _prune(item, rules, (*fields, key), (*path, f"f:{key}"), dropped, kept)
                if inner is not None:
                    result[key] = inner
            return result if result or not value else None
        if isinstance(value, list) and rule and (rule.keys or rule.set):
            items = []
            for item in value:
                place = (*path, key_of(item, rule))
                if place in dropped and not needed(place):
                    continue
                inner = (
                    _prune(item, rules, fields, place, dropped - {place}, kept) if isinstance(item, dict) else item
                )
                if inner is not None:
                    items.append(inner)
            return items or None
    return value


def _conflicts(clashes: Mapping[Manager, list[Path]], managers: Managers) -> StatusError:
    causes = []
    blocks = []
    for manager, paths in sorted(clashes.items()):
        who = _describe(manager, managers[manager].time)
        shown = [fieldset.display(path) for path in paths]
        causes += [Cause("FieldManagerConflict", f"conflict with {who}", field) for field in shown]
        blocks.append(f"conflicts with {who}:\n" + "\n".join(f"- {field}" for field in shown))
    if len(causes) == 1:
        return apply_conflict(f"Apply failed with 1 conflict: {causes[0].message}: {causes[0].field}", causes)
    return apply_conflict(f"Apply failed with {len(causes)} conflicts: " + "\n".join(blocks), causes)


def _describe(manager: Manager, time: str) -> str:
    text = f'"{manager.name}"'
    if manager.subresource:
        text += f' with subresource "{manager.subresource}"'
    if manager.operation == "Update":
        text += f" using {manager.api_version}" + (f" at {time}" if time else "")
    return text
