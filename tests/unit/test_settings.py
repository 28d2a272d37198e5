import base64
import errno
import secrets
import uuid
from datetime import date
from pathlib import Path

import argon2
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from relay_app import settings
from relay_app.errors import SettingsError
from relay_app.settings import HASHER, Endpoint, Flow, ForeignFrom, Limits, load

CLIENT_ID = str(uuid.UUID(int=7))
TENANT = str(uuid.UUID(int=8))
SECRETS = {
    "CLIENT_SECRET": "client_secret",
    "RELAY_PASSWORD": "password",
    "RELAY_PASSWORD_HASH": "password_hash",
    "RELAY_STORE_URL": "store_url",
    "RELAY_VAULT_KEY": "vault_key",
}


@pytest.fixture(scope="session")
def password():
    return secrets.token_urlsafe(12)


@pytest.fixture(scope="session")
def hashed(password):
    return HASHER.hash(password)


@pytest.fixture
def vault_key():
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


@pytest.fixture
def environ(hashed):
    """What there must be at least. A hash, because to make one takes time."""
    return {"USER_EMAIL": "office@example.org", "CLIENT_ID": CLIENT_ID, "RELAY_PASSWORD_HASH": hashed}


@pytest.fixture
def config(tmp_path):
    """Write a TOML file and return the environment that names it."""

    def write(text):
        file = tmp_path / "relay.toml"
        file.write_text(text)
        return {"RELAY_CONFIG": str(file)}

    return write


@pytest.fixture
def mailbox(hashed):
    return f"""
[[mailbox]]
address = "office@example.org"
client_id = "{CLIENT_ID}"
[[mailbox.device]]
password_hash = "{hashed}"
"""


def problems(environ):
    with pytest.raises(SettingsError) as caught:
        load(environ)
    assert all(len(problem) > 20 for problem in caught.value.problems)
    return caught.value.problems


def problem(environ):
    """The only problem."""
    [only] = problems(environ)
    return only


def test_the_defaults(environ, monkeypatch):
    monkeypatch.setattr(settings.socket, "gethostname", lambda: "this-machine")
    loaded = load(environ)
    [mailbox] = loaded.mailboxes
    assert (mailbox.address, mailbox.flow) == ("office@example.org", Flow.AUTHORIZATION_CODE)
    assert (mailbox.tenant, mailbox.client_id, mailbox.client_secret) == ("common", CLIENT_ID, "")
    [device] = loaded.devices
    assert (device.name, device.mailbox) == ("office@example.org", "office@example.org")
    assert (device.senders, device.foreign_from) == ((), ForeignFrom.REFUSE)
    assert loaded.listen == (Endpoint("0.0.0.0", 587),)
    assert (loaded.listen_tls, loaded.listen_proxy) == ((), ())
    assert loaded.hostname == "this-machine"
    assert (loaded.tls_cert, loaded.tls_key) == (None, None)
    assert loaded.data_dir == Path("/data")
    assert (loaded.store_url, loaded.vault_key) == ("", "")
    assert loaded.upstream == Endpoint("smtp.office365.com", 587)
    assert loaded.upstream_ca is None
    assert loaded.authority == "https://login.microsoftonline.com"
    assert loaded.web_listen == (Endpoint("0.0.0.0", 8025),)
    assert loaded.limits == Limits()
    assert (loaded.web_password_hash, loaded.web_token, loaded.web_url, loaded.alert_urls) == ("", "", "", ())


