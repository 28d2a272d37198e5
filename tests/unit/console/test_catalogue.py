"""Everything that a person reads is translated: the console's own texts, and what other rooms say."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from relay_app.console import catalogue, words
from relay_app.console.application import create_app
from relay_app.console.security import Access
from relay_app.delivery.replies import TABLE
from relay_app.identity import aadsts

CONSOLE = Path(catalogue.__file__).parent
FILLED = {"mailbox": "me@outlook.com", "app": "0000-1111", "tenant": "contoso.example"}
SOURCES = [("**.py", "python"), ("templates/**.html", "jinja2")]


@pytest.fixture(scope="module")
def po() -> Catalog:
    with catalogue.PO_FILE.open("rb") as file:
        return read_po(file, locale="de", abort_invalid=True)


@pytest.fixture
def german(backend) -> Iterator[None]:
    app = create_app(backend, Access())
    with app.test_request_context("/", headers={"Accept-Language": "de"}):
        words.CATALOGUE.as_default()
        yield


def extracted() -> set[str | tuple[str, ...]]:
    options = {"**.html": {"newstyle_gettext": "true"}}
    found = extract_from_dir(CONSOLE, SOURCES, options_map=options)
    return {text for _file, _line, text, _comments, _context in found}


def test_each_text_of_the_console_is_in_the_catalogue(po: Catalog) -> None:
    texts = extracted()
    assert len(texts) > 250
    assert [text for text in texts if text not in po] == []


def test_no_message_is_untranslated_or_fuzzy(po: Catalog) -> None:
    for message in po:
        if message.id:
            translations = message.string if isinstance(message.string, tuple) else (message.string,)
            assert all(translations), message.id
            assert not message.fuzzy, message.id


def test_no_message_of_the_console_is_left_over(po: Catalog) -> None:
    """The console's come first in the file; those of other rooms follow."""
    texts = extracted()
    known = [message.id in texts for message in po if message.id]
    assert all(known[: known.index(False)])
    assert not any(known[known.index(False) :])
    assert po.obsolete == {}


def test_placeholders_are_kept(po: Catalog) -> None:
    for message in po:
        if message.id:
            ids = message.id if isinstance(message.id, tuple) else (message.id,)
            strings = message.string if isinstance(message.string, tuple) else (message.string,)
            wanted = {name for text in ids for name in re.findall(r"%\(\w+\)s|\{\w+\}", text)}
            for text in strings:
                assert set(re.findall(r"%\(\w+\)s|\{\w+\}", text)) == wanted, message.id


def relay_sentences() -> list[str]:
    """What the relay says of replies and of Microsoft's errors."""
    replies = [text for row in TABLE for text in (row.sentence, row.action)]
    errors = [text for words in (*aadsts._CODES.values(), *aadsts._SUBERRORS.values()) for text in words]
    return list(dict.fromkeys(replies + errors))


@pytest.mark.usefixtures("german")
def test_each_sentence_of_the_relay_is_translated_to_its_end() -> None:
    english_words = re.compile(r"\b(the|and|then|sign in|an administrator|with|or)\b", re.IGNORECASE)
    for text in relay_sentences():
        german = words.sentence(text.format_map(FILLED))
        assert german != text.format_map(FILLED), text
        assert not english_words.search(german), german
        for name, value in FILLED.items():
            assert (value in german) == (f"{{{name}}}" in text), text


@pytest.mark.usefixtures("german")
class TestSentences:
    def test_parts_can_be_sentences_of_their_own(self) -> None:
        text = "me@outlook.com: The client secret has expired."
        assert words.sentence(text) == "me@outlook.com: Der geheime Clientschlüssel ist abgelaufen."

    def test_a_recipient_that_is_refused(self) -> None:
        text = (
            "The recipient's address does not exist or is not valid. "
            "Outlook refused nobody@example.net; nobody got the message."
        )
        assert words.sentence(text) == (
            "Die Adresse des Empfängers gibt es nicht, oder sie ist ungültig. "
            "Outlook lehnte nobody@example.net ab; niemand hat die Nachricht bekommen."
        )

    @pytest.mark.parametrize("text", ["", "Something nobody has thought of.", "a: b", "{x} 100%"])
    def test_what_is_not_known_stays_as_it_is(self, text: str) -> None:
        assert words.sentence(text) == text


def test_the_same_placeholder_twice_means_the_same_text() -> None:
    pattern = catalogue._pattern("{user} is not {user}, but {other}.")
    assert pattern.fullmatch("a is not a, but b.")
    assert not pattern.fullmatch("a is not c, but b.")


def test_english_is_left_alone(backend) -> None:
    with create_app(backend, Access()).test_request_context("/", headers={"Accept-Language": "en"}):
        assert words.sentence("The client secret has expired.") == "The client secret has expired."


def test_outside_a_request_it_is_english() -> None:
    assert words.CATALOGUE.get_translations().gettext("Overview") == "Overview"
