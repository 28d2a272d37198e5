import pytest

from relay_app import errors


def test_the_tree_in_the_docstring_is_the_tree():
    classes = [
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)
    ]
    for each in classes:
        assert f" {each.__name__} " in errors.__doc__.replace("\n", " "), each
    assert {each.__base__ for each in classes} == {Exception, errors.RelayError, errors.TokenError}


def test_settings_error():
    error = errors.SettingsError(iter(["one", "two"]))
    assert error.problems == ("one", "two")
    assert str(error) == "one\ntwo"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.TokenError("Why.", temporary=True), "Why."),
        (errors.TokenError("Why.", action="Do.", code="AADSTS1", temporary=False), "Why. Do. (AADSTS1)"),
        (errors.SignInNeeded("Why.", action="Do."), "Why. Do."),
        (errors.SmtpRefusal(550, "5.7.1", "No"), "550 5.7.1 No"),
    ],
)
def test_what_people_read(error, text):
    assert str(error) == text


def test_a_sign_in_is_not_temporary():
    assert errors.SignInNeeded("Why.", action="Do.").temporary is False


def test_retry_after():
    assert errors.TokenError("Why.", temporary=True).retry_after == 0
    assert errors.TokenError("Why.", temporary=True, retry_after=30).retry_after == 30
