import re
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay_app.errors import SmtpRefusal
from relay_app.mail.address import (
    is_address,
    normalised,
    parse_parameters,
    parse_path,
    same_address,
    shown,
)

LONG_LOCAL = "a" * 64
LONG_DOMAIN = ".".join(["d" * 61] * 3) + ".exa"  # 189 octets: with a local part of 64, 254 in all


@pytest.mark.parametrize(
    ("text", "address", "rest"),
    [
        ("<a@example.com>", "a@example.com", ""),
        (" \t<a@example.com> ", "a@example.com", ""),
        ("a@example.com", "a@example.com", ""),
        ("  a@example.com SIZE=1", "a@example.com", "SIZE=1"),
        ("<a@example.com>  SIZE=1 BODY=8BITMIME", "a@example.com", "SIZE=1 BODY=8BITMIME"),
        ("<>", "", ""),
        ("<> AUTH=<>", "", "AUTH=<>"),
        ("<@a.example,@b.example:c@example.com>", "c@example.com", ""),
        ('<"a b"@example.com>', '"a b"@example.com', ""),
        (r'<"a\"><b"@example.com>', r'"a\"><b"@example.com', ""),
        ('<""@example.com>', '""@example.com', ""),
        ("<a@[192.0.2.1]>", "a@[192.0.2.1]", ""),
        ("<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]", ""),
        ("<a@localhost>", "a@localhost", ""),
        ("<!#$%&'*+/=?^_`{|}~-.x@example.com>", "!#$%&'*+/=?^_`{|}~-.x@example.com", ""),
        (f"<{LONG_LOCAL}@{LONG_DOMAIN}>", f"{LONG_LOCAL}@{LONG_DOMAIN}", ""),
    ],
)
def test_paths_are_taken_apart(text, address, rest):
    assert parse_path(text, smtputf8=False) == (address, rest)


@pytest.mark.parametrize("address", ["jörg@example.com", "a@bücher.example", '"jörg x"@bücher.example'])
def test_addresses_outside_ascii_need_smtputf8(address):
    assert parse_path(f"<{address}>", smtputf8=True) == (address, "")
    with pytest.raises(SmtpRefusal, match=r"^553 5\.6\.7 .*SMTPUTF8"):
        parse_path(f"<{address}>", smtputf8=False)


@pytest.mark.parametrize(
    "text",
    [
        "<a@example.com",
        "a@example.com>",
        "<<a@example.com>>",
        "<a@example.com>SIZE=1",
        "<a@example.com>\tSIZE=1",
        "<a@example.com> RCPT\rTO",
        "<a@example.com>\r\nRCPT TO:<b@example.com>",
        "<a@example.com\n>",
        "<a@exam\0ple.com>",
        '<"a\0b"@example.com>',
        '<"a\r\nb"@example.com>',
        '<"a\\\r\nb"@example.com>',
        "<a@example.com\x7f>",
        "<a b@example.com>",
        "< a@example.com >",
        "<a@b@example.com>",
        "<a..b@example.com>",
        "<.a@example.com>",
        "<a.@example.com>",
        "<@example.com>",
        "<a@>",
        "<a@.example.com>",
        "<a@example..com>",
        "<a@example.com.>",
        "<a@-example.com>",
        "<a@example-.com>",
        "<a@exam_ple.com>",
        '<"a"b@example.com>',
        '<"a@example.com>',
        '<"a\\"@example.com>',
        "<a@[192.0.2.999]>",
        "<a@[192.0.2.01]>",
        "<a@[IPv6:::1::]>",
        "<a@[x:y]>",
        "<@a.example:>",
        "<@a.example>",
        f"<a@{'d' * 64}.example>",
    ],
)
@pytest.mark.parametrize("smtputf8", [False, True])
def test_malformed_paths_are_refused(text, smtputf8):
    with pytest.raises(SmtpRefusal, match=r"^5(01|53) 5\.1\.3 The recipient address <"):
        parse_path(text, smtputf8=smtputf8)
    with pytest.raises(SmtpRefusal, match=r"^5(01|53) 5\.1\.7 The sender address <"):
        parse_path(text, smtputf8=smtputf8, sender=True)


