"""Label selectors as query parameters of list requests."""

from moorage.api.meta import LabelSelector

_OPERATORS = {"In": "in", "NotIn": "notin"}


def text(selector: LabelSelector) -> str | None:
    """`app=backend,tier in (a,b),!old`; None for a selector that matches everything.

    Nothing is checked here: an invalid selector gives invalid text, which the API server refuses.
    """
    parts = [f"{key}={value}" for key, value in sorted((selector.match_labels or {}).items())]
    for each in selector.match_expressions or ():
        match each.operator:
            case "Exists":
                parts.append(each.key)
            case "DoesNotExist":
                parts.append(f"!{each.key}")
            case operator:
                values = ",".join(sorted(each.values or ()))
                parts.append(f"{each.key} {_OPERATORS.get(operator, operator)} ({values})")
    return ",".join(parts) or None
