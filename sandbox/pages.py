"""The HTML of the pages that a person sees at Microsoft. Everything that is not ours is escaped.

Ids are stable, for tests that click: see each page.
"""

from collections.abc import Iterable, Mapping
from html import escape

from sandbox.apps import App
from sandbox.authorization import Redirect

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;background:#f2f2f2;color:#1b1b1b;margin:0;display:grid;
  min-height:100vh;place-items:center}
main{background:#fff;box-sizing:border-box;width:min(27rem,100vw);padding:2.5rem;
  box-shadow:0 2px 6px rgba(0,0,0,.2)}
h1{font-size:1.5rem;font-weight:600;margin:.5rem 0 1rem}
.brand{color:#595959;font-weight:600}
.error{color:#b50e0e}
input[type=text]{font:inherit;width:100%;box-sizing:border-box;padding:.4rem 0;border:0;
  border-bottom:1px solid #595959;margin-bottom:1rem}
button{font:inherit;padding:.35rem 1.5rem;border:1px solid #595959;background:#f2f2f2;cursor:pointer}
button.main{background:#0067b8;border-color:#0067b8;color:#fff}
button.account{display:block;width:100%;text-align:left;background:#fff;border:0;
  border-bottom:1px solid #ddd;padding:.7rem 0}
.actions{display:flex;gap:.5rem;justify-content:flex-end;margin-top:1.5rem}
.note{color:#595959;font-size:.85rem;margin-top:2rem}
"""

_SCOPES = {
    "SMTP.Send": "Send emails from your mailbox using SMTP AUTH",
    "Mail.Send": "Send mail as you",
    "User.Read": "Sign you in and read your profile",
    ".default": "Do everything that was already agreed for it",
    "openid": "Sign you in",
    "profile": "View your basic profile",
    "email": "View your email address",
    "offline_access": "Maintain access to data you have given it access to",
}


def pick_account(
    addresses: Iterable[str], *, app: App, hint: str = "", error: str = "", code: str = ""
) -> str:
    """Choose or type the account: buttons `.account` (`data-address`), `#address`, `#next`; `#error`.

    `code`: the user code, on the device's page.
    """
    hidden = _hidden({"user_code": code} if code else {})
    choices = "".join(
        f'<button class="account" id="account-{number}" name="account" value="{escape(address)}" '
        f'data-address="{escape(address)}">{escape(address)}</button>'
        for number, address in enumerate(addresses)
    )
    return _page(
        "Sign in to your account",
        f"<h1>Pick an account</h1><p>to continue to <b>{escape(app.name)}</b></p>{_error(error)}"
        f'<form method="post" id="accounts">{hidden}{choices}</form>'
        f'<form method="post" id="sign-in">{hidden}'
        f'<p><label for="address">Or type another address</label>'
        f'<input type="text" id="address" name="account" value="{escape(hint)}" autocomplete="off" '
        'spellcheck="false"></p>'
        '<div class="actions"><button class="main" id="next">Next</button></div></form>',
    )


def ask_consent(app: App, address: str, scopes: Iterable[str], *, code: str = "") -> str:
    """The permissions, in words: list `#scopes`, buttons `#accept` and `#cancel`; `#user` is who is asked."""
    words = sorted({_SCOPES.get(scope.rpartition("/")[2], scope) for scope in scopes})
    hidden = _hidden({"account": address} | ({"user_code": code, "confirmed": "yes"} if code else {}))
    return _page(
        "Permissions requested",
        f'<p id="user">{escape(address)}</p><h1>Let this app access your info?</h1>'
        f'<p><b id="app">{escape(app.name)}</b> needs your permission to:</p>'
        f'<ul id="scopes">{"".join(f"<li>{escape(word)}</li>" for word in words)}</ul>'
        f'<form method="post">{hidden}<div class="actions">'
        '<button id="cancel" name="decision" value="cancel">Cancel</button>'
        '<button class="main" id="accept" name="decision" value="accept">Accept</button></div></form>',
    )


def ask_code(*, code: str = "", error: str = "") -> str:
    """The device's page: type the user code. `#code`, `#next`; `#error`."""
    return _page(
        "Enter code",
        "<h1>Enter code to allow access</h1>"
        "<p>Once you enter the code displayed on your app or device, it will have access to your account.</p>"
        f'{_error(error)}<form method="post"><p><label for="code">Code</label>'
        f'<input type="text" id="code" name="user_code" value="{escape(code)}" autocomplete="off" '
        'spellcheck="false" autofocus></p>'
        '<div class="actions"><button class="main" id="next">Next</button></div></form>',
    )


def confirm_device(app: App, address: str, code: str) -> str:
    """The question against code phishing: `#continue`, `#cancel`."""
    hidden = _hidden({"account": address, "user_code": code, "confirmed": "yes"})
    return _page(
        "Confirm sign-in",
        f'<p id="user">{escape(address)}</p><h1>Are you trying to sign in to {escape(app.name)}?</h1>'
        "<p>Only continue if you downloaded the app from a store or website that you trust.</p>"
        f'<form method="post">{hidden}<div class="actions">'
        '<button id="cancel" name="decision" value="cancel">Cancel</button>'
        '<button class="main" id="continue">Continue</button></div></form>',
    )


def done(title: str, text: str) -> str:
    """The end of the device's page: `#done`."""
    return _page(title, f'<h1>{escape(title)}</h1><p id="done">{escape(text)}</p>')


def refused(message: str) -> str:
    """Entra's "Sorry, but we're having trouble signing you in": `#error` starts with AADSTS and a number."""
    return _page(
        "Sign in to your account",
        "<h1>Sorry, but we're having trouble signing you in.</h1>" + _error(message),
    )


def post_redirect(redirect: Redirect) -> str:
    """`response_mode=form_post`: the browser posts the answer; without JavaScript `#continue` does."""
    return _page(
        "Working...",
        f'<form method="post" id="answer" action="{escape(redirect.uri)}">{_hidden(redirect.parameters)}'
        '<p>Taking you back to the app.</p><button class="main" id="continue">Continue</button></form>'
        "<script>document.forms[0].submit()</script>",
    )


def _hidden(values: Mapping[str, str]) -> str:
    return "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in values.items()
    )


def _error(text: str) -> str:
    return f'<p class="error" id="error" role="alert">{escape(text)}</p>' if text else ""


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{_STYLE}</style></head>'
        f'<body><main><div class="brand">Microsoft (sandbox)</div>{body}'
        '<p class="note">This is the sandbox: nothing here leaves this machine, and no password is asked for.'
        "</p></main></body></html>"
    )
