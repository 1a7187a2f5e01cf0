// Everything works without this file; with it, `/` finds the search, and lists that change show it in place.
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

// A region with data-refresh="seconds" is fetched again and patched row by row, so focus and selection stay.
for (const region of document.querySelectorAll("[data-refresh]")) {
  let tag = "";
  const refresh = async () => {
    if (document.hidden) return;
    const answer = await fetch(location.href, { headers: tag ? { "If-None-Match": tag } : {} }).catch(() => null);
    if (!answer || answer.status !== 200) return;
    tag = answer.headers.get("ETag") || "";
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(region.id);
    if (fresh) patch(region, fresh);
  };
  setInterval(refresh, 1000 * Number(region.dataset.refresh));
}

function patch(region, fresh) {
  const body = region.querySelector("tbody"), news = fresh.querySelector("tbody");
  if (!body || !news) { if (region.innerHTML !== fresh.innerHTML) region.innerHTML = fresh.innerHTML; return; }
  const rows = new Map(Array.from(body.rows, (row) => [row.id, row]));
  for (const row of Array.from(news.rows)) {
    const old = rows.get(row.id);
    rows.delete(row.id);
    if (!old) { body.append(row); continue; }
    body.append(old);
    Array.from(row.cells).forEach((cell, i) => {
      if (old.cells[i] && !old.cells[i].querySelector("input, button") && old.cells[i].innerHTML !== cell.innerHTML) old.cells[i].innerHTML = cell.innerHTML;
    });
  }
  for (const gone of rows.values()) gone.remove();
  for (const name of ["caption", "[data-as-of]"]) {
    const a = region.querySelector(name), b = fresh.querySelector(name);
    if (a && b) a.textContent = b.textContent;
  }
}
