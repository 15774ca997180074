"""The manifests of `deploy/` are those that the code makes, fit one another, and name settings that exist."""

from ipaddress import ip_address, ip_network

from portway import __version__
from portway.identity.contract import AUTHORITY_SECRET, IDENTITY_PORT, REPLICA_PORT, XDS_PORT
from portway.settings import all_settings
from tests.deploy.manifests import containers, find, read
from tools import make_manifests

METADATA = (
    *("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192"),
    *("fe80::a9fe:a9fe", "fd00:ec2::254"),
)
"""Where clouds hand a machine its credentials."""


def test_generated_files_are_up_to_date() -> None:
    for path, text in make_manifests.files().items():
        assert path.read_text() == text, f"{path.name} is old: run `make manifests`"


def test_control_plane_is_given_settings_that_exist() -> None:
    settings = {setting.variable: setting for setting in all_settings()}
    flags = {f"--{setting.name}" for setting in settings.values()}
    for container in containers(read("base")):
        assert {one["name"] for one in container["env"]} <= settings.keys()
        assert {flag.partition("=")[0] for flag in container["args"][1:]} <= flags


def test_image_has_this_version_everywhere() -> None:
    (container,) = containers(read("base"))
    assert container["image"].rpartition(":")[2] == __version__


def test_ports_are_those_that_replicas_and_proxies_ask() -> None:
    (container,) = containers(read("base"))
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"xds": XDS_PORT, "identity": IDENTITY_PORT, "replicas": REPLICA_PORT, "admin": 9902}
    service = find(read("base"), "Service", "portway")
    assert {port["port"] for port in service["spec"]["ports"]} == {XDS_PORT, IDENTITY_PORT}


def test_it_can_be_asked_in_a_cluster_of_either_ip_family() -> None:
    (container,) = containers(read("base"))
    assert "--admin-address=[::]:9902" in container["args"]


def test_proxies_do_not_reach_the_admin_port() -> None:
    """They are in this namespace, too, and send requests where a tenant's Ingress says."""
    policy = find(read("components/network-policy"), "NetworkPolicy", "portway")
    (rule,) = [one for one in policy["spec"]["ingress"] if {"port": "admin"} in one["ports"]]
    assert all("namespaceSelector" in one and one["namespaceSelector"] for one in rule["from"])


def test_proxies_are_kept_from_what_machines_trust_their_own_address_with() -> None:
    policy = find(read("components/proxy-egress"), "NetworkPolicy", "portway-proxies")
    blocks = [to["ipBlock"] for rule in policy["spec"]["egress"] for to in rule["to"] if "ipBlock" in to]
    open_to_all = [one for one in blocks if one["cidr"].endswith("/0")]
    for address in METADATA:
        inside = [one for one in open_to_all if ip_address(address) in ip_network(one["cidr"])]
        assert len(inside) == 1
        assert any(ip_address(address) in ip_network(net) for net in inside[0]["except"]), address


def test_authorities_are_kept_in_the_secret_that_is_made() -> None:
    assert "data" not in find(read("base"), "Secret", AUTHORITY_SECRET)
