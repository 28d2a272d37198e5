"""Which app and account may be used at which endpoint: common, organizations, consumers, a tenant."""

from sandbox import aadsts
from sandbox.accounts import CONSUMER_TENANT, Account
from sandbox.apps import App
from sandbox.world import SHARED_ENDPOINTS, World

_FOR_CONSUMERS = frozenset({"consumers", CONSUMER_TENANT})
_WORK_ONLY = frozenset({"AzureADMyOrg", "AzureADMultipleOrgs"})


def app_at(world: World, tenant: str, client_id: str) -> App:
    """The app, if it exists and may be used at this endpoint.

    Raises:
        EntraError: it does not, or may not.
    """
    if not world.knows_tenant(tenant):
        raise aadsts.unknown_tenant(tenant)
    app = world.apps.get(client_id)
    if app is None:
        raise aadsts.unknown_app(client_id, tenant)
    for_consumers = tenant in _FOR_CONSUMERS
    if app.audience == "PersonalMicrosoftAccount" and not for_consumers:
        raise aadsts.personal_only_app(client_id, app.name)
    if app.audience in _WORK_ONLY and for_consumers:
        raise aadsts.work_only_app(client_id, app.name)
    if app.audience == "AzureADMyOrg" and tenant in SHARED_ENDPOINTS:
        raise aadsts.single_tenant_app(client_id, app.name)
    return app


def account_at(world: World, tenant: str, app: App, address: str) -> Account:
    """The account that a person signs in with, by the address typed (an alias is none).

    Raises:
        EntraError: there is no such account, or it cannot be used here.
    """
    account = world.accounts.get(address.strip().casefold())
    if account is None:
        raise aadsts.unknown_account(address.strip(), tenant)
    if tenant in _FOR_CONSUMERS and not account.personal:
        raise aadsts.work_account_at_consumers(account.address)
    if tenant not in ("common", *_FOR_CONSUMERS) and account.personal:
        raise aadsts.foreign_account(account.address, tenant)
    if account.personal and app.audience in _WORK_ONLY:
        raise aadsts.personal_account_not_allowed(account.address)
    return account


def check_grant(world: World, tenant: str, account: Account) -> None:
    """Whether a grant of this account may be used at this endpoint.

    Raises:
        EntraError: the account is gone, or belongs elsewhere.
    """
    if world.accounts.get(account.address.casefold()) is not account:
        raise aadsts.unknown_account(account.address, tenant)
    if tenant in _FOR_CONSUMERS and not account.personal:
        raise aadsts.unknown_grant("refresh_token")
    if tenant not in ("common", *_FOR_CONSUMERS) and account.personal:
        raise aadsts.foreign_account(account.address, tenant)
