from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_app.errors import SmtpRefusal
from relay_app.mail.policy import SenderRules, judge_sender, prepare
from relay_app.mail.submission import Envelope
from relay_app.settings import ForeignFrom

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TRACE = b"Received: from x ([192.0.2.1])\r\n\tby y;\r\n\tFri, 02 Jan 2026 03:04:05 +0000\r\n"
DATED = b"Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <own@x.example>\r\n"
ENVELOPE = Envelope("box@ours.example", ("r@example.net",))

REFUSE = SenderRules("box@ours.example", ("alias@ours.example", "*@team.example"), ForeignFrom.REFUSE)
REWRITE = SenderRules(REFUSE.mailbox, REFUSE.senders, ForeignFrom.REWRITE)


def prepared(content, rules=REFUSE, envelope=ENVELOPE):
    return prepare(
        content, envelope=envelope, rules=rules, trace=TRACE, message_id="<new@relay.example>", now=NOW
    )


@pytest.mark.parametrize(
    "address",
    [
        "box@ours.example",
        "BOX@Ours.Example",
        '"box"@ours.example',
        "alias@ours.example",
        "anyone@team.example",
        "a.b+c@TEAM.example",
    ],
)
def test_permitted(address):
    assert REFUSE.permits(address)
    judge_sender(address, REFUSE)


@pytest.mark.parametrize(
    "address",
    [
        "other@ours.example",
        "box@ours.example.evil.example",
        "box@sub.ours.example",
        "box@xours.example",
        "x@sub.team.example",
        "x@team.example.evil.example",
        "x@evilteam.example",
        '"x@evil.example"@team.example',
        '"x"@team.example',
        "x%evil.example@team.example",
        "evil.example!x@team.example",
        "x@team.example>",
        "x@evil.example,y@team.example",
        "x@evil.example\0@team.example",
        " box@ours.example",
        "box@ours.example ",
        "bo\u212a@ours.example",
        "box@\u043eurs.example",  # a Cyrillic o
        "@team.example",
        "team.example",
        "*",
    ],
)
def test_foreign(address):
    assert not REFUSE.permits(address)
    with pytest.raises(SmtpRefusal) as refusal:
        judge_sender(address, REFUSE)
    assert str(refusal.value).startswith("550 5.7.1 This device may not send as <")
    assert "<box@ours.example>. Send as that address, or add" in str(refusal.value)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    "sender", ["*", "*@", "@team.example", "*@*", "*@*.example", "x*@team.example", "", "*@@"]
)
def test_odd_rules_permit_nothing(sender):
    rules = SenderRules("box@ours.example", (sender,), ForeignFrom.REFUSE)
    assert not rules.permits("x@team.example")
    assert not rules.permits("")
    assert rules.permits("box@ours.example")


def test_an_address_can_be_listed_that_a_domain_does_not_cover():
    rules = SenderRules("box@ours.example", ("A%b@ours.example", "*@Team.Example"), ForeignFrom.REFUSE)
    assert rules.permits("a%b@ours.example")
    assert rules.permits("x@team.example")


def test_the_null_sender_is_refused():
    with pytest.raises(SmtpRefusal, match=r"^550 5\.7\.1 The empty sender <> .* Send as <box@ours.example>"):
        judge_sender("", REFUSE)


def test_a_message_in_order_only_gets_our_trace_field():
    header = b"From: Box <box@ours.example>\r\nTo: A <a@b.example>\r\nX-Odd :\tx \r\n y\xff\r\n" + DATED
    content = bytearray(header + b"\r\nbody\r\n")
    message = prepared(content)
    assert message.header == TRACE + header
    assert message.repairs == ()
    assert message.body == b"\r\nbody\r\n"
    assert message.body.obj is content


def test_date_and_message_id_are_added():
    message = prepared(b"From: box@ours.example\r\n\r\nDate: in the body\r\n")
    assert message.header == (
        TRACE + b"From: box@ours.example\r\n"
        b"Date: Fri, 02 Jan 2026 03:04:05 +0000\r\nMessage-ID: <new@relay.example>\r\n"
    )
    assert message.repairs == ("date", "message-id")


def test_bcc_is_removed():
    message = prepared(
        b"bcc: a@b.example,\r\n c@d.example\r\nFrom: box@ours.example\r\nBCC : e@f.example\r\n"
        b"X-Bcc: stays\r\nResent-Bcc: g@h.example\r\n" + DATED
    )
    assert message.header == TRACE + b"From: box@ours.example\r\nX-Bcc: stays\r\n" + DATED
    assert message.repairs == ("bcc",)
    assert message.body == b""


