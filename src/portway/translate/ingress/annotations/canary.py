"""Annotations that make an Ingress the canary of another one."""

from typing import Final

from portway.translate.ingress.annotations import parsers
from portway.translate.ingress.annotations.entry import Annotation, Group, Remark, Risk

MIN_TOTAL: Final = 100
"""Smaller totals count as this."""


def _small_total(text: str) -> Remark | None:
    if int(text) >= MIN_TOTAL:
        return None
    return Remark(f"{text} is less than {MIN_TOTAL}, which is what counts", f"write {MIN_TOTAL} or more")


CANARY: Final = Annotation(
    name="canary",
    group=Group.CANARY,
    parse=parsers.boolean,
    default=False,
    form="true or false",
    example="true",
    text="Makes the Ingress a canary: it takes a share of the requests of the Ingress that has the same host, path and"
    " path type in the same namespace, and nothing else. Decided in this order: header, cookie, weight. One canary per"
    " path; the oldest counts. Of its other annotations only `load-balance`, `upstream-hash-by` and affinity have an"
    " effect.",
)
CANARY_BY_HEADER: Final = Annotation(
    name="canary-by-header",
    group=Group.CANARY,
    risk=Risk.MEDIUM,
    parse=parsers.token,
    default="",
    default_text="no header decides",
    form="a header name",
    example="X-Canary",
    text="`always` in this header means the canary, `never` the other; any other value decides nothing.",
)
CANARY_BY_HEADER_VALUE: Final = Annotation(
    name="canary-by-header-value",
    group=Group.CANARY,
    risk=Risk.MEDIUM,
    parse=parsers.text,
    default="",
    default_text="always and never",
    form="a text",
    example="beta",
    text="Value of the header that means the canary, instead of `always` and `never`.",
)
CANARY_BY_HEADER_PATTERN: Final = Annotation(
    name="canary-by-header-pattern",
    group=Group.CANARY,
    risk=Risk.MEDIUM,
    parse=parsers.text,
    default="",
    default_text="always and never",
    form="a regular expression (RE2)",
    example="^beta-[0-9]+$",
    text="Regular expression that the header's value must hold somewhere to mean the canary; ignored beside"
    " `canary-by-header-value`. One that does not compile: requests with the header do not go to the canary.",
)
CANARY_BY_COOKIE: Final = Annotation(
    name="canary-by-cookie",
    group=Group.CANARY,
    risk=Risk.MEDIUM,
    parse=parsers.token,
    default="",
    default_text="no cookie decides",
    form="a cookie name",
    example="canary",
    text="`always` in this cookie means the canary, `never` the other; any other value decides nothing.",
)
CANARY_WEIGHT: Final = Annotation(
    name="canary-weight",
    group=Group.CANARY,
    parse=parsers.integer(0),
    default=0,
    form="a whole number from 0",
    example="10",
    text="The canary's share of the requests that neither header nor cookie decides, out of `canary-weight-total`.",
)
CANARY_WEIGHT_TOTAL: Final = Annotation(
    name="canary-weight-total",
    group=Group.CANARY,
    parse=parsers.integer(0),
    remark=_small_total,
    default=100,
    form="a whole number",
    example="1000",
    text="What `canary-weight` is a share of; less than 100 means 100.",
)

TABLE: Final = (
    CANARY,
    CANARY_BY_HEADER,
    CANARY_BY_HEADER_VALUE,
    CANARY_BY_HEADER_PATTERN,
    CANARY_BY_COOKIE,
    CANARY_WEIGHT,
    CANARY_WEIGHT_TOTAL,
)