def test_every_variable(tmp_path, password, vault_key):
    pem = tmp_path / "some.pem"
    pem.touch()
    loaded = load(
        {
            "CLIENT_ID": CLIENT_ID.upper(),
            "CLIENT_SECRET": "a client secret",
            "TENANT_ID": "Example.ORG",
            "USER_EMAIL": "Office@Example.org",
            "RELAY_PASSWORD": password,
            "RELAY_FLOW": "client_credentials",
            "RELAY_LISTEN": "127.0.0.1:2587, [::1]:2587,:2588",
            "RELAY_LISTEN_TLS": "[::]:465",
            "RELAY_LISTEN_PROXY": "10.0.0.1:2525",
            "RELAY_HOSTNAME": " smtp.example.org ",
            "RELAY_TLS_CERT": str(pem),
            "RELAY_TLS_KEY": str(pem),
            "RELAY_DATA_DIR": str(tmp_path),
            "RELAY_STORE_URL": "postgresql+psycopg://relay@db/relay",
            "RELAY_VAULT_KEY": vault_key,
            "RELAY_UPSTREAM": "localhost:1587",
            "RELAY_UPSTREAM_CA": str(pem),
            "RELAY_AUTHORITY": "https://localhost:8443/",
            "RELAY_WEB_LISTEN": "127.0.0.1:8026",
        }
    )
    [mailbox] = loaded.mailboxes
    assert (mailbox.address, mailbox.flow) == ("office@example.org", Flow.CLIENT_CREDENTIALS)
    assert (mailbox.tenant, mailbox.client_secret) == ("example.org", "a client secret")
    assert HASHER.verify(loaded.devices[0].password_hash, password)
    assert loaded.listen == (Endpoint("127.0.0.1", 2587), Endpoint("::1", 2587), Endpoint("0.0.0.0", 2588))
    assert loaded.listen_tls == (Endpoint("::", 465),)
    assert loaded.listen_proxy == (Endpoint("10.0.0.1", 2525),)
    assert loaded.hostname == "smtp.example.org"
    assert (loaded.tls_cert, loaded.tls_key, loaded.upstream_ca) == (pem, pem, pem)
    assert loaded.data_dir == tmp_path
    assert loaded.store_url == "postgresql+psycopg://relay@db/relay"
    assert loaded.vault_key == vault_key
    assert loaded.upstream == Endpoint("localhost", 1587)
    assert loaded.authority == "https://localhost:8443"
    assert loaded.web_listen == (Endpoint("127.0.0.1", 8026),)


def test_an_empty_variable_is_not_set(environ):
    """Compose files write `RELAY_HOSTNAME: ${RELAY_HOSTNAME:-}`."""
    names = [f"RELAY_{name.upper()}" for name in settings._RELAY if name != "web_listen"]
    names += ["CLIENT_SECRET", "TENANT_ID", "RELAY_FLOW", "RELAY_PASSWORD", "RELAY_CONFIG"]
    names += [f"{name}_FILE" for name in SECRETS]
    empty = dict.fromkeys(names, "")
    assert load({**empty, **environ, "RELAY_HOSTNAME": "a"}) == load({**environ, "RELAY_HOSTNAME": "a"})


def test_an_empty_web_listen_turns_the_console_off(environ):
    assert load({**environ, "RELAY_WEB_LISTEN": ""}).web_listen == ()


def test_variables_of_other_programs_do_not_matter(environ):
    load({**environ, "PATH": "/bin", "LISTEN": "x", "CLIENT_COLOUR": "green", "HOME": "\udcff\n"})


def test_all_problems_at_once():
    found = problems(
        {
            "USER_EMAIL": "nobody",
            "CLIENT_ID": "x",
            "TENANT_ID": "-",
            "RELAY_FLOW": "magic",
            "RELAY_PASSWORD": "short",
            "RELAY_LISTEN": "0.0.0.0:25",
            "RELAY_LISTEN_TLS": "?",
            "RELAY_LISTEN_PROXY": "a:b",
            "RELAY_HOSTNAME": "-",
            "RELAY_TLS_CERT": "/nonexistent/cert",
            "RELAY_STORE_URL": "mysql://",
            "RELAY_VAULT_KEY": "x",
            "RELAY_UPSTREAM": "outlook",
            "RELAY_UPSTREAM_CA": "/nonexistent/ca",
            "RELAY_AUTHORITY": "http://localhost",
            "RELAY_WEB_LISTEN": "-",
            "RELAY_CONFIG": "/nonexistent/config",
            "RELAY_COLOUR": "green",
        }
    )
    names = (
        "USER_EMAIL CLIENT_ID TENANT_ID RELAY_FLOW RELAY_PASSWORD RELAY_LISTEN RELAY_LISTEN_TLS"
        " RELAY_LISTEN_PROXY RELAY_HOSTNAME RELAY_TLS_CERT RELAY_TLS_KEY RELAY_STORE_URL RELAY_VAULT_KEY"
        " RELAY_UPSTREAM RELAY_UPSTREAM_CA RELAY_AUTHORITY RELAY_WEB_LISTEN RELAY_CONFIG RELAY_COLOUR"
    )
    for name in names.split():
        assert any(name in each.replace(":", " ").split() for each in found), name
    assert len(found) == len(names.split())


