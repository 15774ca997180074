"""Paths as proxies make them before they look up a route.

Envoy's `normalize_path` is the path canonicalisation of Chromium's URL library: dot segments are resolved (RFC 3986
§5.2.4), a backslash is a slash, what need not be escaped is not, and what must be is. Doubled slashes stay.
"""

from string import ascii_letters, digits, hexdigits

_UNRESERVED = frozenset(ascii_letters + digits + "-._~")
_ESCAPED = frozenset([*map(chr, range(33)), *'"<>^`{|}', *map(chr, range(127, 256))])
"""Written as they are they do not belong into a path (the library's table)."""


def normalise_path(path: str) -> str | None:
    """A path, without query, as proxies match and forward it; `None`: they answer 400.

    Args:
        path: as sent; characters above 127 stand for bytes.
    """
    text = _canonical(path)
    return None if text is None else _without_dots(text)


def _canonical(path: str) -> str | None:
    found: list[str] = []
    position = 0
    broken = -1
    while position < len(path):
        character = path[position]
        code = path[position + 1 : position + 3]
        if character == "%" and _is_code(code):
            meant = chr(int(code, 16))
            if meant == "\0":
                return None
            position += 3
            if meant not in _UNRESERVED:
                found.append("%" + code)
                continue
            found.append(meant)
            text = "".join(found)
            if broken >= max(0, len(text) - 3) and _is_code((text[broken + 1 :] + path[position : position + 1])[:2]):
                # What was decoded makes an escape of a `%` that was none.
                found = [f"{text[:broken]}%25{text[broken + 1 :]}"]
                broken = -1
            continue
        position += 1
        if character == "%":
            broken = sum(map(len, found))
            found.append(character)
        elif character == "\\":
            found.append("/")
        else:
            found.append(f"%{ord(character):02X}" if character in _ESCAPED else character)
    return "".join(found)


def _is_code(text: str) -> bool:
    return len(text) == 2 and all(letter in hexdigits for letter in text)


def _without_dots(path: str) -> str:
    output: list[str] = []
    segments = path.split("/")
    for position, segment in enumerate(segments):
        last = position == len(segments) - 1
        if segment in ("..", "."):
            if segment == ".." and len(output) > 1:
                output.pop()
            if last:
                output.append("")
        else:
            output.append(segment)
    return "/".join(output) or "/"
