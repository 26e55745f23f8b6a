"""Verifies credentials in the ways that TAILRACE_AUTH names."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from services.api.identity.api_keys import PREFIX, record_of
from services.api.identity.caller import Caller
from services.api.identity.key_file import KeyFile, KeyFileError
from services.api.identity.proxy_header import ProxyHeader
from services.api.identity.refusals import CredentialError
from services.api.identity.token_issuer import Issuer
from services.api.settings import Settings


class Verification:
    """What this process knows of credentials: the keys of the file, and the issuer of tokens. `proxy_header` has the
    callers that proxies name.
    """

    def __init__(self, settings: Settings) -> None:
        """Read what is read at the start.

        Raises:
            SystemExit: a setting lacks another, or its file cannot be read. The message names it.
        """
        self._keys = _key_file(settings) if "keys" in settings.auth else None
        self._issuer = Issuer(settings) if "jwt" in settings.auth else None
        self._provider = self._issuer.keys if self._issuer else None
        self.proxy_header: Final = ProxyHeader.of(settings) if "proxy" in settings.auth else None

    def verify(self, credential: str, digest: str) -> Caller:
        """Return the caller of this credential, whose digest this is.

        Raises:
            CredentialError: it is not valid.
        """
        if credential.startswith(PREFIX) and self._keys is not None:
            return record_of(self._keys.records, credential).caller(digest)
        if not credential.startswith(PREFIX) and self._issuer is not None:
            return self._issuer.tokens.caller_of(credential, digest)
        raise CredentialError("The credential is none of those that this API takes.")

    def background(self, changed: Callable[[], None]) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """Return what must run to keep it current, by name. It calls back when a credential may be valid no more."""
        running: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}
        if (keys := self._keys) is not None:
            running["api keys"] = lambda: keys.watch(changed)
        if (provider := self._provider) is not None:
            running["identity provider"] = lambda: provider.keep(changed)
        return running

    async def first(self) -> None:
        """Return when the background tasks know what they need, or within seconds."""
        if self._provider is not None:
            await self._provider.first()


def _key_file(settings: Settings) -> KeyFile:
    if settings.keys_file is None:
        raise SystemExit(
            "TAILRACE_KEYS_FILE is not set: with TAILRACE_AUTH=keys it should name the file of the API keys"
        )
    try:
        return KeyFile(settings.keys_file)
    except KeyFileError as error:
        raise SystemExit(
            f"TAILRACE_KEYS_FILE is {str(settings.keys_file)!r}: {error}. "
            "`python -m services.api.keys add --owner NAME` makes a key and the file"
        ) from None