def test_nothing_is_set():
    found = problems({})
    assert [each.split()[0] for each in found] == ["USER_EMAIL", "CLIENT_ID", "RELAY_PASSWORD"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("RELAY_COLOUR", "green", "there is no such setting"),
        ("RELAY_LISTEN_FILE", "x", "there is no such setting"),
        ("RELAY_LISTEN", "0.0.0.0:25", "port 25 is for mail between servers"),
        ("RELAY_LISTEN_TLS", "[::]:25", "use 587"),
        ("RELAY_LISTEN_PROXY", "127.0.0.1:25", "use 587"),
        ("RELAY_LISTEN", "0.0.0.0", "is not host:port"),
        ("RELAY_LISTEN", "::1:587", "is not host:port"),
        ("RELAY_LISTEN", "0.0.0.0:65536", "is not host:port"),
        ("RELAY_LISTEN", "0.0.0.0:-1", "is not host:port"),
        ("RELAY_LISTEN", "0.0.0.0:٣", "is not host:port"),
        ("RELAY_LISTEN", "0.0.0.0:" + "1" * 5000, "is not host:port"),
        ("RELAY_HOSTNAME", "two words", "is not a host name"),
        ("RELAY_HOSTNAME", "x" * 254, "is not a host name"),
        ("RELAY_UPSTREAM_CA", "/nonexistent", "cannot read /nonexistent: No such file"),
        ("RELAY_UPSTREAM_CA", "/", "cannot read /: Is a directory"),
        ("RELAY_STORE_URL", "mysql://u:planted@db", "must begin with sqlite:///"),
        ("RELAY_VAULT_KEY", "planted", "32 random octets"),
        ("RELAY_VAULT_KEY", "plantedé", "32 random octets"),
        ("RELAY_VAULT_KEY", base64.b64encode(b"planted").decode(), "32 random octets"),
        ("RELAY_UPSTREAM", "smtp.office365.com", "is not host:port"),
        ("RELAY_UPSTREAM", "smtp.office365.com:465", "Use 587"),
        ("RELAY_UPSTREAM", ":587", "has no host"),
        ("RELAY_UPSTREAM", "a b:587", "is not a host name"),
        ("RELAY_AUTHORITY", "http://login.example.org", "must be https://host"),
        ("RELAY_AUTHORITY", "https://login.example.org/common", "must be https://host"),
        ("RELAY_AUTHORITY", "https://login.example.org?x", "must be https://host"),
        ("RELAY_AUTHORITY", "https://[", "must be https://host"),
        ("RELAY_AUTHORITY", "https:///", "must be https://host"),
        ("RELAY_WEB_LISTEN", "8025x", "is not host:port"),
        ("RELAY_FLOW", "password", "is not one of authorization_code, device_code, client_credentials"),
        ("RELAY_PASSWORD_HASH", "planted", "must begin with $argon2id$"),
        ("RELAY_PASSWORD_HASH", "$argon2id$plantedé", "must begin with $argon2id$"),
        ("RELAY_PASSWORD_HASH", "$argon2id$v=19$m=19456,t=2,p=1$cGxhbnRlZHNhbHQ$!", "not an argon2 hash"),
        pytest.param(
            "RELAY_PASSWORD_HASH", HASHER.hash(""), "is the hash of an empty password", id="hash of nothing"
        ),
        ("USER_EMAIL", "office", "is not an e-mail address"),
        ("USER_EMAIL", "a@b.c, d@e.f", "is not an e-mail address"),
        ("CLIENT_ID", "my app", "is not a client id"),
        ("TENANT_ID", "my company", "is not a tenant"),
        ("CLIENT_SECRET", str(uuid.UUID(int=9)), "looks like the secret's ID"),
        ("CLIENT_SECRET", "planted\x07", "characters that are not text"),
        ("CLIENT_SECRET", "planted\udcff", "characters that are not text"),
        ("RELAY_HOSTNAME", "one\ntwo", "more than one line"),
        ("CLIENT_SECRET_FILE", "/nonexistent", "cannot read /nonexistent: No such file"),
        ("RELAY_CONFIG", "/nonexistent", "cannot read /nonexistent: No such file"),
        ("RELAY_CONFIG", "/", "cannot read /: Is a directory"),
    ],
)
def test_a_bad_value(environ, name, value, words):
    text = problem({**environ, name: value})
    assert text.startswith(name)
    assert words in text
    assert "planted" not in text


@pytest.mark.parametrize(
    ("name", "words"), [("USER_EMAIL", "Outlook address"), ("CLIENT_ID", "entra.microsoft.com")]
)
def test_a_missing_variable(environ, name, words):
    del environ[name]
    text = problem(environ)
    assert text.startswith(f"{name} is missing")
    assert words in text


def test_no_password(environ):
    """A relay without one would be open to everybody."""
    del environ["RELAY_PASSWORD_HASH"]
    text = problem(environ)
    assert text.startswith("RELAY_PASSWORD is missing")
    assert "smtp-relay device password" in text


def test_a_password_that_would_be_guessed(environ):
    del environ["RELAY_PASSWORD_HASH"]
    text = problem({**environ, "RELAY_PASSWORD": "planted"})
    assert text.startswith("RELAY_PASSWORD has fewer than 8 characters")
    assert "planted" not in text