@pytest.mark.parametrize("name", [b"To", b"Cc", b"Reply-To", b"Sender"])
def test_display_names_are_quoted(name):
    message = prepared(b"From: box@ours.example\r\n" + name + b": x @ y <alias@ours.example>\r\n" + DATED)
    assert (
        message.header
        == TRACE + b"From: box@ours.example\r\n" + name + b': "x @ y" <alias@ours.example>\r\n' + DATED
    )
    assert message.repairs == ("display-name",)


@pytest.mark.parametrize("rules", [REFUSE, REWRITE])
@pytest.mark.parametrize(
    "sender",
    [b"boss@other.example", b"Boss <boss@other.example>", b"box@ours.example, boss@other.example", b"<"],
)
def test_a_foreign_sender_field_is_removed(sender, rules):
    message = prepared(b"Sender: " + sender + b"\r\nFrom: box@ours.example\r\n" + DATED, rules)
    assert message.header == TRACE + b"From: box@ours.example\r\n" + DATED
    assert message.repairs == ("sender",)


def test_display_names_elsewhere_are_not():
    header = b"From: box@ours.example\r\nSubject: x @ y <a@b.example>\r\n" + DATED
    assert prepared(header).header == TRACE + header


@pytest.mark.parametrize(
    ("field", "written"),
    [
        (
            b"From: Scanner @ Office <box@ours.example>\r\n",
            b'From: "Scanner @ Office" <box@ours.example>\r\n',
        ),
        (b"FROM : box@ours.example (Cron)\r\n", b'From: "Cron" <box@ours.example>\r\n'),
    ],
)
@pytest.mark.parametrize("rules", [REFUSE, REWRITE])
def test_a_permitted_from_with_bad_syntax_is_written_anew(field, written, rules):
    message = prepared(field + DATED, rules)
    assert message.header == TRACE + written + DATED
    assert message.repairs == ("display-name",)


@pytest.mark.parametrize(
    "field",
    [
        b"From: box@ours.example\r\n",
        b"fRoM:BOX@ours.example\r\n",
        b"From : Box\r\n\t<box@ours.example>\r\n",
        b"From: box@ours.example, x@team.example\r\n",
        b'From: "evil@x.example" <alias@ours.example>\r\n',
        "From: Büro <box@ours.example>\r\n".encode(),
    ],
)
@pytest.mark.parametrize("rules", [REFUSE, REWRITE])
def test_a_permitted_from_stays_byte_for_byte(field, rules):
    message = prepared(field + DATED, rules)
    assert message.header == TRACE + field + DATED
    assert message.repairs == ()


def test_a_permitted_from_outside_ascii_needs_smtputf8():
    rules = SenderRules("jörg@ours.example", (), ForeignFrom.REFUSE)
    header = "From: jörg@ours.example\r\n".encode() + DATED
    utf8 = Envelope("jörg@ours.example", ("r@example.net",), smtputf8=True)
    assert prepared(header, rules, utf8).header == TRACE + header
    with pytest.raises(SmtpRefusal, match="has an address that is not valid"):
        prepared(header, rules)


FOREIGN = r"^550 5\.7\.1 The message says From: <evil@x\.example>, .* add the other address .*foreign_from = "


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"From: evil@x.example\r\n", FOREIGN),
        (b"From: Evil <evil@x.example>\r\n", FOREIGN),
        (b"From: box@ours.example, evil@x.example\r\n", FOREIGN),
        (b"From: box@ours.example <evil@x.example>\r\n", FOREIGN),
        (b"from :evil@x.example\r\n", FOREIGN),
        (b"", r"^550 5\.7\.1 The From: field of the message is missing, .*<box@ours\.example>, or set"),
        (b"To: a@b.example\r\n", "is missing"),
        (b"\r\nFrom: box@ours.example\r\n", "is missing"),
        (b"no field\r\nFrom: box@ours.example\r\n", "is missing"),
        (b" From: box@ours.example\r\n", "is missing"),
        (b"From: box@ours.example\r\nFROM : evil@x.example\r\n", "is there 2 times"),
        (b"From: evil@x.example\r\nFrom: box@ours.example\r\n", "is there 2 times"),
        (b"From: box@ours.example\r\nFrom: box@ours.example\r\nFrom:\r\n", "is there 3 times"),
        (b"From:\r\n", "is not of the form"),
        (b"From: Team: box@ours.example;\r\n", "is not of the form"),
        (b'From: "x <evil@x.example>" <box@ours.example>\r\n', "is not of the form"),
        (b"From: box@ours.example\r\n \r\n", "blank line"),
    ],
)
def test_a_from_that_may_not_be_is_refused(header, reason):
    with pytest.raises(SmtpRefusal, match=reason):
        prepared(header)


