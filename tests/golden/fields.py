"""Whether the field that a verdict names is one of its object."""

import re

from portway.objects.fields import fields_of
from portway.objects.meta import Part

_STEP = re.compile(r'\.?([A-Za-z]\w*)|\[(\d+)\]|\["([^"]+)"\]')


def is_field(path: str, found: object) -> bool:
    """Whether a path (`spec.rules[0].host`) leads through an object, to a value or to an absent field.

    Args:
        path: as kubectl writes it; empty: the object itself.
        found: the object, with defaults.
    """
    position = 0
    while position < len(path):
        step = _STEP.match(path, position)
        if step is None:
            return False
        position = step.end()
        name, index, key = step.groups()
        if index is not None:
            if not isinstance(found, tuple) or int(index) >= len(found):
                return False
            found = found[int(index)]
        elif isinstance(found, dict):
            if (name or key) not in found:
                return False
            found = found[name or key]
        elif isinstance(found, Part):
            attributes = {field.encode_name: field.name for field in fields_of(type(found))}
            if name not in attributes:
                return False
            found = getattr(found, attributes[name])
        else:
            return False
    return True
