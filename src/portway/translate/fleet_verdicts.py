"""What is to be said, to the owner of a fleet, of what was seen of it."""

from portway.model.fleet import ObservedFleet
from portway.objects.verdict import ObjectKey, Severity, Verdict


def fleet_verdicts(key: ObjectKey, observed: ObservedFleet) -> tuple[Verdict, ...]:
    """
    Args:
        key: the Gateway or IngressClass.
    """
    found = []
    if observed.failed:
        found.append(
            Verdict(
                object=key,
                severity=Severity.ERROR,
                reason="FleetNotMade",
                problem=f"its proxies or their Service are not as they should be: {observed.failed}; "
                "what is there goes on serving",
                remedy="correct what is named there",
            )
        )
    if observed.waiting:
        found.append(
            Verdict(
                object=key,
                severity=Severity.INFO,
                reason="FleetToBeUpdated",
                problem="its proxies are to be of another version, or otherwise made; they are updated after those of "
                "other fleets, a few at a time, and go on serving until then",
                remedy="",
            )
        )
    return tuple(found)