@pytest.mark.parametrize(
    ("header", "written"),
    [
        (
            b"From: Evil <evil@x.example>\r\nX: y\r\n",
            b'From: "Evil" <box@ours.example>\r\nX: y\r\nReply-To: "Evil" <evil@x.example>\r\n',
        ),
        (
            b"From: evil@x.example\r\n",
            b"From: box@ours.example\r\nReply-To: evil@x.example\r\n",
        ),
        (
            b"From: A <alias@ours.example>, E <evil@x.example>\r\n",
            b'From: "A" <box@ours.example>\r\n'
            b'Reply-To: "A" <alias@ours.example>,\r\n "E" <evil@x.example>\r\n',
        ),
        (
            b"From: Evil <evil@x.example>\r\nreply-to: z@z.example\r\n",
            b'From: "Evil" <box@ours.example>\r\nreply-to: z@z.example\r\n',
        ),
        (
            b"From: =?utf-8?q?B=C3=BCro?= <evil@x.example>\r\n",
            b"From: =?utf-8?b?QsO8cm8=?= <box@ours.example>\r\n"
            b"Reply-To: =?utf-8?b?QsO8cm8=?= <evil@x.example>\r\n",
        ),
        (
            b"X: 1\r\nFrom: A <box@ours.example>\r\nX: 2\r\nFrom: evil@x.example\r\nX: 3\r\n",
            b'X: 1\r\nFrom: "A" <box@ours.example>\r\nX: 2\r\nX: 3\r\nReply-To: "A" <box@ours.example>\r\n',
        ),
        (b"From: nobody\r\nX: y\r\n", b"From: box@ours.example\r\nX: y\r\n"),
        (b"X: y\r\n", b"X: y\r\nFrom: box@ours.example\r\n"),
        (b"", b"From: box@ours.example\r\n"),
    ],
)
def test_a_from_that_may_not_be_is_rewritten(header, written):
    message = prepared(DATED + header, REWRITE)
    assert message.header == TRACE + DATED + written
    assert message.repairs == ("from",)


def test_an_empty_message_gets_what_it_lacks():
    message = prepared(b"", REWRITE)
    assert message.header == (
        TRACE + b"From: box@ours.example\r\n"
        b"Date: Fri, 02 Jan 2026 03:04:05 +0000\r\nMessage-ID: <new@relay.example>\r\n"
    )
    assert message.body == b""
    assert message.repairs == ("from", "date", "message-id")


def test_a_repair_is_reported_once():
    message = prepared(b"From: x @ y <box@ours.example>\r\nTo: x@y <a@b.example>\r\nBcc: a\r\nBcc: b\r\n")
    assert message.repairs == ("display-name", "bcc", "date", "message-id")


TOUCHED = ("from", "to", "cc", "bcc", "resent-bcc", "reply-to", "sender", "date", "message-id")
NAMES = st.from_regex(rb"[!-9;-~]{1,12}", fullmatch=True).filter(lambda n: n.lower().decode() not in TOUCHED)
TEXTS = st.binary(max_size=30).map(lambda line: line.translate(None, b"\r\n\0"))
FIELDS = st.lists(
    st.builds(
        lambda name, blank, lines: name + blank + b":" + b"\r\n ".join(lines) + b"\r\n",
        NAMES,
        st.sampled_from([b"", b" ", b"\t"]),
        st.lists(TEXTS, min_size=1, max_size=3),
    )
)


@given(FIELDS, FIELDS, st.binary(max_size=100), st.sampled_from([REFUSE, REWRITE]))
def test_other_fields_and_the_body_arrive_unchanged(before, after, body, rules):
    above, below = b"".join(before), b"".join(after)
    field = b"From: Box <box@ours.example>\r\n"
    message = prepared(above + field + below + DATED + b"\r\n" + body, rules)
    assert message.header == TRACE + above + field + below + DATED
    assert message.body == b"\r\n" + body
    assert message.repairs == ()


@given(
    st.lists(
        st.sampled_from(
            [
                b"From: box@ours.example",
                b"From: evil@x.example",
                b"FROM :",
                b" evil@x.example",
                b"\t",
                b"",
                b"no field",
                b'From: "',
                b'" <box@ours.example>',
                b" , evil@x.example",
                b"(",
                b" )",
            ]
        ),
        max_size=6,
    )
)
def test_no_arrangement_lets_a_foreign_author_through(lines):
    content = b"".join(line + b"\r\n" for line in lines)
    try:
        strict = prepared(content).header
    except SmtpRefusal as refusal:
        assert refusal.enhanced == "5.7.1"  # noqa: PT017 - either outcome is right
        strict = b""
    assert b"evil@" not in strict
    header, _, reply_to = prepared(content, REWRITE).header.partition(b"Reply-To:")
    assert b"evil@" not in header
    assert b"From: " not in reply_to
