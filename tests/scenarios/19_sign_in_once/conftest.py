"""A relay with a console that a real browser opens. Nobody has signed its mailbox in yet."""

import base64
import json
import os
from collections.abc import Callable, Iterator, Mapping

import pytest
from harness.browser import Browser, Visitor
from harness.console import Api
from harness.planted import Planted
from harness.ports import free_port
from harness.webhook import Webhook
from playwright.sync_api import Playwright, sync_playwright

from sandbox.client import Control

CALLBACK = "http://localhost/sign-in/callback"  # the port of http://localhost does not count


@pytest.fixture(scope="module")  # no longer: while Playwright runs, nothing asynchronous can be tested
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(playwright, tmp_path_factory.mktemp("browser"))
    yield browser
    browser.stop()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    webhook = Webhook()
    yield webhook
    webhook.stop()


@pytest.fixture
def settings(
    settings: dict[str, str], sandbox: Control, planted: Planted, webhook: Webhook, console_url: str
) -> dict[str, str]:
    """A personal account, an app with a secret, a console, alerts. Whatever can be a secret is planted."""
    app = sandbox.add_app(redirect_uris=(CALLBACK,))
    return settings | {
        "CLIENT_ID": app.client_id,
        "CLIENT_SECRET": planted.add("client secret", app.client_secret),
        "TENANT_ID": "consumers",
        "USER_EMAIL": sandbox.world().personal,
        "RELAY_FLOW": "authorization_code",
        "RELAY_WEB_LISTEN": console_url.replace("http://localhost", "127.0.0.1"),
        "RELAY_WEB_URL": console_url,
        "RELAY_VAULT_KEY": planted.add("vault key", base64.urlsafe_b64encode(os.urandom(32)).decode()),
        "RELAY_WEB_TOKEN": planted.make("api token"),
        "RELAY_ALERT_URLS": f"json://relay:{planted.make('webhook password')}@{webhook.address}/",
    }


@pytest.fixture
def public_app(sandbox: Control) -> Mapping[str, str]:
    """Settings of an app without a secret, which may use device codes."""
    app = sandbox.add_app(public=True, redirect_uris=(CALLBACK,))
    sandbox.limits(device_code_interval=1)  # seconds
    return {"CLIENT_ID": app.client_id, "CLIENT_SECRET": "", "RELAY_FLOW": "device_code"}


@pytest.fixture
def console_url() -> str:
    return f"http://localhost:{free_port()}"


@pytest.fixture
def api(settings: dict[str, str], console_url: str) -> Iterator[Api]:
    api = Api(console_url, settings["RELAY_WEB_TOKEN"])
    yield api
    api.close()


@pytest.fixture
def visitor(browser: Browser, console_url: str, planted: Planted) -> Iterator[Visitor]:
    """A person at the browser. Whatever the console has answered them is examined at the end."""
    visitor = browser.visitor()
    yield visitor
    answers = "\n".join(visitor.answers(console_url))
    assert answers
    assert planted.found_in(answers) == []
    assert visitor.complaints == []


@pytest.fixture
def everything_told(api: Api, webhook: Webhook, planted: Planted) -> Callable[[], str]:
    """Return all that a program can ask the relay for, and the alerts, after a search for secrets."""

    def search() -> str:
        paths = ["/metrics", "/healthz", "/api/v1/openapi.json", "/api/v1/relay", "/api/v1/hours"]
        lists = {what: api.get(f"/api/v1/{what}") for what in ("mailboxes", "devices", "messages")}
        paths += [
            f"/api/v1/mailboxes/{each['address']}" for each in json.loads(lists["mailboxes"])["mailboxes"]
        ]
        paths += [f"/api/v1/messages/{each['id']}" for each in json.loads(lists["messages"])["messages"]]
        told = {path: api.get(path) for path in paths} | lists | {"alerts": webhook.received}
        assert {where: found for where, text in told.items() if (found := planted.found_in(text))} == {}
        return "\n".join(told.values())

    return search


@pytest.fixture
def elsewhere(
    playwright: Playwright, tmp_path_factory: pytest.TempPathFactory, console_url: str
) -> Iterator[Visitor]:
    """A person on another machine: their localhost has no console."""
    away = f"--host-resolver-rules=MAP {console_url.removeprefix('http://')} ~NOTFOUND"
    browser = Browser(playwright, tmp_path_factory.mktemp("elsewhere"), away)
    yield browser.visitor()
    browser.stop()
