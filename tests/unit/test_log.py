import io
import logging
import re
import secrets

import pytest
import structlog

from relay_app import log


@pytest.fixture
def stream():
    """Where the log goes; logging is as it was afterwards."""
    root, mail = logging.getLogger(), logging.getLogger("mail")
    before = root.handlers[:], root.level, mail.level
    yield io.StringIO()
    structlog.reset_defaults()
    root.handlers[:], root.level, mail.level = before


@pytest.fixture
def lines(stream):
    log.configure(stream)
    return lambda: [re.sub(r"^time=\S+Z ", "", line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def logger(lines):
    return structlog.get_logger()


def test_one_event_one_line(logger, stream):
    logger.info("message", id="1f", size=5)
    assert re.fullmatch(
        r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z level=info event=message id=1f size=5\n",
        stream.getvalue(),
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("two words", '"two words"'),
        ('a "quoted" word', r'"a \"quoted\" word"'),
        ("one\ntwo\r\n three", '"one | two | three"'),
        ("\x1b[2Jgone\x07\x00", "?[2Jgone??"),
        ("one\u2028two", '"one | two"'),
        ("one\x85two", '"one | two"'),
        ("élise@example.org", "élise@example.org"),
        (["a", "b\n"], "a,b"),
        (("a", 1), "a,1"),
        (0.123456, "0.123"),
        (True, "true"),
        (0, "0"),
        (ValueError("one\ntwo"), '"one | two"'),
        (b"a\n", r"b'a\n'"),
    ],
)
def test_a_value(logger, lines, value, written):
    logger.info("event", key=value)
    assert lines() == [f"level=info event=event key={written}"]


@pytest.mark.parametrize("nothing", [None, "", [], ()])
def test_what_is_empty_is_left_out(logger, lines, nothing):
    logger.info("event", key=nothing)
    assert lines() == ["level=info event=event"]


@pytest.mark.parametrize(
    "key", ["password", "token", "secret", "client_secret", "access_token", "refresh_token"]
)
def test_secrets_are_withheld(logger, lines, key):
    planted = secrets.token_hex()
    logger.info("event", **{key: planted, "client": "192.0.2.1"})
    assert set(lines()[0].split()) == {
        "level=info",
        "event=event",
        "client=192.0.2.1",
        f"{key}=(withheld)",
    }


def test_an_exception_is_one_line(logger, lines):
    try:
        raise ValueError("why")
    except ValueError:
        logger.exception("failed")
    [line] = lines()
    assert line.startswith('level=error event=failed exception="Traceback (most recent call last): | File ')
    assert line.endswith('| ValueError: why"')


def test_debug_is_for_the_verbose(logger, lines, stream):
    logger.debug("client_gone")
    assert lines() == []
    log.configure(stream, verbose=True)
    structlog.get_logger().debug("client_gone")
    assert lines() == ["level=debug event=client_gone"]


def test_the_libraries_warn_in_the_same_form(lines):
    logging.getLogger("asyncio").warning("slow\n%s", "task")
    logging.getLogger("asyncio").info("nothing")
    assert lines() == ['level=warning event="slow | task" logger=asyncio']


def test_aiosmtpd_says_nothing(lines):
    """Its logger would repeat every line of a session, senders and recipients included."""
    logging.getLogger("mail.log").error("%r >> %r", "192.0.2.1", b"AUTH PLAIN")
    assert lines() == []


def test_to_standard_error_by_default(stream, capsys):
    log.configure()
    structlog.get_logger().info("started")
    logging.getLogger("any").warning("careful")
    out, err = capsys.readouterr()
    assert out == ""
    assert "event=started" in err
    assert "event=careful" in err
