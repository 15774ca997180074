"""Label selectors."""

import pytest

from portway.objects.meta import LabelSelector, LabelSelectorRequirement, SelectorOperator

LABELS = {"app": "cart", "tier": ""}


def selector(*requirements: tuple[str, str, tuple[str, ...]], **labels: str) -> LabelSelector:
    return LabelSelector(
        match_labels=labels,
        match_expressions=tuple(
            LabelSelectorRequirement(key=key, operator=SelectorOperator(operator), values=values)
            for key, operator, values in requirements
        ),
    )


CASES = {
    "nothing asked": (selector(), True),
    "a label": (selector(app="cart"), True),
    "another value": (selector(app="pay"), False),
    "an empty value": (selector(tier=""), True),
    "an empty value is not a missing label": (selector(zone=""), False),
    "in": (selector(("app", "In", ("pay", "cart"))), True),
    "not in any": (selector(("app", "In", ("pay",))), False),
    "in, label missing": (selector(("zone", "In", ("a",))), False),
    "not in": (selector(("app", "NotIn", ("pay",))), True),
    "but in": (selector(("app", "NotIn", ("cart",))), False),
    "not in, label missing": (selector(("zone", "NotIn", ("a",))), True),
    "exists": (selector(("tier", "Exists", ())), True),
    "does not exist": (selector(("zone", "Exists", ())), False),
    "must not exist": (selector(("zone", "DoesNotExist", ())), True),
    "exists nevertheless": (selector(("tier", "DoesNotExist", ())), False),
    "all must hold": (selector(("app", "Exists", ()), app="pay"), False),
    # What makes no sense matches nothing
    "in nothing": (selector(("app", "In", ())), False),
    "not in nothing": (selector(("app", "NotIn", ())), False),
    "exists with a value": (selector(("app", "Exists", ("cart",))), False),
}


@pytest.mark.parametrize("name", CASES)
def test_matches(name: str) -> None:
    found, expected = CASES[name]
    assert found.matches(LABELS) is expected
