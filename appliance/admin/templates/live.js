// A list that is looked at again every few seconds and patched in place: what is focused, chosen or scrolled stays.
"use strict";
{
  const EVERY_MS = 5000, WITHIN_MS = 10000;
  const find = (where, part) => where.querySelector(`[data-live="${part}"]`);
  const stale = document.getElementById("stale"), asOf = document.getElementById("as-of");
  let tag = find(document, "rows").dataset.tag, timer = 0;

  const patchRow = (old, fresh) => {
    if (old.cells.length !== fresh.cells.length) { old.replaceWith(fresh); return; }
    [...old.cells].forEach((cell, i) => {
      const other = fresh.cells[i], box = cell.querySelector("input");
      if (box && other.querySelector("input")) return;
      if (cell.innerHTML !== other.innerHTML) cell.replaceChildren(...other.childNodes);
    });
  };

  const patchRows = (old, fresh) => {
    const wanted = new Set([...fresh.rows].map((row) => row.dataset.id));
    const here = new Map([...old.rows].map((row) => [row.dataset.id, row]));
    for (const [id, row] of here) if (!wanted.has(id)) row.remove();
    let place = old.rows[0] ?? null;
    for (const row of [...fresh.rows]) {
      const known = here.get(row.dataset.id);
      if (!known) { old.insertBefore(row, place); continue; }
      if (known === place) place = place.nextElementSibling;
      else {
        const focused = known.contains(document.activeElement) ? document.activeElement : null;
        old.insertBefore(known, place);
        focused?.focus({ preventScroll: true });
      }
      patchRow(known, row);
    }
  };

  const patch = (page) => {
    const old = find(document, "rows"), fresh = find(page, "rows");
    find(document, "count").textContent = find(page, "count").textContent;
    const [oldBody, freshBody] = [old.querySelector("tbody"), fresh.querySelector("tbody")];
    if (!oldBody || !freshBody) { old.replaceChildren(...fresh.childNodes); return; }
    patchRows(oldBody, freshBody);
    const [oldPages, freshPages] = [old.querySelector(".pages"), fresh.querySelector(".pages")];
    if (oldPages?.outerHTML !== freshPages?.outerHTML) {
      oldPages?.remove();
      if (freshPages) old.append(freshPages);
    }
  };

  const look = async () => {
    const headers = { "X-Live": "1", "If-None-Match": `"${tag}"` };
    const answer = await fetch(location.href, { headers, redirect: "manual", signal: AbortSignal.timeout(WITHIN_MS) });
    if (answer.status === 200) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      patch(page);
      tag = find(page, "rows").dataset.tag;
    } else if (answer.status !== 304) throw new Error(answer.type === "opaqueredirect" ? "please log in again" : "no answer");
    asOf.textContent = answer.headers.get("X-As-Of");
    if (stale.textContent) stale.textContent = "";
  };

  const again = async () => {
    clearTimeout(timer);
    if (!document.hidden) {
      try { await look(); } catch (error) {
        const why = error.message === "please log in again" ? error.message : "the appliance doesn’t answer";
        if (!stale.textContent) stale.textContent = `Not up to date: ${why}.`;
      }
    }
    clearTimeout(timer);
    timer = setTimeout(again, EVERY_MS);
  };

  document.addEventListener("visibilitychange", () => { if (!document.hidden) again(); });
  timer = setTimeout(again, EVERY_MS);
}
