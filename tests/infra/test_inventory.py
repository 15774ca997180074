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
    assert (inventory.is_settled, inventory.is_listed) == (False, False)
    inventory.listed(SERVICE)
    assert (inventory.is_settled, inventory.is_listed) == (True, False)
    inventory.listed(DEPLOYMENT)
    assert (inventory.is_settled, inventory.is_listed) == (True, True)
