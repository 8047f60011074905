"""Validation of a server's URL, its API key and timeouts, as users give them."""

from __future__ import annotations

import math
from urllib.parse import urlsplit

__all__ = ["API_KEY_VARIABLE", "read_urls", "require_key", "require_seconds", "require_url"]

API_KEY_VARIABLE = "EAGER_SGL_API_KEY"


def require_url(url: str) -> str:
    """A server's base URL without trailing slashes.

    Raises:
        ValueError: the URL has no scheme or no host, or has a query, a fragment or a /v1 path.
    """
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise ValueError(f"server URL is {url!r}; it must start with http:// or https://")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError as error:
        raise ValueError(f"server URL is {url!r}; {error}") from error
    if not host or any(character.isspace() for character in url):
        raise ValueError(
            f"server URL is {url!r}; it must name a host, as in http://localhost:30000"
        )
    if parts.query or parts.fragment:
        raise ValueError(f"server URL is {url!r}; it must end before the ? or #")
    if parts.path.rstrip("/").endswith("/v1"):
        raise ValueError(f"server URL is {url!r}; give the base URL without /v1")
    return url.rstrip("/")


def read_urls(option: str, text: str) -> tuple[str, ...]:
    """Base URLs of different servers, with commas between them.

    Raises:
        ValueError: `require_url` refuses a URL, or one is given twice.
    """
    urls = tuple(require_url(part.strip()) for part in text.split(","))
    if len(set(urls)) < len(urls):
        raise ValueError(f"{option} is {text}; each server may be given once")
    return urls


def require_key(api_key: str) -> str:
    """An API key that an HTTP header can carry; errors do not quote it.

    Raises:
        ValueError: the key is empty, not a string, or has other characters than printable ASCII.
    """
    if not isinstance(api_key, str) or not api_key:
        kind = "empty" if api_key == "" else f"a {type(api_key).__name__}"
        raise ValueError(f"the API key is {kind}; it must be a string of ASCII characters")
    for position, character in enumerate(api_key):
        if not "!" <= character <= "~":
            raise ValueError(
                f"character {position} of the API key is U+{ord(character):04X}; a key has "
                "ASCII characters only, and no spaces"
            )
    return api_key


def require_seconds(name: str, seconds: float) -> float:
    """A timeout in seconds.

    Args:
        name: of the argument, for the error.

    Raises:
        ValueError: the timeout is not a finite number above 0.
    """
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 < seconds < math.inf:
        raise ValueError(f"{name} is {seconds}; it must be a finite number of seconds above 0")
    return seconds
