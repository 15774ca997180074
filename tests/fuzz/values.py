"""Values to put into fields: some that make sense there, many that have meant trouble somewhere."""

from collections.abc import Mapping, Sequence

from tests.kit.certificates import Authority

NAMESPACES = ("shop", "pay")
_AUTHORITY = Authority()
_PAIR = _AUTHORITY.issue("shop.example", "*.shop.example", "tls.example")
_OTHER = _AUTHORITY.issue("other.example")
_EXPIRED = _AUTHORITY.issue_expired("shop.example")
_GOOD = _AUTHORITY.issue("secure.good.test", "gateway.test")
MATERIAL = {
    "GOOD_CERTIFICATE": _GOOD.certificate,
    "GOOD_KEY": _GOOD.key,
    "AUTHORITY": _AUTHORITY.certificate,
    "CERTIFICATE": _PAIR.certificate,
    "KEY": _PAIR.key,
}

NASTY = (
    *(
        "",
        " ",
        "a b",
        "\t",
        "\n",
        "a\r\nb: c",
        "\x00",
        "\x7f",
        "\x1b[31m",
        "é",
        "日本",
        "\u202e",
        "\U0001f600",
        "\ufeff",
    ),
    *("%", "%00", "%2F", "%(", "%REQ(x)%", "%%", "%START_TIME%", "%DOWNSTREAM_REMOTE_ADDRESS%", "$1", "$uri", "${a}"),
    *(
        "'",
        '"',
        "\\",
        "\\1",
        "\\0",
        "`",
        ";",
        "{",
        "}",
        "{}",
        "[",
        "]",
        "(",
        ")",
        "(?",
        "(?P<",
        "(?i)a",
        "*",
        "**",
        "+",
    ),
    *("?", "^", "$", "|", ".", "..", "/..", "/../", "//", "/./a", "/a?b", "/a#b", "/%zz", "/é", "/ ", "/*", "/{a}"),
    *(
        "a{1001}",
        "(a{1000}){1000}",
        "(.*)*",
        "[[:alpha:]]",
        "\\d+",
        "\\p{L}",
        "(?!a)",
        "(?=a)",
        "(a|b)+c{2,500}",
        "\\C",
    ),
    *("/" + "a" * 300, "x" * 1000, "x" * 5000, "/" + "(.*)" * 200, "a." * 120 + "a"),
    *("-1", "0", "1", "99999999999999999999", "1e9", "0x10", "1.5", "NaN", "true", "false", "True", "on", "null"),
    *("*.example", "*.*.example", "a.*.example", "*example", "example.", ".example", "xn--bcher-kva.example"),
    *("XN--A.example", "a_b.example", "-a.example", "10.0.0.1", "10.0.0.0/8", "10.0.0.1/8", "::1", "[::1]", "::/0"),
    *(
        "127.0.0.1:80",
        "localhost",
        "http://",
        "https://a b/",
        "https://a.example/%REQ(x)%",
        "//evil.example",
        "https://é",
    ),
    *("host", "Host", ":path", ":authority", ":status", "content-length", "transfer-encoding", "connection", "te"),
    *("x-envoy-original-path", "cookie", "set-cookie", "__Host-a", "a=b", "a; b", "a,b", "a, b,,c", "~^a[0-9]+$", "~("),
)
"""Text that has meant trouble somewhere: to regular expressions, format strings, header fields, host names, paths."""

FITTING: Mapping[str, Sequence[object]] = {
    "name": ("cart", "pay", "static", "named", "socket", "certificate", "authority", "http", "edge", "more", "gone"),
    "namespace": NAMESPACES,
    "secretName": ("certificate", "gone"),
    "sectionName": ("http", "https", "extra", "tcp", "udp", "tls", "terminate"),
    "gatewayClassName": ("portway", "foreign"),
    "ingressClassName": ("portway", "foreign"),
    "port": (80, 81, 82, 443, 53, 8080, 8081, 8443, 9000, 1, 65535),
    "number": (80, 81, 443, 0, 65536),
    "host": ("", "shop.example", "*.shop.example", "other.example", "www.shop.example", "*.example"),
    "hostname": ("shop.example", "*.shop.example", "*.example", "a.b.shop.example", "tls.example", "10.0.0.1"),
    "hosts": (["shop.example"], [], ["*.shop.example", "shop.example"]),
    "hostnames": ([], ["shop.example"], ["*.shop.example"], ["*.example", "a.example"]),
    "path": ("/", "/cart", "/cart/", "//", "/a/../b", "/%41", "/a;b", "/a(b)", "/caf%C3%A9", "/(.*)", "/[^/]+"),
    "value": ("/", "/cart", "/.*", "/(a|b)", "(", "a{2,1}", "/a(?=b)", "%", "a.*", "\\d"),
    "pathType": ("Exact", "Prefix", "ImplementationSpecific"),
    "type": (
        *("Exact", "PathPrefix", "RegularExpression", "HTTP", "IPAddress", "Hostname", "Cookie", "Header", "RingHash"),
        *("Maglev", "Random", "LeastRequest", "RoundRobin", "ClusterIP", "ExternalName", "Opaque", "kubernetes.io/tls"),
    ),
    "from": ("All", "Same", "Selector", "None"),
    "protocol": ("HTTP", "HTTPS", "TLS", "TCP", "UDP", "GRPC", "example.com/other"),
    "mode": ("Terminate", "Passthrough", "AllowValidOnly", "AllowInsecureFallback"),
    "kind": ("Service", "Backend", "Secret", "ConfigMap", "Gateway", "ListenerSet", "HTTPRoute", "Thing"),
    "group": ("", "portway.dev", "gateway.networking.k8s.io", "example.com"),
    "method": ("GET", "POST", "CONNECT", "OPTIONS", "TRACE"),
    "weight": (0, 1, 2, 1_000_000),
    "appProtocol": ("http", "https", "kubernetes.io/h2c", "kubernetes.io/ws", "kubernetes.io/wss", "redis"),
    "tls.crt": (_PAIR.certificate, _OTHER.certificate, _EXPIRED.certificate, "no PEM", ""),
    "tls.key": (_PAIR.key, _OTHER.key, "no PEM", ""),
    "ca.crt": (_AUTHORITY.certificate, _PAIR.certificate, "no PEM", ""),
    "addressType": ("IPv4", "IPv6", "FQDN"),
    "addresses": (["127.0.0.1"], ["10.0.0.1"], ["::1"], []),
    "allowOrigins": (["*"], ["https://a.example"], ["https://*.a.example"], ["http://a.example:81", "*"]),
    "allowMethods": (["*"], ["GET"], []),
    "allowHeaders": (["*"], ["x-a"], []),
    "replacePrefixMatch": ("/", "/new/", "", "/%41", "/new?x", "/n(1)", "\\1", "/new\\"),
    "replaceFullPath": ("/", "/new/", "", "/%41", "/new?x", "/n(1)", "\\1"),
}
"""Values that make sense in fields of that name; what makes none in this very place is left out with the change."""

DURATIONS = ("0s", "1ms", "10s", "1h30m", "99999h", "1s1ms")
NUMBERS = (-1, 0, 1, 2, 3, 100, 301, 399, 503, 599, 65_536, 2_147_483_647, 4_294_967_296)

REMOVED = "<removed>"
"""Instead of a value: the field, or item of a list, is taken out."""
