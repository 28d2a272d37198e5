"""The conversation with the upstream, byte by byte and without a socket."""

import base64
import itertools
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_app.delivery.conversation import (
    Broken,
    Closing,
    Conversation,
    Finished,
    Ready,
    Rejected,
    SendContent,
    SignIn,
    StartTls,
)
from relay_app.delivery.replies import Stage
from relay_app.delivery.verdict import Outcome
from relay_app.mail.reply import Reply
from relay_app.mail.submission import Envelope, Submission

PLAIN_EHLO = b"250-upstream\r\n250-SIZE 1000\r\n250 STARTTLS\r\n"
FULL_EHLO = (
    b"250-upstream\r\n250-SIZE 1000\r\n250-PIPELINING\r\n250-8bitmime\r\n250-SMTPUTF8\r\n250 AUTH XOAUTH2\r\n"
)
BARE_EHLO = b"250-upstream\r\n250 AUTH LOGIN XOAUTH2\r\n"


def mail(
    body: bytes | bytearray | memoryview = b"\r\nHello\r\n",
    *,
    header: bytes = b"Subject: hi\r\n",
    sender: str = "user@example.org",
    recipients: tuple[str, ...] = ("a@example.net",),
    body_8bit: bool = False,
    smtputf8: bool = False,
) -> Submission:
    envelope = Envelope(sender, recipients, body_8bit, smtputf8)
    when = datetime(2026, 1, 1, tzinfo=UTC)
    return Submission("id", "scanner", "user@example.org", envelope, header, body, "192.0.2.1", when)


def encrypted(ehlo: bytes = FULL_EHLO) -> Conversation:
    """A conversation up to the EHLO reply under TLS."""
    conversation = Conversation("relay.example.org")
    assert conversation.receive(b"220 hello\r\n") == []
    assert conversation.outgoing() == b"EHLO relay.example.org\r\n"
    assert conversation.receive(PLAIN_EHLO) == []
    assert conversation.outgoing() == b"STARTTLS\r\n"
    assert conversation.receive(b"220 go\r\n") == [StartTls()]
    assert conversation.outgoing() == b""
    conversation.tls_started()
    assert conversation.outgoing() == b"EHLO relay.example.org\r\n"
    assert conversation.receive(ehlo) == [SignIn()]
    return conversation


def signed_in(ehlo: bytes = FULL_EHLO) -> Conversation:
    conversation = encrypted(ehlo)
    conversation.sign_in("user", "token")
    conversation.outgoing()
    assert conversation.receive(b"235 2.7.0 ok\r\n") == [Ready()]
    assert conversation.usable
    return conversation


def begun(submission: Submission, ehlo: bytes = FULL_EHLO) -> tuple[Conversation, bytes]:
    conversation = signed_in(ehlo)
    assert conversation.begin(submission) == []
    return conversation, conversation.outgoing()


def verdict_of(events: list[object]):
    (finished,) = events
    assert isinstance(finished, Finished)
    return finished.verdict


def rejection_of(events: list[object]):
    (rejected,) = events
    assert isinstance(rejected, Rejected)
    return rejected


# --- setting up ------------------------------------------------------------------------------------------


def test_the_second_ehlo_replaces_what_the_first_offered():
    conversation = encrypted(BARE_EHLO)
    assert conversation.extensions == {"AUTH": "LOGIN XOAUTH2"}
    assert not conversation.usable


@pytest.mark.parametrize(
    "wire",
    [b"554 5.3.2 no\r\n", b"421 4.3.2 busy\r\n", b"220 hi\r\n502 what\r\n"],
    ids=["554", "421", "no EHLO"],
)
def test_a_server_that_turns_us_away_defers(wire):
    conversation = Conversation("relay")
    rejected = rejection_of(conversation.receive(wire))
    assert rejected.stage is Stage.CONNECT
    assert rejected.verdict.outcome is Outcome.DEFERRED
    assert conversation.receive(b"250 too late\r\n") == []
    assert not conversation.usable


def test_a_greeting_that_is_none():
    assert Conversation("relay").receive(b"250 hi\r\n") == [Broken("the server said 250 where 220 is due")]


def test_starttls_refused():
    conversation = Conversation("relay")
    rejected = rejection_of(conversation.receive(b"220 hi\r\n" + PLAIN_EHLO + b"454 4.7.0 not now\r\n"))
    assert rejected.verdict.reply == Reply(454, "4.7.0", "not now")