def test_a_password_and_a_hash(environ, password):
    text = problem({**environ, "RELAY_PASSWORD": password})
    assert text == "RELAY_PASSWORD and RELAY_PASSWORD_HASH are both set. Keep one"


def test_a_hash_of_another_program(environ):
    other = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=2, type=argon2.Type.I)
    environ["RELAY_PASSWORD_HASH"] = other.hash(secrets.token_hex())
    assert load(environ).devices[0].password_hash == environ["RELAY_PASSWORD_HASH"]


@pytest.mark.parametrize("name", ["cert", "key"])
def test_half_a_pair(environ, tmp_path, name):
    pem = tmp_path / "some.pem"
    pem.touch()
    text = problem({**environ, f"RELAY_TLS_{name.upper()}": str(pem)})
    assert text == "RELAY_TLS_CERT and RELAY_TLS_KEY belong together: set both, or neither"


def test_a_file_that_may_not_be_read(environ, monkeypatch):
    def refuse(*_args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # not by mode: root may read everything
    assert "Permission denied" in problem({**environ, "RELAY_UPSTREAM_CA": "ca.pem"})


def test_a_reload_of_the_same_password_changes_nothing(environ, password):
    """What a device has proven outlives a reload."""
    del environ["RELAY_PASSWORD_HASH"]
    environ["RELAY_PASSWORD"] = password
    assert load(environ) == load(environ)
    changed = {**environ, "RELAY_PASSWORD": secrets.token_urlsafe(12)}
    assert load(changed).devices[0].password_hash != load(environ).devices[0].password_hash


def test_the_same_password_of_two_devices_has_two_hashes(config, mailbox, password, hashed):
    plain = mailbox.replace(f'password_hash = "{hashed}"', f'password = "{password}"')
    one, two = load(config(plain + plain.replace("office@", "sales@"))).devices
    assert one.password_hash != two.password_hash


# Flows.


@pytest.mark.parametrize("tenant", ["common", "consumers", "organizations", "COMMON"])
def test_client_credentials_needs_one_tenant(environ, tenant):
    extra = {"RELAY_FLOW": "client_credentials", "CLIENT_SECRET": "a secret", "TENANT_ID": tenant}
    text = problem({**environ, **extra})
    assert text.startswith("RELAY_FLOW: client_credentials")
    assert "Set TENANT_ID" in text


def test_client_credentials_needs_a_secret(environ):
    text = problem({**environ, "RELAY_FLOW": "client_credentials", "TENANT_ID": TENANT})
    assert text == (
        "CLIENT_SECRET is missing: client_credentials needs a secret, or RELAY_CLIENT_CERT and "
        "RELAY_CLIENT_KEY"
    )


def test_device_code_has_no_secret(environ):
    text = problem({**environ, "RELAY_FLOW": "device_code", "CLIENT_SECRET": "planted"})
    assert "AADSTS700025" in text
    assert "CLIENT_SECRET" in text
    assert "planted" not in text


@pytest.mark.parametrize("flow", ["device_code", "authorization_code", " Device_Code "])
def test_delegated_flows(environ, flow):
    [mailbox] = load({**environ, "RELAY_FLOW": flow}).mailboxes
    assert mailbox.flow.delegated


def test_client_credentials_is_not_delegated():
    assert not Flow.CLIENT_CREDENTIALS.delegated


# Secrets in files.


def sound(name, password, hashed, vault_key):
    return {
        "CLIENT_SECRET": "a client secret",
        "RELAY_PASSWORD": password,
        "RELAY_PASSWORD_HASH": hashed,
        "RELAY_STORE_URL": "sqlite:////data/store.db",
        "RELAY_VAULT_KEY": vault_key,
    }[name]


def loaded_secret(loaded, name):
    if name == "CLIENT_SECRET":
        return loaded.mailboxes[0].client_secret
    if name.startswith("RELAY_PASSWORD"):
        return loaded.devices[0].password_hash
    return getattr(loaded, SECRETS[name])


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_secret_in_a_file(environ, tmp_path, password, hashed, vault_key, name, ending):
    value = sound(name, password, hashed, vault_key)
    file = tmp_path / "secret"
    file.write_text(value + ending, newline="")
    if name == "RELAY_PASSWORD":
        del environ["RELAY_PASSWORD_HASH"]
    environ.pop(name, None)
    secret = loaded_secret(load({**environ, f"{name}_FILE": str(file)}), name)
    assert HASHER.verify(secret, value) if name == "RELAY_PASSWORD" else secret == value


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_twice(environ, tmp_path, password, hashed, vault_key, name):
    value = sound(name, password, hashed, vault_key)
    file = tmp_path / "secret"
    file.write_text(value)
    if name == "RELAY_PASSWORD":
        del environ["RELAY_PASSWORD_HASH"]
    text = problem({**environ, name: value, f"{name}_FILE": str(file)})
    assert text == f"{name} and {name}_FILE are both set. Keep one"
    missing = problem({**environ, name: value, f"{name}_FILE": "/nonexistent"})
    assert missing == text, "one sentence is enough: the file is not looked at"


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "is empty"), (b"\r\n", "is empty"), (b"planted\xff", "is not a text file")]
)
def test_a_bad_secret_file(environ, tmp_path, content, words):
    file = tmp_path / "secret"
    file.write_bytes(content)
    text = problem({**environ, "CLIENT_SECRET_FILE": str(file)})
    assert text == f"CLIENT_SECRET_FILE: {file} {words}"


