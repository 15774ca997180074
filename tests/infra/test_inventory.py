"""What is known of our own objects, and when it is enough to go on."""

from portway.infra.kubernetes.inventory import Inventory
from portway.infra.kubernetes.manifests import DEPLOYMENT, RESOURCES, SERVICE, Ref
from portway.infra.kubernetes.seen import Seen
from portway.model.fleet import FleetAddress

REF = Ref(SERVICE, "shop", "portway-web")


def service(version: int, *addresses: str, body: bytes = b"{}") -> Seen:
    return Seen(
        ref=REF,
        uid="1",
        version=version,
        fleet="gateway/shop/web",
        controller="ours",
        body=body,
        addresses=tuple(FleetAddress("IPAddress", address) for address in addresses),
    )


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


def test_an_answer_that_comes_after_newer_news_is_no_news() -> None:
    inventory = Inventory("ours")
    inventory.note(service(1))
    inventory.note(service(2))  # somebody has changed something that is nothing to us
    inventory.note(service(3, "192.0.2.1"))  # the load balancer was quicker than the answer to our own write
    inventory.wrote(service(2, body=b'{"spec":{}}'))
    assert inventory.of_fleet("gateway/shop/web")[REF] == service(3, "192.0.2.1")


def test_what_we_wrote_counts_until_it_is_heard_of() -> None:
    inventory = Inventory("ours")
    inventory.note(service(1))
    inventory.wrote(service(4, body=b'{"spec":{}}'))
    inventory.note(service(2, "192.0.2.1"))
    assert inventory.of_fleet("gateway/shop/web")[REF].version == 4
    inventory.note(service(5, "192.0.2.1", body=b'{"spec":{}}'))
    assert inventory.of_fleet("gateway/shop/web")[REF].addresses == (FleetAddress("IPAddress", "192.0.2.1"),)
