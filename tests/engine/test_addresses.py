"""URLs, keys and timeouts as users give them."""

from __future__ import annotations

from typing import Any

import pytest

from eager_sgl.engine.transport import Transport


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:30000", "localhost:30000.*http://"),
        ("ftp://localhost", "http://"),
        ("http://", "name a host"),
        ("https://", "name a host"),
        ("http:///model", "name a host"),
        ("http://:30000", "name a host"),
        ("http://local host:30000", "name a host"),
        ("http://localhost:30000/v1", "without /v1"),
        ("http://localhost:30000/v1/", "without /v1"),
        ("https://host/prefix/v1", "without /v1"),
        ("http://a..b:1", "label"),
        (f"http://{'a' * 70}.org", "label"),
        ("http://localhost:port", "Port could not be cast"),
        ("http://localhost:99999", "out of range"),
        ("http://localhost:30000/?key=1", "before the"),
        ("http://[::1", "Invalid IPv6"),
        ("", "http://"),
        (None, "http://"),
    ],
)
def test_an_invalid_url_is_refused(url: str | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Transport(url)  # type: ignore[arg-type]
    if url is not None:
        with pytest.raises(ValueError, match=said):
            Transport("http://localhost", router=url)


@pytest.mark.parametrize("url", ["http://h:1/", "https://h/prefix", "http://[::1]:3/", "http://v1"])
def test_valid_urls_are_accepted(url: str) -> None:
    assert Transport(url).url == url.rstrip("/")


@pytest.mark.parametrize("key", ["schlüssel", "ключ", "a b", "a\n", "\x7f", "sk-…"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_quoted(key: str) -> None:
    with pytest.raises(ValueError, match=r"character \d of the API key is U\+") as caught:
        Transport("http://localhost", api_key=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("name", ["request_timeout", "silence_timeout"])
@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 0, 0.0, -1, "10", True, None])
def test_an_invalid_timeout_is_refused(name: str, seconds: Any) -> None:
    arguments: dict[str, Any] = {name: seconds}
    with pytest.raises(ValueError, match=f"{name} is {seconds}.*finite number of seconds above 0"):
        Transport("http://localhost", **arguments)