def test_without_starttls_nothing_more_is_said():
    conversation = Conversation("relay")
    rejected = rejection_of(conversation.receive(b"220 hi\r\n250-upstream\r\n250 AUTH XOAUTH2\r\n"))
    assert conversation.outgoing() == b"EHLO relay\r\n"
    assert rejected.verdict.key == "no-starttls"
    assert rejected.verdict.outcome is Outcome.DEFERRED


@pytest.mark.parametrize("injected", [b"250 injected\r\n", b"250-inj"])
@pytest.mark.parametrize("together", [True, False])
def test_plain_text_after_the_220_to_starttls_is_noticed(together, injected):
    conversation = Conversation("relay")
    conversation.receive(b"220 hi\r\n" + PLAIN_EHLO)
    if together:
        events = conversation.receive(b"220 go\r\n" + injected)
    else:
        assert conversation.receive(b"220 go\r\n") == [StartTls()]
        events = conversation.receive(injected)
    assert events == [Broken("the server sent plain text after it had agreed to STARTTLS")]


@pytest.mark.parametrize("ehlo", [b"250 upstream\r\n", b"250-upstream\r\n250 AUTH LOGIN PLAIN\r\n"])
def test_without_xoauth2_the_token_stays_here(ehlo):
    conversation = Conversation("relay")
    conversation.receive(b"220 hi\r\n" + PLAIN_EHLO + b"220 go\r\n")
    conversation.tls_started()
    rejected = rejection_of(conversation.receive(ehlo))
    assert (rejected.stage, rejected.verdict.key) == (Stage.AUTH, "no-xoauth2")


# --- AUTH ------------------------------------------------------------------------------------------------


def test_xoauth2_in_one_line():
    conversation = encrypted()
    conversation.sign_in("user@example.org", "a.b.c")
    command, mechanism, response = conversation.outgoing().split()
    assert (command, mechanism) == (b"AUTH", b"XOAUTH2")
    assert base64.b64decode(response) == b"user=user@example.org\x01auth=Bearer a.b.c\x01\x01"
    assert conversation.receive(b"235 2.7.0 Authentication successful\r\n") == [Ready()]


def test_a_token_that_is_too_long_for_a_command_line_waits_for_the_challenge():
    conversation = encrypted()
    conversation.sign_in("user@example.org", "t" * 1500)
    assert conversation.outgoing() == b"AUTH XOAUTH2\r\n"
    assert conversation.receive(b"334 \r\n") == []
    response = conversation.outgoing()
    assert base64.b64decode(response) == b"user=user@example.org\x01auth=Bearer " + b"t" * 1500 + b"\x01\x01"
    assert conversation.receive(b"235 2.7.0 Authentication successful\r\n") == [Ready()]


@pytest.mark.parametrize("length", [1, 300, 340, 360, 1500])
def test_no_command_line_is_longer_than_512_octets(length):
    conversation = encrypted()
    conversation.sign_in("user@example.org", "t" * length)
    assert len(conversation.outgoing()) <= 512


def test_an_auth_without_initial_response_can_be_refused_at_once():
    conversation = encrypted()
    conversation.sign_in("user", "t" * 1500)
    rejected = rejection_of(conversation.receive(b"535 5.7.139 Authentication unsuccessful\r\n"))
    assert rejected.stage is Stage.AUTH
    assert conversation.outgoing() == b"AUTH XOAUTH2\r\n"


@pytest.mark.parametrize("wire", [b"235 welcome\r\n", b"354 go\r\n"])
def test_nobody_is_signed_in_before_the_token_was_sent(wire):
    conversation = encrypted()
    conversation.sign_in("user", "t" * 1500)
    (broken,) = conversation.receive(wire)
    assert isinstance(broken, Broken)


def test_a_direct_535():
    conversation = encrypted()
    conversation.sign_in("user", "token")
    rejected = rejection_of(conversation.receive(b"535 5.7.3 Authentication unsuccessful [host]\r\n"))
    assert rejected.stage is Stage.AUTH
    assert rejected.verdict.key == "token-refused"
    assert rejected.verdict.reply == Reply(535, "5.7.3", "Authentication unsuccessful [host]")


