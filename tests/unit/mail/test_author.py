import email.utils
from email.headerregistry import HeaderRegistry

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay_app.mail.author import Author, Reading, read_authors, write_authors


def read(value, smtputf8=False):
    return read_authors(value, smtputf8=smtputf8)


@pytest.mark.parametrize(
    ("value", "name", "address"),
    [
        (b" a@example.com\r\n", "", "a@example.com"),
        (b"a@example.com", "", "a@example.com"),
        (b" <a@example.com>\r\n", "", "a@example.com"),
        (b" Office Scanner <a@example.com>\r\n", "Office Scanner", "a@example.com"),
        (b" Office<a@example.com>\r\n", "Office", "a@example.com"),
        (b" Dr. A. <a@example.com> \t\r\n", "Dr. A.", "a@example.com"),
        (
            b' "Scanner @ Office, 2nd: floor" <a@example.com>\r\n',
            "Scanner @ Office, 2nd: floor",
            "a@example.com",
        ),
        (b' "a \\"b\\" \\\\" <a@example.com>\r\n', 'a "b" \\', "a@example.com"),
        (b' "" <a@example.com>\r\n', "", "a@example.com"),
        (b"\r\n Scanner\r\n\t<a@example.com>\r\n", "Scanner", "a@example.com"),
        (b"a\tb <a@example.com>", "a b", "a@example.com"),
        ("Büro <a@example.com>".encode(), "Büro", "a@example.com"),
        ('"Büro" <a@example.com>'.encode(), "Büro", "a@example.com"),
        ("担当\uff20会社 <a@example.com>".encode(), "担当\uff20会社", "a@example.com"),
        (b"=?utf-8?q?B=C3=BCro?= <a@example.com>", "Büro", "a@example.com"),
        (b'"=?utf-8?q?B=C3=BCro?=" <a@example.com>', "Büro", "a@example.com"),
        (b"what =? <a@example.com>", "what =?", "a@example.com"),
        (b"a@[192.0.2.1]", "", "a@[192.0.2.1]"),
        (b"a%b!c@example.com", "", "a%b!c@example.com"),
    ],
)
def test_plain_fields(value, name, address):
    assert read(value) == Reading((Author(name, address),), plain=True, doubt="")


@pytest.mark.parametrize(
    ("value", "name", "written"),
    [
        (b"Scanner @ Office <a@b.example>", "Scanner @ Office", b'"Scanner @ Office" <a@b.example>'),
        (b"evil@x.example <a@b.example>", "evil@x.example", b'"evil@x.example" <a@b.example>'),
        (b"Scanner (Office) <a@b.example>", "Scanner (Office)", b'"Scanner (Office)" <a@b.example>'),
        (b"[Scanner] <a@b.example>", "[Scanner]", b'"[Scanner]" <a@b.example>'),
        (b".x <a@b.example>", ".x", b'".x" <a@b.example>'),
        (b"(x <a@b.example>", "(x", b'"(x" <a@b.example>'),
        (b"a@b.example (Cron Daemon)", "Cron Daemon", b'"Cron Daemon" <a@b.example>'),
        (b"a@b.example ()", "", b"a@b.example"),
        (b"B\xfcro <a@b.example>", "Büro", b"=?utf-8?b?QsO8cm8=?= <a@b.example>"),
        (b'"B\xfcro" <a@b.example>', "Büro", b"=?utf-8?b?QsO8cm8=?= <a@b.example>"),
        (b"=?utf-8?q?a?= @ b <a@b.example>", "a @ b", b'"a @ b" <a@b.example>'),
    ],
)
def test_fields_to_be_written_anew(value, name, written):
    reading = read(value)
    assert reading == Reading((Author(name, "a@b.example"),), plain=False, doubt="")
    assert write_authors("From", reading.authors) == b"From: " + written + b"\r\n"


FORM, ADDRESS, NAME = "is not of the form", "has an address that is not valid", "angle brackets or control"


