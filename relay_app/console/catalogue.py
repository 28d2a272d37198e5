"""The German texts: the .po file, compiled in memory when the first German page is asked for.

The .po is the only form that is kept: there is no compiled file that could be out of date. Besides the
console's own texts it has the sentences of other rooms (why a message was refused, what an error of
Microsoft's means); they may have placeholders in braces, which `Catalogue.sentence` fills from the English.
"""

import re
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from babel.support import NullTranslations, Translations
from flask_babel import Domain, get_locale

PO_FILE = Path(__file__).parent / "translations" / "de.po"
LANGUAGES = ("en", "de")
"""The texts in the code are English; there is a .po for each of the others."""

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class Catalogue(Domain):  # type: ignore[misc]
    """What Flask-Babel translates with: `Catalogue().as_default()` at the start of a request."""

    def get_translations(self) -> NullTranslations:
        """The texts in the language of this request."""
        locale = get_locale()
        return german() if locale is not None and locale.language == "de" else _ENGLISH

    def sentence(self, text: str) -> str:
        """A sentence that another room has written, in the language of this request; as it is, if unknown."""
        if self.get_translations() is _ENGLISH:
            return text
        return _german_sentence(text)


_ENGLISH = NullTranslations()


@cache
def german() -> Translations:
    """Compile the .po file."""
    from babel.messages.mofile import write_mo  # needed for German pages only
    from babel.messages.pofile import read_po

    compiled = BytesIO()
    with PO_FILE.open("rb") as file:
        write_mo(compiled, read_po(file, locale="de"))
    compiled.seek(0)
    return Translations(compiled)


@cache
def _templates() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Patterns of the sentences with placeholders, the longest first, each with its German."""
    texts: dict[Any, str] = german()._catalog
    with_placeholders = (text for text in texts if isinstance(text, str) and _PLACEHOLDER.search(text))
    return tuple((_pattern(text), texts[text]) for text in sorted(with_placeholders, key=len, reverse=True))


def _pattern(template: str) -> re.Pattern[str]:
    """What matches a text made from this template, with a group for each placeholder."""
    parts = _PLACEHOLDER.split(template)  # text, name, text, name, ..., text
    seen: set[str] = set()
    pattern = ""
    for index, part in enumerate(parts):
        if index % 2 == 0:
            pattern += re.escape(part)
        elif part in seen:
            pattern += f"(?P={part})"
        else:
            seen.add(part)
            pattern += f"(?P<{part}>.+?)"
    return re.compile(pattern, re.DOTALL)


def _german_sentence(text: str) -> str:
    if not text:
        return text  # gettext's own translation of "" is the head of the file
    exact: str = german().gettext(text)
    if exact != text:
        return exact
    for pattern, translation in _templates():
        if match := pattern.fullmatch(text):
            # A part can be a sentence of its own.
            parts = {name: _german_sentence(part) for name, part in match.groupdict().items()}
            return translation.format_map(parts)
    return text
