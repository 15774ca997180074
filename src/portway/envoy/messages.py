"""What all builders of messages need: typed configurations, durations, sources of configuration, stable bytes."""

from datetime import timedelta

from envoy.config.core.v3 import base_pb2 as basev3
from envoy.config.core.v3 import config_source_pb2 as config_sourcev3
from envoy.config.core.v3 import extension_pb2 as extensionv3
from envoy.type.v3 import percent_pb2 as percentv3
from google.protobuf.any_pb2 import Any as TypedConfig
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from portway.model.route import Fraction

DENOMINATORS = {
    100: percentv3.FractionalPercent.HUNDRED,
    10_000: percentv3.FractionalPercent.TEN_THOUSAND,
    1_000_000: percentv3.FractionalPercent.MILLION,
}


def encode(message: Message) -> bytes:
    """The bytes of a message; equal messages give equal bytes, so that a version is a digest of content."""
    return message.SerializeToString(deterministic=True)


def typed(message: Message) -> TypedConfig:
    """The message as a typed configuration, with deterministic bytes."""
    packed = TypedConfig()
    packed.Pack(message, deterministic=True)
    return packed


def extension(name: str, message: Message) -> extensionv3.TypedExtensionConfig:
    return extensionv3.TypedExtensionConfig(name=name, typed_config=typed(message))


def duration(value: timedelta) -> Duration:
    made = Duration()
    made.FromTimedelta(value)
    return made


def from_ads() -> config_sourcev3.ConfigSource:
    """Over the one stream. Envoy waits 15 s for a first answer and then goes on without; that bound stays."""
    return config_sourcev3.ConfigSource(
        ads=config_sourcev3.AggregatedConfigSource(), resource_api_version=config_sourcev3.V3
    )


def fraction(share: Fraction) -> percentv3.FractionalPercent:
    return percentv3.FractionalPercent(numerator=share.numerator, denominator=DENOMINATORS[share.denominator])


def runtime_fraction(share: Fraction) -> basev3.RuntimeFractionalPercent:
    return basev3.RuntimeFractionalPercent(default_value=fraction(share))