@pytest.mark.parametrize(
    ("value", "doubt"),
    [
        (b"", FORM),
        (b"\r\n", FORM),
        (b"nobody", FORM),
        (b"Team: a@b.example;", FORM),
        (b"undisclosed-recipients:;", FORM),
        (b"<>", FORM),
        (b"<@x.example:a@b.example>", FORM),
        (b"a@b.example <a@b.example> <evil@x.example>", FORM),
        (b"<a@b.example> <evil@x.example>", FORM),
        (b"<a@b.example>evil@x.example", FORM),
        (b"<a@b.example", FORM),
        (b"a@b.example>", FORM),
        (b"<<a@b.example>>", FORM),
        (b"< a@b.example >", FORM),
        (b"<a@b.exa\r\n mple>", FORM),
        (b"a @b.example", FORM),
        (b"a@b.example,", FORM),
        (b",a@b.example", FORM),
        (b"a@b.example; evil@x.example", FORM),
        (b"a@b@c.example", FORM),
        (b"a(evil@x.example)@b.example", FORM),
        (b"a@b.example (evil@x.example)", FORM),
        (b"a@b.example (a(b))", FORM),
        (b'"a" b <a@b.example>', FORM),
        (b'"a <evil@x.example>" <a@b.example>', FORM),
        (b'"a\\" <evil@x.example>, "<a@b.example>', FORM),
        (b'"a <a@b.example>', FORM),
        (b'"\\a" <a@b.example>', FORM),
        (b"a \\ <a@b.example>", FORM),
        (b'"a"@b.example', FORM),
        (b"<a@b.example\0>", FORM),
        (b"a@b..example", ADDRESS),
        (b"a@b_c.example", ADDRESS),
        (b"a@[x]", ADDRESS),
        (b"a@b.ex\xe4mple", ADDRESS),
        ("a@bücher.example".encode(), ADDRESS),
        (b"=?utf-8?q?evil=40x?=@b.example", ADDRESS),
        (b"a\0b <a@b.example>", NAME),
        (b"a\x1b$B <a@b.example>", NAME),
        (b"a\rb <a@b.example>", NAME),
        (b'"a\nb" <a@b.example>', NAME),
        ("a\u2028b <a@b.example>".encode(), NAME),
        ("a \uff1cevil@x\uff1e <a@b.example>".encode(), NAME),
        (b"=?utf-8?q?a=00?= <a@b.example>", NAME),
        (b"=?utf-8?q?a=0D=0ABcc=3A_x?= <a@b.example>", NAME),
        (b"=?utf-8?q?evil_=3Cevil=40x=3E?= <a@b.example>", NAME),
        (b'"=?utf-8?q?evil_=3Cevil=40x=3E?=" <a@b.example>', NAME),
        (b"=?utf-16-be?b?2AA=?= <a@b.example>", "cannot be decoded"),
        (b"=?utf-8?b?a?= <a@b.example>", "cannot be decoded"),
        (b"=?utf-8?q?=ff?= <a@b.example>", "cannot be decoded"),
        (b"=?x-none?q?a?= <a@b.example>", "cannot be decoded"),
        (b"x" * 257 + b" <a@b.example>", "name of more than 256"),
        (b"x" * 2001, "longer than 2000 octets"),
        (b"a\r\n \t\r\n <a@b.example>\r\n", "blank line"),
        (b"a@b.example\r\n \r\n", "blank line"),
    ],
)
def test_doubts(value, doubt):
    reading = read(value)
    assert reading.authors == ()
    assert not reading.plain
    assert doubt in reading.doubt


def test_addresses_outside_ascii_need_smtputf8():
    value = " Jörg <jörg@bücher.example>\r\n".encode()
    assert read(value, smtputf8=True) == Reading(
        (Author("Jörg", "jörg@bücher.example"),), plain=True, doubt=""
    )
    assert (
        write_authors("From", (Author("", "jörg@bücher.example"),))
        == "From: jörg@bücher.example\r\n".encode()
    )


