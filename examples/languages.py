"""Which language a text is in: a model that is loaded once per worker process, and serves every task.

Needs a package, which the group `examples` brings: see docs/functions.md.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated

from lingua import Language, LanguageDetector, LanguageDetectorBuilder
from msgspec import Struct
from pydantic import Field

from plugins import function


@asynccontextmanager
async def lifespan() -> AsyncIterator[LanguageDetector]:
    """Load the models of a few languages into memory, which takes about a second; not with the first task."""
    languages = (Language.ENGLISH, Language.FRENCH, Language.GERMAN, Language.ITALIAN, Language.SPANISH)
    yield LanguageDetectorBuilder.from_languages(*languages).with_preloaded_language_models().build()


class Guess(Struct):
    """A language (ISO 639-1), and how likely it is, from 0 to 1."""

    language: str
    confidence: float


@function(timeout=600)
def languages(texts: Annotated[list[str], Field(min_length=1)], detector: LanguageDetector) -> Iterator[list[Guess]]:
    """Rank the languages that each text may be in.

    Args:
        texts: a sentence or more each.

    Yields:
        The languages for the next text, the likeliest first.
    """
    for text in texts:
        ranked = detector.compute_language_confidence_values(text)
        yield [Guess(each.language.iso_code_639_1.name.lower(), each.value) for each in ranked]
