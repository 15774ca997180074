"""When enough is known of our own objects to go on."""

from portway.infra.kubernetes.inventory import Inventory
from portway.infra.kubernetes.manifests import DEPLOYMENT, RESOURCES, SERVICE


def test_an_outage_is_waited_out_and_a_missing_right_is_not() -> None:
    inventory = Inventory("ours")
    for resource in RESOURCES:
        if resource not in (DEPLOYMENT, SERVICE):
            inventory.listed(resource)
    inventory.not_listed(SERVICE, "cannot be connected")
    inventory.not_listed(DEPLOYMENT, "deployments is forbidden", refused=True)
    assert not inventory.is_settled
    inventory.listed(SERVICE)
    assert inventory.is_settled
    assert not inventory.is_listed
    inventory.listed(DEPLOYMENT)
    assert inventory.is_listed