@pytest.mark.parametrize(
    ("challenge", "reason"),
    [
        (json.dumps({"status": "401", "schemes": "bearer"}).encode(), "status 401, schemes bearer"),
        (b"[401]", "challenge [401]"),
        (b"{}", "challenge {}"),
        (b"\xff\xfe", "challenge //4="),
        (b"not json", "challenge bm90IGpzb24="),
    ],
)
def test_a_334_with_the_reason_then_an_empty_line_then_the_535(challenge, reason):
    conversation = encrypted()
    conversation.sign_in("user", "token")
    conversation.outgoing()
    assert conversation.receive(b"334 " + base64.b64encode(challenge) + b"\r\n") == []
    assert conversation.outgoing() == b"\r\n"
    rejected = rejection_of(conversation.receive(b"535 5.7.3 no\r\n"))
    assert rejected.verdict.reply == Reply(535, "5.7.3", f"no\n{reason}")


def test_a_334_that_is_not_base64():
    conversation = encrypted()
    conversation.sign_in("user", "token")
    conversation.receive(b"334 what?\r\n")
    assert rejection_of(conversation.receive(b"535 no\r\n")).verdict.reply.text == "no\nchallenge what?"


@pytest.mark.parametrize("wire", [b"334 e30=\r\n334 e30=\r\n", b"250 ok\r\n", b"354 go\r\n"])
def test_a_reply_that_makes_no_sense_to_auth(wire):
    conversation = encrypted()
    conversation.sign_in("user", "token")
    (broken,) = conversation.receive(wire)
    assert isinstance(broken, Broken)
    assert not conversation.usable


def test_a_token_that_is_repeated_to_us_goes_no_further():
    conversation = encrypted()
    conversation.sign_in("user", "t" * 2000)
    conversation.outgoing()
    conversation.receive(b"334 \r\n")
    repeated = conversation.outgoing()
    verdict = rejection_of(conversation.receive(b"500 5.5.1 what is " + repeated)).verdict
    assert verdict.reply.text == "what is [removed]"


# --- a transaction ---------------------------------------------------------------------------------------


def test_a_transaction_takes_two_flights_with_pipelining():
    conversation, flight = begun(mail(recipients=("a@example.net", "b@example.net")))
    assert flight == (
        b"MAIL FROM:<user@example.org> SIZE=22\r\n"
        b"RCPT TO:<a@example.net>\r\n"
        b"RCPT TO:<b@example.net>\r\n"
        b"DATA\r\n"
    )
    assert conversation.awaiting == "MAIL"
    assert conversation.receive(b"250 ok\r\n250 ok\r\n251 will forward\r\n354 go\r\n") == [SendContent()]
    assert conversation.awaiting == "the final dot"
    assert not conversation.content_sent
    assert conversation.end_content() == b".\r\n"
    assert conversation.content_sent
    verdict = verdict_of(conversation.receive(b"250 2.0.0 taken\r\n"))
    assert verdict.outcome is Outcome.ACCEPTED
    assert verdict.reply == Reply(250, "2.0.0", "taken")
    assert conversation.usable
    assert not conversation.content_sent
    assert conversation.awaiting == ""


def test_one_by_one_without_pipelining():
    conversation, flight = begun(mail(recipients=("a@x", "b@x")), BARE_EHLO)
    heard = [flight]
    for _ in range(3):
        assert conversation.receive(b"250 ok\r\n") == []
        heard.append(conversation.outgoing())
    assert heard == [
        b"MAIL FROM:<user@example.org>\r\n",
        b"RCPT TO:<a@x>\r\n",
        b"RCPT TO:<b@x>\r\n",
        b"DATA\r\n",
    ]
    assert conversation.receive(b"354 go\r\n") == [SendContent()]


def test_the_null_sender():
    _, flight = begun(mail(sender=""))
    assert flight.startswith(b"MAIL FROM:<> SIZE=22\r\n")


@pytest.mark.parametrize(
    ("submission", "parameters"),
    [
        (mail(b"\r\ngr\xc3\xbc\xc3\x9f\r\n"), b" SIZE=23 BODY=8BITMIME"),
        (mail(bytearray(b"\r\ngr\xc3\xbc\xc3\x9f\r\n")), b" SIZE=23 BODY=8BITMIME"),
        (mail(memoryview(b"\r\ngr\xc3\xbc\xc3\x9f\r\n")), b" SIZE=23 BODY=8BITMIME"),
        (mail(memoryview(b"\r\nplain\r\n")), b" SIZE=22"),
        (mail(b"", header=b"Subject: gr\xfc\xdf\r\n"), b" SIZE=15 BODY=8BITMIME"),
        (mail(body_8bit=True), b" SIZE=22 BODY=8BITMIME"),
        (mail(smtputf8=True), b" SIZE=22 SMTPUTF8"),
    ],
)
def test_parameters_of_mail(submission, parameters):
    _, flight = begun(submission)
    assert flight.startswith(b"MAIL FROM:<user@example.org>" + parameters + b"\r\n")