def test_several_authors():
    value = b'A <a@b.example>, b@b.example ,\r\n "C, D" <c@b.example>\r\n'
    authors = (Author("A", "a@b.example"), Author("", "b@b.example"), Author("C, D", "c@b.example"))
    assert read(value) == Reading(authors, plain=True, doubt="")
    assert read(value.replace(b"A <", b"A@ <")).plain is False
    assert write_authors("Reply-To", authors) == (
        b'Reply-To: "A" <a@b.example>,\r\n b@b.example,\r\n "C, D" <c@b.example>\r\n'
    )


def test_written_names_are_quoted_or_encoded():
    assert write_authors("From", (Author('a "b" \\ c', "a@b.example"),)) == (
        b'From: "a \\"b\\" \\\\ c" <a@b.example>\r\n'
    )
    assert write_authors("From", (Author("=?utf-8?q?x?=", "a@b.example"),)).startswith(b"From: =?utf-8?")
    long = write_authors("From", (Author("ö" * 256, "a@b.example"),))
    assert all(len(line) <= 78 for line in long.split(b"\r\n"))
    assert read(long[5:]).authors == (Author("ö" * 256, "a@b.example"),)


WILD = st.text(st.sampled_from('ab.@ "\\(),:;<>[]=?_-\tö\r\n') | st.characters(codec="utf-8"), max_size=12)
TAME = st.text(st.sampled_from("ab.@ ()[]ö-_=?"), max_size=12) | st.sampled_from(
    ["=?utf-8?q?a=40b?=", "a, b"]
)
NAMES = TAME | WILD
ADDRESSES = st.sampled_from(
    ["good@ours.example", "evil@x.example", "a.b+c@ours.example", '"q"@x.example', "no"]
)
MAILBOXES = st.one_of(
    ADDRESSES,
    st.builds("{} <{}>".format, NAMES, ADDRESSES),
    st.builds('"{}" <{}>'.format, NAMES, ADDRESSES),
    st.builds("{} ({})".format, ADDRESSES, NAMES),
    NAMES,
)
ORDINARY = st.builds("{} <{}>".format, TAME, st.sampled_from(["good@ours.example", "evil@x.example"]))
VALUES = st.one_of(
    st.lists(ORDINARY, min_size=1, max_size=3).map(lambda parts: ",".join(parts).encode()),
    st.lists(MAILBOXES, min_size=1, max_size=3).map(lambda parts: ",".join(parts).encode()),
    st.binary(),
)


@given(VALUES)
@example(b"evil@x.example <good@ours.example>")
@example(b'"evil@x.example, \xc2" <good@ours.example>')
@example(b". <good@ours.example>")
@example(b"=?utf-8?q?a?==?utf-8?q?b?= <good@ours.example>")
def test_what_is_read_is_what_other_readers_read(value):
    """The grammar is contained in that of the standard library's parsers, of which one is lax, one strict."""
    reading = read(value)
    if reading.doubt:
        assert reading.authors == ()
        return
    addresses = [author.address for author in reading.authors]
    raw = value if reading.plain else write_authors("From", reading.authors)[5:]
    text = raw.replace(b"\r\n", b"").decode("utf-8").strip()
    parsed = HeaderRegistry()("From", text)
    assert [address.addr_spec for address in parsed.addresses] == addresses
    assert all(group.display_name is None for group in parsed.groups)
    assert [address for _, address in email.utils.getaddresses([text])] == addresses


@given(st.lists(st.tuples(NAMES, st.sampled_from(["a@b.example", "c.d@e.example"])), min_size=1, max_size=3))
def test_what_is_written_is_read_again(pairs):
    authors = tuple(
        author for name, address in pairs for author in read(f'"{name}" <{address}>'.encode()).authors
    )
    if authors:
        written = write_authors("From", authors)
        assert written.endswith(b"\r\n")
        reading = read(written[5:])
        assert [author.address for author in reading.authors] == [author.address for author in authors]
        assert reading.plain
