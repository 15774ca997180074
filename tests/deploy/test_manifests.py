"""The manifests of `deploy/` are those that the code makes, fit one another, and name settings that exist."""

from portway import __version__
from portway.identity.contract import AUTHORITY_SECRET, IDENTITY_PORT, REPLICA_PORT, XDS_PORT
from portway.settings import all_settings
from tests.deploy.manifests import containers, find, read
from tools import make_manifests


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


def test_authorities_are_kept_in_the_secret_that_is_made() -> None:
    assert "data" not in find(read("base"), "Secret", AUTHORITY_SECRET)