def test_no_secret_is_shown(environ, password, vault_key):
    del environ["RELAY_PASSWORD_HASH"]
    planted = {
        "CLIENT_SECRET": secrets.token_hex(),
        "RELAY_PASSWORD": password,
        "RELAY_VAULT_KEY": vault_key,
        "RELAY_STORE_URL": f"postgresql+psycopg://relay:{secrets.token_hex()}@db/relay",
    }
    loaded = load({**environ, **planted})
    for value in (*planted.values(), loaded.devices[0].password_hash):
        assert value not in repr(loaded)


# The file.


def test_everything_in_the_file(config, tmp_path, hashed, password, vault_key):
    (tmp_path / "secret").write_text("a client secret\n")
    (tmp_path / "password").write_text(f"{password}\n")
    loaded = load(
        config(f"""
[relay]
listen = ["0.0.0.0:2587", "[::]:2587"]
listen_tls = "0.0.0.0:465"
listen_proxy = []
hostname = "smtp.example.org"
data_dir = "{tmp_path}"
store_url = "sqlite:////data/store.db"
vault_key = "{vault_key}"
upstream = "localhost:1587"
authority = "https://localhost"
web_listen = ""

[limits]
connections = 10
recipients = 5
data_timeout = 1.5
command_timeout = 60

[[mailbox]]
address = "One@example.org"
flow = "client_credentials"
tenant = "{TENANT}"
client_id = "{CLIENT_ID}"
client_secret_file = "{tmp_path}/secret"

[[mailbox.device]]
name = "Scanner"
password_hash = "{hashed}"
senders = ["Sales@example.org", "*@Example.net"]
foreign_from = "rewrite"

[[mailbox.device]]
name = "nas"
password_file = "{tmp_path}/password"

[[mailbox]]
address = "two@example.org"
flow = "device_code"
client_id = "{CLIENT_ID}"

[[mailbox.device]]
password_hash = "{hashed}"
""")
    )
    assert loaded.listen == (Endpoint("0.0.0.0", 2587), Endpoint("::", 2587))
    assert loaded.listen_tls == (Endpoint("0.0.0.0", 465),)
    assert (loaded.listen_proxy, loaded.web_listen) == ((), ())
    assert (loaded.hostname, loaded.data_dir) == ("smtp.example.org", tmp_path)
    assert (loaded.store_url, loaded.vault_key) == ("sqlite:////data/store.db", vault_key)
    assert loaded.limits == Limits(connections=10, recipients=5, data_timeout=1.5, command_timeout=60)
    one, two = loaded.mailboxes
    assert (one.address, one.tenant, one.client_secret) == ("one@example.org", TENANT, "a client secret")
    assert (two.address, two.tenant, two.flow) == ("two@example.org", "common", Flow.DEVICE_CODE)
    scanner, nas, third = loaded.devices
    assert (scanner.name, scanner.mailbox) == ("Scanner", "one@example.org")
    assert scanner.senders == ("sales@example.org", "*@example.net")
    assert scanner.foreign_from is ForeignFrom.REWRITE
    assert (nas.name, nas.mailbox, nas.senders) == ("nas", "one@example.org", ())
    assert HASHER.verify(nas.password_hash, password)
    assert (third.name, third.mailbox) == ("two@example.org", "two@example.org")


def test_a_variable_wins_over_the_file(config, mailbox, vault_key):
    environ = config(f'[relay]\nhostname = "file"\nauthority = "https://file"\nvault_key = "x"\n{mailbox}')
    loaded = load({**environ, "RELAY_HOSTNAME": "variable", "RELAY_VAULT_KEY": vault_key})
    assert (loaded.hostname, loaded.authority) == ("variable", "https://file")
    assert loaded.vault_key == vault_key


