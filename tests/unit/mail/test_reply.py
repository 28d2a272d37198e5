import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_app.mail.reply import Reply


@pytest.mark.parametrize(
    ("code", "lines", "reply"),
    [
        (250, ["2.1.0 Sender ok"], Reply(250, "2.1.0", "Sender ok")),
        (250, ["OK"], Reply(250, "", "OK")),
        (250, ["2.0.0"], Reply(250, "2.0.0", "")),
        (250, [""], Reply(250, "", "")),
        (550, ["5.7.60 Not", "5.7.60 allowed"], Reply(550, "5.7.60", "Not\nallowed")),
        (250, ["host", "SIZE 157286400"], Reply(250, "", "host\nSIZE 157286400")),
        # The class must fit the code (RFC 2034 4), else it is text.
        (550, ["4.7.1 odd"], Reply(550, "", "4.7.1 odd")),
        (550, ["5.7.1234 odd"], Reply(550, "", "5.7.1234 odd")),
        (550, ["5.7.1\n"], Reply(550, "", "5.7.1\n")),
        # Digits of other scripts are no digits here.
        (550, ["5.\u0667.1 odd"], Reply(550, "", "5.\u0667.1 odd")),
        (554, ["5.2.0\tSTOREDRV"], Reply(554, "5.2.0", "STOREDRV")),
    ],
)
def test_from_lines(code, lines, reply):
    assert Reply.from_lines(code, lines) == reply


@pytest.mark.parametrize(
    ("code", "positive", "temporary", "permanent"),
    [
        (250, True, False, False),
        (354, True, False, False),
        (451, False, True, False),
        (550, False, False, True),
    ],
)
def test_classes(code, positive, temporary, permanent):
    reply = Reply(code, "", "")
    assert (reply.positive, reply.temporary, reply.permanent) == (positive, temporary, permanent)


@pytest.mark.parametrize(
    ("reply", "wire"),
    [
        (Reply(250, "2.0.0", "OK"), b"250 2.0.0 OK\r\n"),
        (Reply(354, "", "Go on"), b"354 Go on\r\n"),
        (Reply(550, "5.7.1", "No.\nReally."), b"550-5.7.1 No.\r\n550 5.7.1 Really.\r\n"),
        (Reply(550, "5.7.1", ""), b"550 5.7.1 \r\n"),
        (Reply(550, "", "a\r250 ok\x1b\u0085\u2028\0ö"), b"550 a?250 ok?????\r\n"),
        (Reply(250, "", "x" * 481), b"250-" + b"x" * 480 + b"\r\n250 x\r\n"),
        (Reply(250, "", " " * 481), b"250 \r\n"),
    ],
)
def test_wire(reply, wire):
    assert reply.wire() == wire


def test_a_long_sentence_keeps_its_end():
    text = "Because. " * 80 + "Do this."
    lines = Reply(550, "5.7.1", text).wire().split(b"\r\n")
    assert [line[:4] for line in lines] == [b"550-", b"550 ", b""]
    assert lines[1].endswith(b"Do this.")


@given(st.integers(200, 599), st.sampled_from(["", "2.0.0", "5.123.123"]), st.text())
def test_no_text_can_forge_a_reply(code, enhanced, text):
    wire = Reply(code, enhanced, text).wire()
    lines = wire.split(b"\r\n")
    assert lines.pop() == b""
    assert all(line.startswith(f"{code}-{enhanced}".encode()) for line in lines[:-1])
    assert lines[-1].startswith(f"{code} {enhanced}".encode())
    for line in lines:
        assert len(line) <= 510
        assert all(0x20 <= octet <= 0x7E for octet in line)


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (Reply(550, "5.7.1", "No.\nReally."), "550 5.7.1 No. Really."),
        (Reply(250, "", "OK"), "250 OK"),
        (Reply(250, "2.0.0", ""), "250 2.0.0"),
    ],
)
def test_as_text(reply, text):
    assert str(reply) == text
