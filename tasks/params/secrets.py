"""Keys and passwords have no place in ``params.yaml``: it is kept with every run and handed on."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from models.errors import UserError

#: What secrets look like, by where they come from.
_LOOKS = {
    "an address with a password": r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/@:]*:[^\s/@]+@",
    "an address with a key": (
        r"://\S*[?&](?:X-Amz-Signature|X-Goog-Signature|sig|(?:access_?)?token|api_?key|password)="
        r"[^&\s]{6}"
    ),
    "a token of the Hugging Face hub": r"\bhf_[A-Za-z0-9]{20,}",
    "a token of GitHub": r"\b(?:gh[oprsu]_[A-Za-z0-9]{20,}|github_pat_\w{20,})",
    "a token of GitLab": r"\bglpat-[\w-]{20,}",
    "a key of Amazon": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a key of Google": r"\bAIza[\w-]{35}",
    "a key of Prefect": r"\bpn[ub]_[A-Za-z0-9]{20,}",
    "a key of OpenAI or its like": r"\bsk-[\w-]{20,}",
    "a token of Slack": r"\bxox[a-z]-[\w-]{10,}",
    "a signed token": r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
}
_FOUND = {what: re.compile(look) for what, look in _LOOKS.items()}
#: Names of variables of the environment whose values are secrets.
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|AUTH_STRING|CREDENTIALS?)(?:_|$)"
)
_SHORTEST = 12  # shorter values of the environment may stand anywhere by chance


def check_secrets(raw: Mapping[Any, Any], file: str) -> None:
    """Raise at the first text that looks like a secret; the sentence names its place alone."""
    known = {
        value: f"the value of {name}"
        for name, value in os.environ.items()
        if len(value) >= _SHORTEST and _SECRET_NAME.search(name.upper())
    }
    for where, text in _texts(raw, ""):
        found = [what for what, look in _FOUND.items() if look.search(text)]
        found += [what for value, what in known.items() if value in text]
        if found:
            place = where if where else "a key"
            raise UserError(
                f"{file}: {place} holds {found[0]}; this file is kept with every run and shared: "
                "take it out, and give it in the environment or in .dvc/config.local"
            )


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Every text below a value with its place; a key's own place is that of the mapping."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield where, str(key)
            yield from _texts(part, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _texts(part, f"{where}[{number}]")
