// Everything works without this file; with it, `/` leads to the search.
"use strict";

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea, [contenteditable]");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const search = document.getElementById("search");
    if (search) { event.preventDefault(); search.focus(); search.select(); }
  }
});

for (const select of document.querySelectorAll(".filters select[name]")) {
  if (select.form.method === "get") select.addEventListener("change", () => select.form.requestSubmit());
}

for (const button of document.querySelectorAll("button[data-sure]")) {
  button.addEventListener("click", (event) => { if (!confirm(button.dataset.sure)) event.preventDefault(); });
}

for (const all of document.querySelectorAll("input[data-choose-all]")) {
  all.hidden = false;
  all.addEventListener("change", () => {
    for (const one of all.closest("table").querySelectorAll("td.choose input")) one.checked = all.checked;
  });
}

// Waits for what root does; the pages themselves may be gone for a moment.
if (document.querySelector("[data-wait]")) {
  const look = async () => {
    try {
      const answer = await fetch(location.href, { redirect: "manual" });
      if (answer.type === "opaqueredirect" || (answer.ok && !(await answer.text()).includes("data-wait"))) location.reload();
    } catch { /* not back yet */ }
  };
  setInterval(look, 1500);
}

// On a phone the row of pages is wider than the screen.
document.querySelector("nav.below a[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

// A sale over a line that is away would end on the browser's own page: the line is tried first, and the form is kept.
for (const form of document.querySelectorAll("form[data-once]")) {
  form.addEventListener("submit", async (event) => {
    if (form.dataset.sure) return;
    event.preventDefault();
    if (form.dataset.asking) return;
    form.dataset.asking = "1";
    const away = document.querySelector("[data-offline]");
    try {
      await fetch(form.action, { cache: "no-store", signal: AbortSignal.timeout(10_000) });
      away.hidden = true;
      form.dataset.sure = "1";
      form.requestSubmit(event.submitter);
    } catch {
      away.hidden = false;
      away.scrollIntoView({ block: "center" });
    }
    delete form.dataset.asking;
  });
}

for (const button of document.querySelectorAll("button[data-share]")) {
  button.hidden = !navigator.share;
  button.addEventListener("click", () => navigator.share({ text: button.dataset.share }).catch(() => {}));
}
