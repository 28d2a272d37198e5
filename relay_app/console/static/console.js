// Comfort for the console's pages, which all work without it: buttons that copy, parts that stay current, times in
// the reader's time zone.
"use strict";

const texts = document.body.dataset;

// --- Copy buttons. The clipboard API exists on https and localhost only; the older command works everywhere.

async function copy(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "hidden";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("the browser does not let us copy");
}

function addCopyButtons(root) {
  for (const value of root.querySelectorAll("[data-copy]")) {
    if (value === document.body || value.closest(".copyable")) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    const label = document.createElement("span");
    label.textContent = texts.copy;
    label.setAttribute("aria-live", "polite");
    const what = document.createElement("span");
    what.className = "hidden";
    what.textContent = value.matches(".block") ? "" : value.textContent;
    button.append(label, " ", what);
    button.addEventListener("click", async () => {
      try {
        await copy(value.textContent);
        label.textContent = texts.copied;
        setTimeout(() => { label.textContent = texts.copy; }, 2000);
      } catch {
        getSelection().selectAllChildren(value); // at least one keystroke away
      }
    });
    const box = document.createElement("span");
    box.className = "copyable";
    value.replaceWith(box);
    box.append(value, button);
  }
}

// --- Parts that stay current: the page is fetched again, and its #live replaces ours.

let lost = null;

function showLost(isLost) {
  if (isLost && !lost) {
    lost = document.createElement("div");
    lost.className = "callout callout-bad lost";
    lost.setAttribute("role", "status");
    lost.textContent = texts.lost;
    document.querySelector("main").append(lost);
  } else if (!isLost && lost) {
    lost.remove();
    lost = null;
  }
}

function inUse(live) {
  // Never pull a form, a selection or an open table away from somebody.
  const selection = getSelection();
  const typed = [...live.querySelectorAll("textarea, input:not([type=hidden])")].some((field) => field.value);
  return typed || live.contains(document.activeElement)
    || (!selection.isCollapsed && live.contains(selection.anchorNode)) || live.querySelector("details[open]");
}

async function refresh() {
  const live = document.querySelector("#live[data-live]");
  if (!live) return;
  try {
    if (!document.hidden) {
      const response = await fetch(location.href, { headers: { "X-Requested-With": "fetch" } });
      if (response.redirected) { location.reload(); return; } // logged out meanwhile
      if (!response.ok) throw new Error(response.statusText);
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const news = page.getElementById("live");
      const over = news && news.dataset.live === undefined; // a sign-in that has ended
      if (news && (over || !inUse(live))) {
        live.replaceWith(document.adoptNode(news));
        document.title = page.title;
        addCopyButtons(document.getElementById("live"));
      }
      showLost(false);
    }
  } catch {
    showLost(true);
  }
  setTimeout(refresh, 1000 * Number(live.dataset.live));
}

// --- The reader's time zone. The server writes all times; it learns the zone from a cookie.

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone && !document.cookie.split("; ").includes(`zone=${zone}`)) {
  document.cookie = `zone=${zone}; path=/; max-age=31536000; samesite=lax`;
  const known = document.cookie.split("; ").includes(`zone=${zone}`);
  if (known && document.querySelector("time") && !document.querySelector("form[method=post].fields")) location.reload();
}

for (const select of document.querySelectorAll("select[data-submit]")) {
  select.form.querySelector("button").hidden = true;
  select.addEventListener("change", () => select.form.requestSubmit());
}

addCopyButtons(document);
document.querySelector("[role=alert]")?.focus();
const first = document.querySelector("#live[data-live]");
if (first) setTimeout(refresh, 1000 * Number(first.dataset.live));