def test_the_mailbox_of_the_variables_and_those_of_the_file(config, environ, mailbox):
    loaded = load({**environ, **config(mailbox), "USER_EMAIL": "first@example.org"})
    assert [each.address for each in loaded.mailboxes] == ["first@example.org", "office@example.org"]


def test_a_tenant_alone_is_no_mailbox(config, mailbox):
    assert len(load({**config(mailbox), "TENANT_ID": "common"}).mailboxes) == 1


def test_a_file_without_mailboxes(config, environ):
    assert len(load({**environ, **config('[relay]\nhostname = "a"')}).mailboxes) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[relay", "is not TOML"),
        ("\xff", "is not TOML"),
        ("[colour]", "there is no [colour]"),
        ("relay = 1", "relay must be a table: [relay]"),
        ("limits = 1", "limits must be a table: [limits]"),
        (
            '[relay]\ncolour = "x"',
            "[relay] has no setting 'colour'. It can have alert_urls, alert_urls_file, ",
        ),
        ('[limits]\ncolour = "x"', "[limits] has no setting 'colour'"),
        ("[relay]\nhostname = 1", "[relay] hostname must be a text in quotes"),
        ('[relay]\nhostname = "a\\u0000"', "[relay] hostname must be a text in quotes"),
        ("[relay]\nvault_key = 12345678", "[relay] vault_key must be a text in quotes"),
        ('[relay]\nvault_key = "a"\nvault_key_file = "b"', "[relay] vault_key and [relay] vault_key_file"),
        ('[relay]\nvault_key_file = "/nonexistent"', "[relay] vault_key_file: cannot read /nonexistent"),
        ("[limits]\nconnections = 0", "[limits] connections must be a whole number above 0, not 0"),
        ("[limits]\nconnections = 1.5", "[limits] connections must be a whole number above 0, not 1.5"),
        ("[limits]\nconnections = true", "[limits] connections must be a whole number"),
        ('[limits]\ndata_timeout = "1"', "[limits] data_timeout must be a number above 0, not '1'"),
        ("[limits]\ndata_timeout = -1", "[limits] data_timeout must be a number above 0"),
        ("[limits]\ndata_timeout = nan", "[limits] data_timeout must be a number above 0"),
        ("[limits]\ndata_timeout = inf", "[limits] data_timeout must be a number above 0"),
    ],
)
def test_a_bad_file(config, environ, text, words):
    environ = {**environ, **config(text)}
    if text == "\xff":
        Path(environ["RELAY_CONFIG"]).write_bytes(b"\xff")
    found = problems(environ)
    assert found[0].startswith("RELAY_CONFIG: ")
    assert words in found[0]
    assert "12345678" not in found[0]
    assert len(found) == 1 + ("vault_key_file = " in text and "both set" in found[0])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('colour = "green"', "mailbox 1, device 1 has no setting 'colour'"),
        ('senders = "a@example.org"', "mailbox 1, device 1: senders must be a list of addresses"),
        ("senders = [1]", "senders must be a list of addresses"),
        ('senders = ["a@example.org", "*"]', "senders must be a list of addresses"),
        ('senders = ["*@*"]', "senders must be a list of addresses"),
        (
            'foreign_from = "ignore"',
            "mailbox 1, device 1: foreign_from: 'ignore' is not one of refuse, rewrite",
        ),
        ("name = 1", "mailbox 1, device 1: name must be a text in quotes"),
        ('name = ""', "mailbox 1, device 1: name must have 1 to 255 printable characters"),
        ('name = "a\\u0007"', "name must have 1 to 255 printable characters"),
        ('name = "' + "é" * 128 + '"', "name must have 1 to 255 printable characters"),
        (
            'password = "planted"',
            "mailbox 1, device 1: password and RELAY_CONFIG: mailbox 1, device 1: password_hash",
        ),
    ],
)
def test_a_bad_device(config, mailbox, line, words):
    found = problems(config(mailbox + line))
    assert found[0].startswith("RELAY_CONFIG: ")
    assert words in found[0]
    assert "planted" not in "".join(found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mailbox = 1", "mailbox must be a list of tables: [[mailbox]]"),
        ("mailbox = [1]", "mailbox must be a list of tables: [[mailbox]]"),
    ],
)
def test_mailboxes_that_are_none(config, environ, text, words):
    assert words in problem({**environ, **config(text)})


