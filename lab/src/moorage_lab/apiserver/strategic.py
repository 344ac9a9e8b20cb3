"""Strategic merge patch: JSON merge patch with lists merged by key (apimachinery's `strategicpatch`)."""

from typing import Any

from moorage_lab.apiserver.objects import Obj
from moorage_lab.apiserver.schema import Fields, Rules
from moorage_lab.apiserver.status import bad_request

_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"


def strategic_merge(rules: Rules, target: Obj, patch: Any) -> Obj:
    """`target` with `patch` merged in; neither is changed. Raises StatusError 400 for a malformed patch."""
    if not isinstance(patch, dict):
        raise bad_request("a strategic merge patch is an object")
    return _merge_map(rules, target, patch, ())


def _merge_map(rules: Rules, target: Obj, patch: Obj, fields: Fields) -> Obj:
    match patch.get("$patch"):
        case "replace":
            return {key: value for key, value in patch.items() if key != "$patch"}
        case "delete":
            return {}
        case None | "merge":
            pass
        case other:
            raise bad_request(f"unknown patch type found: {other}")
    retained = patch.get("$retainKeys")
    result = {key: value for key, value in target.items() if retained is None or key in retained}
    for key, value in patch.items():
        if key.startswith(_DELETE):
            name = key.removeprefix(_DELETE)
            result[name] = [item for item in result.get(name) or [] if item not in value]
        elif key.startswith("$"):
            continue
        elif value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            current = result.get(key)
            result[key] = _merge_map(rules, current if isinstance(current, dict) else {}, value, (*fields, key))
        elif isinstance(value, list):
            current = result.get(key)
            result[key] = _merge_list(rules, current if isinstance(current, list) else [], value, (*fields, key))
        else:
            result[key] = value
    for key, order in patch.items():
        name = key.removeprefix(_ORDER)
        if name != key and isinstance(result.get(name), list):
            result[name] = _reorder(rules, result[name], order, (*fields, name))
    return result


def _merge_list(rules: Rules, target: list[Any], patch: list[Any], fields: Fields) -> list[Any]:
    rule = rules.get(fields)
    if rule is not None and rule.set:
        return target + [item for item in patch if item not in target]
    if rule is None or not rule.merge_key:
        return patch
    key = rule.merge_key
    if any(not isinstance(item, dict) for item in patch):
        raise bad_request(f"{'.'.join(fields)}: items of this list are objects")
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    result = list(target)
    for item in patch:
        if key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        places = [place for place, have in enumerate(result) if have.get(key) == item[key]]
        if item.get("$patch") == "delete":
            result = [have for have in result if have.get(key) != item[key]]
        elif places:
            result[places[0]] = _merge_map(rules, result[places[0]], item, fields)
        else:
            result.append(_merge_map(rules, {}, item, fields))
    return result


def _reorder(rules: Rules, items: list[Any], order: list[Any], fields: Fields) -> list[Any]:
    """Puts the items that `order` names into that order, within the places that they occupy together."""
    rule = rules.get(fields)
    key = rule.merge_key if rule else ""

    def rank(item: Any) -> int | None:
        value = item.get(key) if isinstance(item, dict) else item
        for place, wanted in enumerate(order):
            if (wanted.get(key) if isinstance(wanted, dict) else wanted) == value:
                return place
        return None

    named = sorted((place, index) for index, item in enumerate(items) if (place := rank(item)) is not None)
    taken = iter([items[index] for _, index in named])
    return [item if rank(item) is None else next(taken) for item in items]