@pytest.mark.parametrize(
    "address",
    [
        "a\uff20evil.example@example.com",  # a fullwidth "@"
        "a@example\uff0ecom",  # a fullwidth full stop
        "a@\u212aelvin.example",  # the Kelvin sign
        "a@e\u0301.example",  # not composed
        "a\u200b@example.com",  # zero width
        "a\u202e@example.com",  # right-to-left override
        "a\u2028@example.com",
        "a\x85@example.com",
        "a\udc80@example.com",  # an octet that was not UTF-8
    ],
)
def test_unicode_that_would_change_or_hide_on_its_way_is_refused(address):
    with pytest.raises(SmtpRefusal, match=r"malformed"):
        parse_path(f"<{address}>", smtputf8=True)
    assert not is_address(address)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"501 5\.1\.3 The recipient address is missing"),
        ("  ", r"501 5\.1\.3 The recipient address is missing"),
        ("<postmaster>", r"553 5\.1\.3 The recipient address <postmaster> has no domain"),
        (f"<{LONG_LOCAL}a@example.com>", r"553 5\.1\.3 .* too long \(at most 64 octets before the @ and 254"),
        (f"<{LONG_LOCAL}@{LONG_DOMAIN}m>", r"553 5\.1\.3 .*\.\.\.> is malformed or too long"),
        ("<a@>", r"501 5\.1\.3 The recipient address <a@> is malformed\. Write it as"),
    ],
)
def test_refusals_say_what_is_wrong(text, reason):
    with pytest.raises(SmtpRefusal, match=reason):
        parse_path(text, smtputf8=False)


def test_octets_count_not_characters():
    with pytest.raises(SmtpRefusal, match="too long"):
        parse_path(f"<{'ö' * 33}@example.com>", smtputf8=True)
    assert parse_path(f"<{'ö' * 32}@example.com>", smtputf8=True)[0]


def outside_quotes(address):
    return re.sub(r'"(?:[^"\\]|\\.)*"', "", address)


PATHLIKE = st.text(alphabet=st.sampled_from('ab.@<>"\\ ,:[]-%!\r\n\0\tö1') | st.characters(), max_size=40)


@given(PATHLIKE | PATHLIKE.map(lambda text: f"<{text}@example.com>"), st.booleans())
@example('<"\\>"@example.com>', False)
def test_what_is_returned_cannot_leave_its_brackets(text, smtputf8):
    try:
        address, rest = parse_path(text, smtputf8=smtputf8)
    except SmtpRefusal as refusal:
        assert str(refusal).isprintable()  # noqa: PT017 - either outcome is right
        return
    assert not set("\r\n\0") & set(address + rest)
    assert not set("<> ") & set(outside_quotes(address))
    assert parse_path(f"<{address}>", smtputf8=smtputf8) == (address, "")
    assert address == "" or is_address(address)
    assert smtputf8 or address.isascii()


WORDS = st.text(alphabet=string.ascii_letters + string.digits + "!#$%&'*+/=?^_`{|}~-", min_size=1, max_size=8)
LABELS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,6}[A-Za-z0-9])?", fullmatch=True)


@given(st.lists(WORDS, min_size=1, max_size=4), st.lists(LABELS, min_size=1, max_size=4))
def test_ordinary_addresses_pass_unchanged(words, labels):
    address = f"{'.'.join(words)}@{'.'.join(labels)}"
    assert parse_path(f"<{address}> SIZE=1", smtputf8=False) == (address, "SIZE=1")


def test_parameters_are_taken_apart():
    assert parse_parameters("") == {}
    assert parse_parameters(" size=10  SMTPUTF8 AUTH=<> X-A=b<c>+3D") == {
        "SIZE": "10",
        "SMTPUTF8": None,
        "AUTH": "<>",
        "X-A": "b<c>+3D",
    }


@pytest.mark.parametrize(
    "rest", ["=1", "SIZE=", "-A=1", "A_B", "A=b=c", "A=ö", "A=\r", "A\n", "A=\0", "A\tB"]
)
def test_malformed_parameters_are_refused(rest):
    with pytest.raises(SmtpRefusal, match=r"^501 5\.5\.4 The parameter <.* is malformed") as refusal:
        parse_parameters(rest)
    assert str(refusal.value).isprintable()


def test_a_parameter_given_twice_is_refused():
    with pytest.raises(SmtpRefusal, match=r"^501 5\.5\.4 The parameter <SIZE> is given twice"):
        parse_parameters("SIZE=1 size=1")


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("User@Example.COM", "user@example.com", True),
        ('"user"@example.com', "user@example.com", True),
        (r'"us\er"@example.com', "user@example.com", True),
        ("user@example.com", "user@example.net", False),
        ("user@example.com", "user@sub.example.com", False),
        ("us.er@example.com", "user@example.com", False),
        ("\u212aim@example.com", "kim@example.com", False),  # str.lower() would make them the same
        ("a@stra\u00dfe.example", "a@strasse.example", False),  # str.casefold() would
        ("Ö@example.com", "ö@example.com", False),
        ('"', '"@', False),
    ],
)
def test_same_address(a, b, same):
    assert same_address(a, b) is same
    assert (normalised(a) == normalised(b)) is same


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a@example.com", "<a@example.com>"),
        ("<a@example.com>", "<a@example.com>"),
        ("a\r\n250 OK", "<a\\x0d\\x0a250 OK>"),
        ("ö\udc80", "<\\xf6\\udc80>"),
        ("a" * 100, f"<{'a' * 100}>"),
        ("a" * 101, f"<{'a' * 100}...>"),
    ],
)
def test_shown_is_safe_in_a_reply(text, quoted):
    assert shown(text) == quoted
