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
