"""What lies on the tower after the first run: what is meant to, and nothing else."""

from __future__ import annotations

import tomllib

SECRETS = {
    "alert_urls",
    "client_secret_office-example-org",
    "password_nas",
    "password_office-example-org",
    "console_password",
    "console_token",
    "vault_key",
}


READ = {
    "/config": "755",
    "/config/.image": "444",
    "/config/relay.toml": "444",
    "/secrets": "700",
    **{f"/secrets/{name}": "400" for name in SECRETS},
    "/certs": "700",
    "/certs/upstream-ca.pem": "444",
}
# Besides, what a run that fails brings back.
MODES = {"": "755", "/data": "700", **READ, **{f"/.good{path}": mode for path, mode in READ.items()}}
ROOTS = {"/.good 700 0:0", "/.swap.lock 644 0:0"}


def test_all_is_nobodys_and_secrets_are_for_the_relay_alone(at_tower, relay) -> None:
    find = ["find", str(relay.directory), "-path", "*/data/*", "-prune", "-o", "-printf", "%p %m %U:%G\n"]
    found = {line.removeprefix(str(relay.directory)) for line in at_tower(*find).splitlines()}
    assert found == {f"{path} {mode} 99:100" for path, mode in MODES.items()} | ROOTS


def test_the_settings_name_files_instead_of_secrets(tower, relay) -> None:
    text = tower.file(f"{relay.directory}/config/relay.toml").content_string
    (mailbox,) = tomllib.loads(text)["mailbox"]
    assert mailbox["address"] == "office@example.org"
    assert mailbox["client_secret_file"] == "/secrets/client_secret_office-example-org"
    assert mailbox["device"] == [
        {"name": "office@example.org", "password_file": "/secrets/password_office-example-org"},
        {"name": "nas", "password_file": "/secrets/password_nas"},
    ]


def test_nothing_else_was_made_or_installed(listing, virgin, relay) -> None:
    """Also no temporary file, and nothing of Ansible's."""
    template = f"/boot/config/plugins/dockerMan/templates-user/my-{relay.name}.xml"
    # Where the tower keeps /boot and what is mounted from elsewhere is a matter of the stand-in.
    added = {line.split()[0] for line in listing() - virgin}
    assert {path for path in added if not path.startswith("/run/")} == {
        template.replace("/boot/", "/srv/tower/flash/")
    }


def test_others_files_are_as_they_were(at_tower) -> None:
    template = at_tower("cat", "/boot/config/plugins/dockerMan/templates-user/my-mariadb.xml")
    assert template == '<Container version="2"><Name>mariadb</Name></Container>\n'


def test_there_is_still_no_python(tower) -> None:
    assert tower.check_output("find / -xdev -type f -name 'python*' -perm /111") == ""