def test_an_address_outside_ascii():
    _, flight = begun(mail(recipients=("gr\u00fc\u00df@x",)))
    assert b" SMTPUTF8\r\nRCPT TO:<gr\xc3\xbc\xc3\x9f@x>\r\n" in flight


def test_what_the_server_does_not_offer_is_not_asked_for_if_the_message_can_do_without():
    _, flight = begun(mail(body_8bit=True, smtputf8=True), BARE_EHLO)
    assert flight == b"MAIL FROM:<user@example.org>\r\n"


@pytest.mark.parametrize(
    ("submission", "ehlo", "key", "code", "enhanced"),
    [
        (mail(b"\r\n\xe4\r\n"), BARE_EHLO, "no-8bitmime", 554, "5.6.3"),
        (mail(sender="\u00e4@x"), BARE_EHLO, "no-smtputf8", 553, "5.6.7"),
        (mail(b"x" * 1000), FULL_EHLO, "message-too-big", 552, "5.3.4"),
        (mail(recipients=("a@x>\r\nRCPT TO:<b@x",)), FULL_EHLO, "bad-address", 553, "5.1.3"),
        (mail(recipients=("a@x> NOTIFY=NEVER",)), FULL_EHLO, "bad-address", 553, "5.1.3"),
        (mail(sender="a\x00@x"), FULL_EHLO, "bad-address", 553, "5.1.3"),
        (mail(sender="\udcff@x"), FULL_EHLO, "bad-address", 553, "5.1.3"),
        (mail(sender='"a\nb"@x'), FULL_EHLO, "bad-address", 553, "5.1.3"),
    ],
)
def test_what_the_server_cannot_take_is_refused_here(submission, ehlo, key, code, enhanced):
    conversation = signed_in(ehlo)
    verdict = verdict_of(conversation.begin(submission))
    assert conversation.outgoing() == b""
    assert (verdict.key, verdict.reply.code, verdict.reply.enhanced) == (key, code, enhanced)
    assert verdict.outcome is Outcome.REFUSED
    assert not verdict.upstream
    assert conversation.usable


def test_a_quoted_local_part_may_hold_anything_printable():
    _, flight = begun(mail(recipients=(r'"a b>\" c"@x',)))
    assert rb'RCPT TO:<"a b>\" c"@x>' in flight


@pytest.mark.parametrize("size", [b"SIZE", b"SIZE 0", b"SIZE many"])
def test_a_size_without_a_limit_is_none(size):
    _, flight = begun(mail(b"x" * 5000), b"250-upstream\r\n250-" + size + b"\r\n250 AUTH XOAUTH2\r\n")
    assert flight.endswith(b" SIZE=5013\r\n")


def test_mail_refused_with_pipelining():
    conversation, _ = begun(mail())
    assert conversation.receive(b"550 5.7.60 no\r\n503 5.5.1 no MAIL\r\n") == []
    verdict = verdict_of(conversation.receive(b"503 5.5.1 no RCPT\r\n"))
    assert verdict.reply == Reply(550, "5.7.60", "no")
    assert verdict.recipients == {}
    conversation.begin(mail())
    assert conversation.outgoing().startswith(b"MAIL")


def test_mail_refused_without_pipelining():
    conversation, _ = begun(mail(), BARE_EHLO)
    assert verdict_of(conversation.receive(b"451 4.3.0 later\r\n")).outcome is Outcome.DEFERRED
    assert conversation.outgoing() == b""
    assert conversation.usable


