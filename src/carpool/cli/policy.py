"""`carpool policy`: show and change how a model on a server forms its batches."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import click

from carpool.cli.certificates import ca_option, trusting
from carpool.cli.options import json_option
from carpool.errors import ConfigError, ConnectionFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from carpool.cli.output import Output

_TIMEOUT_S = 30.0
_REFUSED = frozenset({400, 403})


@click.command(
    epilog="Example: carpool policy http://127.0.0.1:8000 null max_batch_size=64 max_wait=2ms --share 0.1 --watch 60s"
)
@click.argument("url")
@click.argument("model")
@click.argument("changes", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--share", type=float, help="Try it for this share of the time, 0.01 to 0.5.  [default: 1, at once]")
@click.option("--watch", help="How long to try it, such as 60s.  [default: 60s]")
@click.option("--to", "version", type=int, help="Put an earlier version in force again, instead of KEY=VALUE.")
@click.option(
    "--api-key",
    envvar="CARPOOL_API_KEY",
    help="A key that the server knows, marked `control` to change.  [default: CARPOOL_API_KEY]",
)
@ca_option
@json_option
def policy(url: str, model: str, changes: Sequence[str], output: Output, **given: Any) -> int:
    """Show how MODEL on the server at URL forms its batches, or change it while it serves.

    KEY is a key of [policy] in carpool.toml, such as max_batch_size, max_wait or max_queue. A server lets its policies
    be changed only where it was started with --control. Nothing that waits is dropped. With --share, the new policy
    takes turns with the one in force and rolls itself back where it is worse.
    Exits 0 when shown or changed, 1 when the server could not be asked, 2 when it refused the change.
    """
    document = _document(changes, given)
    answer = _ask(_address(url, model), document, given["api_key"], given["ca"])
    if output.json:
        output.result(answer)
    else:
        _show(output, answer)
    return 0


def _document(changes: Sequence[str], given: dict[str, Any]) -> dict[str, Any] | None:
    """Return what to ask for; None where nothing is to change."""
    keys = dict(_pair(change) for change in changes)
    document = {
        "policy": keys or None, "version": given["version"], "share": given["share"], "watch": given["watch"]
    }  # fmt: skip
    asked = {name: value for name, value in document.items() if value is not None}
    if asked and not keys and given["version"] is None:
        raise ConfigError("nothing is to change: name a key and its value, such as max_batch_size=64")
    return asked or None


def _pair(change: str) -> tuple[str, Any]:
    key, sign, text = change.partition("=")
    if not sign or not key or not text:
        raise ConfigError(f"{change!r} changes nothing: write KEY=VALUE, such as max_batch_size=64")
    try:
        value = json.loads(f"[{text}]")
    except ValueError:  # a duration or a size
        return key, text
    return key, value if len(value) > 1 else value[0]


def _address(url: str, model: str) -> str:
    try:
        parts = urlsplit(url)
        named = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket that is left open, or a port that there is not
        named = False
    if not named:
        raise ConfigError(f"{url!r} is no URL of a server: write one such as http://127.0.0.1:8000")
    return f"{url.rstrip('/')}/v2/models/{quote(model, safe='')}/policy"


def _ask(address: str, document: dict[str, Any] | None, api_key: str | None, ca: Path | None) -> dict[str, Any]:
    body = None if document is None else json.dumps(document).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
    method = "GET" if body is None else "PATCH"
    request = urllib.request.Request(address, data=body, headers=headers, method=method)  # noqa: S310 - http(s), checked
    trusted = None if ca is None else trusting(ca)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=trusted) as response:  # noqa: S310
            answer: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as error:
        said = _said(error)
        raise (ConfigError if error.code in _REFUSED else ConnectionFailed)(f"{address} answered {said}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise ConnectionFailed(
                f"{address} has a certificate that is not trusted ({reason.verify_message}): give the one that "
                "vouches for it, in PEM, by --ca FILE"
            ) from None
        raise ConnectionFailed(f"{address} can't be asked: {error}; is the server there?") from None
    return answer


def _said(error: urllib.error.HTTPError) -> str:
    text = error.read().decode("utf-8", "replace")
    try:
        return f"{error.code}: {json.loads(text)['error']}"
    except (ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"


def _show(output: Output, answer: dict[str, Any]) -> None:
    in_force, on_trial = answer["in_force"], answer["on_trial"]
    output.say(f"{answer['model']}: version {in_force['number']} is in force: {in_force['result']}")
    for line in policy_lines(in_force["policy"], answer.get("token_cap")):
        output.say(line)
    if on_trial is not None:
        output.say(f"version {on_trial['number']} is {on_trial['result']}: {_changed(on_trial)}")
    for version in reversed(answer["history"]):
        who = f" by {version['who']}" if version["who"] else ""
        standing, result = version["standing"], version["result"]
        become = result if result.startswith(standing) else f"{standing}: {result}"
        output.say(f"version {version['number']}, {version['at']}{who}: {_changed(version)}; {become}")


def policy_lines(policy: dict[str, Any], token_cap: int | None) -> Iterator[str]:
    """Write a policy as a carpool.toml has it, and what is not set as comments.

    Args:
        policy: values by key.
        token_cap: most tokens in a batch that is formed by it, be it the model that says so; None for no limit.
    """
    from carpool.config.policy_keys import TENANTS
    from carpool.config.toml_text import to_toml

    keys = {key: value for key, value in policy.items() if key != TENANTS}
    for line in to_toml({"policy": keys}).splitlines():
        yield f"  {line}".rstrip()
    for key in (key for key, value in keys.items() if value is None):
        of_the_model = key == "token_budget" and token_cap is not None
        capped = f"batches are held to {token_cap} tokens, which the model is best run with"
        yield f"  # {key}: not set, {capped if of_the_model else 'no limit'}"
    if policy.get(TENANTS):
        yield from ("", *(f"  {line}" for line in to_toml({TENANTS: policy[TENANTS]}).splitlines()))


def _changed(version: dict[str, Any]) -> str:
    return ", ".join(f"{key}={json.dumps(value)}" for key, value in version["changes"].items()) or "a whole policy"