def test_a_bad_mailbox(config, mailbox):
    text = mailbox.replace("office@example.org", "office").replace("[[mailbox.device]]", "[mailbox.device]")
    found = problems(config('[[mailbox]]\ncolour = "green"\n' + text))
    expected = [
        "RELAY_CONFIG: mailbox 1 has no setting 'colour'",
        "RELAY_CONFIG: mailbox 1: address is missing",
        "RELAY_CONFIG: mailbox 1: client_id is missing",
        "RELAY_CONFIG: mailbox 1 has no [[mailbox.device]]",
        "RELAY_CONFIG: mailbox 2: address: 'office' is not an e-mail address",
        "RELAY_CONFIG: device must be a list of tables: [[mailbox.device]]",
        "RELAY_CONFIG: mailbox 2 has no [[mailbox.device]]",
    ]
    assert [each[: len(start)] for each, start in zip(found, expected, strict=True)] == expected


def test_names_must_differ(config, mailbox):
    again = mailbox.replace("office@", "OFFICE@")
    assert problems(config(mailbox + again)) == (
        "The mailbox 'office@example.org' is there twice. Names must differ",
        "The device 'office@example.org' is there twice. Names must differ",
    )


def test_an_address_for_two_listeners(environ):
    text = problem({**environ, "RELAY_LISTEN": "0.0.0.0:587", "RELAY_LISTEN_PROXY": "0.0.0.0:587"})
    assert text == "0.0.0.0:587 is given to two listeners. Each needs an address of its own"


def test_any_free_port_may_be_asked_for_twice(environ):
    load({**environ, "RELAY_LISTEN": "127.0.0.1:0", "RELAY_WEB_LISTEN": "127.0.0.1:0"})


def test_nothing_to_listen_on(config, mailbox):
    assert problem(config(f'[relay]\nlisten = ""\n{mailbox}')).startswith(
        "RELAY_LISTEN: nothing to listen on"
    )


def test_only_implicit_tls(config, mailbox):
    loaded = load(config(f'[relay]\nlisten = ""\nlisten_tls = "0.0.0.0:465"\n{mailbox}'))
    assert loaded.listen == ()


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "smtp.example.org"])
def test_an_upstream(environ, host):
    endpoint = Endpoint(host, 587)
    assert load({**environ, "RELAY_UPSTREAM": str(endpoint)}).upstream == endpoint


@pytest.mark.parametrize(("endpoint", "text"), [(Endpoint("a", 1), "a:1"), (Endpoint("::", 587), "[::]:587")])
def test_an_endpoint_as_text(endpoint, text):
    assert str(endpoint) == text


VALUES = st.text(st.characters(exclude_characters="\0"), max_size=40)
NAMES = ["USER_EMAIL", "CLIENT_ID", "TENANT_ID", "RELAY_FLOW", "RELAY_PASSWORD_HASH", "RELAY_VAULT_KEY"]
NAMES += [f"RELAY_{name.upper()}" for name in settings._RELAY]


@given(st.dictionaries(st.sampled_from(NAMES), VALUES, min_size=1))
@hypothesis_settings(max_examples=200, deadline=None)
def test_any_values_are_problems_in_words(values):
    with pytest.raises(SettingsError) as caught:
        load({**values, "RELAY_PASSWORD": ""})
    assert all(caught.value.problems)


# Certificates in place of secrets, and when they end.


@pytest.fixture
def pem(tmp_path):
    file = tmp_path / "some.pem"
    file.touch()
    return str(file)


def test_client_credentials_with_a_certificate(environ, pem):
    environ |= {"RELAY_FLOW": "client_credentials", "TENANT_ID": TENANT}
    [mailbox] = load({**environ, "RELAY_CLIENT_CERT": pem, "RELAY_CLIENT_KEY": pem}).mailboxes
    assert (mailbox.client_cert, mailbox.client_key) == (Path(pem), Path(pem))
    assert mailbox.client_secret == ""


@pytest.mark.parametrize("only", ["RELAY_CLIENT_CERT", "RELAY_CLIENT_KEY"])
def test_a_certificate_has_a_key(environ, pem, only):
    text = problem({**environ, only: pem})
    assert text == "RELAY_CLIENT_CERT and RELAY_CLIENT_KEY belong together: set both, or neither"


def test_a_secret_or_a_certificate(environ, pem):
    environ |= {"RELAY_CLIENT_CERT": pem, "RELAY_CLIENT_KEY": pem, "CLIENT_SECRET": "planted"}
    assert problem(environ) == "CLIENT_SECRET and RELAY_CLIENT_CERT are both set. Keep one"


def test_device_code_has_no_certificate(environ, pem):
    environ |= {"RELAY_CLIENT_CERT": pem, "RELAY_CLIENT_KEY": pem, "RELAY_FLOW": "device_code"}
    text = problem(environ)
    assert "AADSTS700025" in text
    assert "Remove RELAY_CLIENT_CERT" in text