def test_a_refused_recipient_means_no_content_for_anybody_and_a_reset_later():
    conversation, _ = begun(mail(recipients=("a@x", "b@x")), BARE_EHLO)
    conversation.receive(b"250 ok\r\n")
    conversation.receive(b"550 5.1.1 who\r\n")
    verdict = verdict_of(conversation.receive(b"250 ok\r\n"))
    assert verdict.outcome is Outcome.REFUSED
    assert verdict.recipients == {"a@x": Reply(550, "5.1.1", "who")}
    assert b"DATA" not in conversation.outgoing()
    assert conversation.usable
    conversation.begin(mail())
    assert conversation.outgoing() == b"RSET\r\n"
    assert conversation.receive(b"250 reset\r\n") == []
    assert conversation.outgoing() == b"MAIL FROM:<user@example.org>\r\n"


def test_a_reset_travels_with_the_next_transaction():
    conversation, _ = begun(mail())
    verdict = verdict_of(conversation.receive(b"250 ok\r\n450 4.2.1 later\r\n554 5.5.1 no recipients\r\n"))
    assert verdict.outcome is Outcome.DEFERRED
    assert verdict.recipients == {"a@example.net": Reply(450, "4.2.1", "later")}
    conversation.begin(mail())
    assert conversation.outgoing().startswith(b"RSET\r\nMAIL FROM:")
    events = conversation.receive(b"250 reset\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    assert events == [SendContent()]


def test_a_reset_that_fails_ends_the_session():
    conversation, _ = begun(mail())
    conversation.receive(b"250 ok\r\n450 4.2.1 later\r\n554 5.5.1 no recipients\r\n")
    conversation.begin(mail())
    assert conversation.receive(b"500 what\r\n250 ok\r\n") == [Closing(Reply(500, "", "what"))]


def test_a_354_in_spite_of_a_refused_recipient_ends_the_session():
    conversation, _ = begun(mail(recipients=("a@x", "b@x")))
    verdict = verdict_of(conversation.receive(b"250 ok\r\n250 ok\r\n550 5.1.1 who\r\n354 go\r\n"))
    assert verdict.outcome is Outcome.REFUSED
    assert list(verdict.recipients) == ["b@x"]
    assert not conversation.usable
    assert not conversation.content_sent


def test_data_refused():
    conversation, _ = begun(mail())
    verdict = verdict_of(conversation.receive(b"250 ok\r\n250 ok\r\n452 4.3.1 no room\r\n"))
    assert verdict.outcome is Outcome.DEFERRED
    assert conversation.usable


@pytest.mark.parametrize(
    "wire",
    [
        b"354 go\r\n",
        b"250 ok\r\n334 go\r\n",
        b"250 ok\r\n250 ok\r\n250 ok\r\n",
        b"250 ok\r\n250 ok\r\n354 go\r\n250 before the dot\r\n",
    ],
    ids=["MAIL", "RCPT", "DATA", "content"],
)
def test_a_positive_reply_that_makes_no_sense(wire):
    conversation, _ = begun(mail())
    assert isinstance(conversation.receive(wire)[-1], Broken)
    assert not conversation.usable


def test_a_3xx_to_the_final_dot_makes_no_sense():
    conversation, _ = begun(mail())
    conversation.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    conversation.end_content()
    (broken,) = conversation.receive(b"354 more\r\n")
    assert isinstance(broken, Broken)
    assert conversation.content_sent  # still nobody knows


@pytest.mark.parametrize(("code", "usable"), [(554, True), (432, True), (421, False)])
def test_refused_after_the_dot(code, usable):
    conversation, _ = begun(mail())
    conversation.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    conversation.end_content()
    verdict = verdict_of(conversation.receive(b"%d no\r\n" % code))
    assert verdict.reply.code == code
    assert conversation.usable is usable
    if usable:
        conversation.begin(mail())
        assert conversation.outgoing().startswith(b"MAIL")


def test_refused_in_the_middle_of_the_content():
    conversation, _ = begun(mail())
    conversation.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    verdict = verdict_of(conversation.receive(b"552 5.3.4 enough\r\n"))
    assert verdict.key == "message-too-big"
    assert not conversation.usable


@pytest.mark.parametrize(
    "before", [b"", b"250 ok\r\n", b"250 ok\r\n250 ok\r\n"], ids=["MAIL", "RCPT", "DATA"]
)
@pytest.mark.parametrize("code", [421, 530])
def test_the_session_ends_before_content(before, code):
    conversation, _ = begun(mail())
    reply = b"%d 4.3.2 bye\r\n" % code if code == 421 else b"530 5.7.57 who are you\r\n"
    (closing,) = conversation.receive(before + reply)
    assert isinstance(closing, Closing)
    assert closing.reply.code == code
    assert not conversation.usable


# --- between transactions --------------------------------------------------------------------------------


def test_noop():
    conversation = signed_in()
    conversation.noop()
    assert conversation.outgoing() == b"NOOP\r\n"
    assert not conversation.usable
    assert conversation.receive(b"250 here\r\n") == [Ready()]
    assert conversation.usable


@pytest.mark.parametrize("reply", [b"421 4.3.2 bye\r\n", b"500 what\r\n"])
def test_noop_refused(reply):
    conversation = signed_in()
    conversation.noop()
    assert isinstance(conversation.receive(reply)[0], Closing)
    assert not conversation.usable


def test_quit():
    conversation = signed_in()
    conversation.quit()
    assert conversation.outgoing() == b"QUIT\r\n"
    assert conversation.receive(b"221 2.0.0 bye\r\n") == [Closing(Reply(221, "2.0.0", "bye"))]
    assert not conversation.usable


def test_an_unasked_421():
    conversation = signed_in()
    assert conversation.receive(b"421 4.4.2 idle\r\n") == [Closing(Reply(421, "4.4.2", "idle"))]
    assert not conversation.usable


def test_anything_else_unasked():
    conversation = signed_in()
    assert conversation.receive(b"250 hello\r\n") == [Broken("the server said something unasked: 250")]


def test_a_reply_that_has_begun_makes_it_unusable():
    conversation = signed_in()
    assert conversation.receive(b"421 ") == []
    assert not conversation.usable


def test_no_command_out_of_turn():
    conversation = encrypted()
    for command in (conversation.noop, conversation.quit, lambda: conversation.begin(mail())):
        with pytest.raises(RuntimeError, match="not ready"):
            command()


# --- properties ------------------------------------------------------------------------------------------

# What the server says before each thing that the shell does: handshake, sign-in, begin, content.
TALK = (
    b"220 hi\r\n" + PLAIN_EHLO + b"220 go\r\n",
    FULL_EHLO,
    b"235 2.7.0 welcome\r\n",
    b"250-two\r\n250 lines\r\n250 2.1.5 ok\r\n251 ok\r\n354 go\r\n",
    b"554-5.2.252 SendAsDenied;\r\n554 5.2.252 user not allowed to send as boss\r\n",
)


def talk(cuts: list[int]) -> list[object]:
    """Return the events of a whole conversation whose server's words arrive cut at `cuts`."""
    conversation = Conversation("relay")
    said: list[object] = []
    for words in TALK:
        edges = [0, *sorted(cut for cut in cuts if cut < len(words)), len(words)]
        for start, end in itertools.pairwise(edges):
            said += conversation.receive(words[start:end])
        match said[-1]:
            case StartTls():
                conversation.tls_started()
            case SignIn():
                conversation.sign_in("user", "token")
            case Ready():
                conversation.begin(mail(recipients=("a@x", "b@x")))
            case SendContent():
                conversation.end_content()
    return said


@given(st.lists(st.integers(0, max(map(len, TALK))), max_size=10))
def test_any_chunking_gives_the_same_events(cuts):
    events = talk(cuts)
    assert events == talk([])
    assert [type(event) for event in events] == [StartTls, SignIn, Ready, SendContent, Finished]


REPLIES = st.builds(
    lambda code, more, text: b"%d%c%b\r\n" % (code, 45 if more else 32, text),
    st.sampled_from([220, 221, 235, 250, 334, 354, 421, 432, 500, 530, 535, 550, 554]),
    st.booleans(),
    st.sampled_from([b"", b"STARTTLS", b"AUTH XOAUTH2", b"PIPELINING", b"5.7.3 no", b"e30="]),
)


@given(st.lists(REPLIES | st.binary(max_size=20), max_size=12), st.sampled_from(["new", "mail", "content"]))
def test_no_garbage_raises_and_none_is_taken_for_acceptance(wire, state):
    if state == "new":
        conversation = Conversation("relay")
    else:
        conversation, _ = begun(mail())
        if state == "content":
            conversation.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    for piece in wire:
        for event in conversation.receive(piece):
            if isinstance(event, StartTls):
                conversation.tls_started()
            elif isinstance(event, SignIn):
                conversation.sign_in("user", "token")
            elif isinstance(event, Finished):  # and the final dot was never written
                assert event.verdict.outcome is not Outcome.ACCEPTED
