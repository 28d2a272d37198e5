"""The key of the vault is replaced on the tower, by its own tools."""

from __future__ import annotations


def test_the_vault_is_encrypted_with_another_key(relay, play, goes_out) -> None:
    before = relay.kept()
    played = play("playbooks/rotate.yml", rotate="vault_key")
    assert played.code == 0, played.tail
    after = relay.kept()
    assert {name for name in before | after if before.get(name) != after.get(name)} == {"vault_key"}
    assert relay.read("secrets/vault_key") == after["vault_key"]
    assert relay.files("-name", "vault_key_next") == []
    goes_out()