def test_when_the_secret_ends(environ, config, mailbox):
    [one] = load({**environ, "RELAY_CLIENT_SECRET_EXPIRES": "2027-05-31"}).mailboxes
    assert one.secret_expires == date(2027, 5, 31)
    for written in ("2027-05-31", '"2027-05-31"'):
        text = mailbox.replace("[[mailbox.device]]", f"secret_expires = {written}\n[[mailbox.device]]")
        [one] = load(config(text)).mailboxes
        assert one.secret_expires == date(2027, 5, 31)
    text = problem({**environ, "RELAY_CLIENT_SECRET_EXPIRES": "31.5.2027"})
    assert text == "RELAY_CLIENT_SECRET_EXPIRES: '31.5.2027' is not a date such as 2027-05-31"


# How many messages a device may hand in.


@pytest.mark.parametrize("number", [0, 20])
def test_hourly_messages(config, mailbox, number):
    [device] = load(config(mailbox + f"hourly_messages = {number}\n")).devices
    assert device.hourly_messages == number


@pytest.mark.parametrize("value", ["-1", "1.5", "true", '"20"'])
def test_bad_hourly_messages(config, mailbox, value):
    text = problem(config(mailbox + f"hourly_messages = {value}\n"))
    assert "mailbox 1, device 1: hourly_messages must be a whole number, 0 for no limit" in text


# The console and the alerts.


def test_the_console_password(environ, password, hashed):
    assert load({**environ, "RELAY_WEB_PASSWORD_HASH": hashed}).web_password_hash == hashed
    assert HASHER.verify(load({**environ, "RELAY_WEB_PASSWORD": password}).web_password_hash, password)
    both = problem({**environ, "RELAY_WEB_PASSWORD": password, "RELAY_WEB_PASSWORD_HASH": hashed})
    assert both == "RELAY_WEB_PASSWORD and RELAY_WEB_PASSWORD_HASH are both set. Keep one"
    assert "would be guessed" in problem({**environ, "RELAY_WEB_PASSWORD": "1234567"})
    assert "is not an argon2 hash" in problem({**environ, "RELAY_WEB_PASSWORD_HASH": password})


def test_the_api_token(environ):
    token = secrets.token_hex(32)
    assert load({**environ, "RELAY_WEB_TOKEN": token}).web_token == token
    assert "openssl rand -hex 32" in problem({**environ, "RELAY_WEB_TOKEN": token[:15]})


@pytest.mark.parametrize(
    "url", ["https://relay.example.org", "http://tower:8025", "https://h.example/relay/"]
)
def test_the_address_of_the_console(environ, url):
    assert load({**environ, "RELAY_WEB_URL": url}).web_url == url.rstrip("/")


@pytest.mark.parametrize(
    "url", ["relay.example.org", "ftp://relay.example.org", "https://", "https://[", "https://a?b=c"]
)
def test_a_bad_address_of_the_console(environ, url):
    assert "is not an address such as https://relay.example.org" in problem({**environ, "RELAY_WEB_URL": url})


def test_alert_urls(environ, tmp_path):
    assert load({**environ, "RELAY_ALERT_URLS": "ntfy://a  json://b/?c=d,e"}).alert_urls == (
        "ntfy://a",
        "json://b/?c=d,e",
    )
    file = tmp_path / "urls"
    file.write_text("ntfy://a\n\njson://b\n")
    assert load({**environ, "RELAY_ALERT_URLS_FILE": str(file)}).alert_urls == ("ntfy://a", "json://b")


# Personal accounts.


@pytest.mark.parametrize("tenant", ["organizations", TENANT, "example.org"])
def test_a_personal_account_is_in_no_organisation(environ, tenant):
    text = problem({**environ, "USER_EMAIL": "me@outlook.com", "TENANT_ID": tenant})
    assert "me@outlook.com is a personal account" in text
    assert text.endswith("Use consumers")


@pytest.mark.parametrize("tenant", ["common", "consumers", "9188040D-6C67-4C5B-B112-36A304B66DAD"])
def test_where_personal_accounts_are(environ, tenant):
    assert load({**environ, "USER_EMAIL": "me@outlook.com", "TENANT_ID": tenant})


def test_the_personal_tenant_has_no_client_credentials(environ):
    environ |= {"RELAY_FLOW": "client_credentials", "CLIENT_SECRET": secrets.token_urlsafe(20)}
    assert "client_credentials works only in one organisation" in problem(
        {**environ, "TENANT_ID": "9188040d-6c67-4c5b-b112-36a304b66dad"}
    )
