
"use strict";
const root = document.documentElement;
window.onerror = (message) => { root.dataset.error = String(message); };

const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const tip = document.getElementById("tip");

// --- one setting of a card at a time ---
for (const card of all("[data-card]")) {
  const choice = card.querySelector("select");
  if (!choice) continue;
  const panels = all(".panel", card);
  const choose = () => panels.forEach((panel, i) => { panel.hidden = i !== Number(choice.value); });
  choice.addEventListener("change", choose);
  choose();
}

// --- contenders shown and hidden, everywhere at once ---
const show = (contender, shown) => {
  for (const part of all(`[data-contender="${contender}"]`)) part.classList.toggle("off", !shown);
  for (const button of all(`[data-toggle="${contender}"]`)) button.setAttribute("aria-pressed", String(shown));
};
for (const button of all("[data-toggle]"))
  button.addEventListener("click", () => show(button.dataset.toggle, button.getAttribute("aria-pressed") === "false"));
for (const button of all("[data-all]"))
  button.addEventListener("click", () => all("[data-toggle]").forEach((one) => show(one.dataset.toggle, true)));

// --- the value of a place, by pointer and by arrow keys ---
let near = null;
const leave = () => {
  if (near) near.classList.remove("near");
  near = null;
  tip.hidden = true;
};
const point = (mark) => {
  if (mark === near) return;
  leave();
  near = mark;
  mark.classList.add("near");
  tip.textContent = mark.dataset.tip;
  tip.hidden = false;
  const at = mark.getBoundingClientRect();
  const left = at.right + 12 + tip.offsetWidth < root.clientWidth ? at.right + 12 : at.left - 12 - tip.offsetWidth;
  tip.style.left = `${Math.max(8, Math.min(left, root.clientWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${Math.max(8, Math.min(at.top - tip.offsetHeight - 8, window.innerHeight - tip.offsetHeight - 8))}px`;
};
const marks = (chart) => all("[data-tip]", chart).filter((mark) => !mark.closest(".off"));
for (const chart of all("svg.chart")) {
  const place = (event) => {
    if (event.target.matches("rect[data-tip]")) return point(event.target);
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());
    let best = null, least = 60;
    for (const mark of marks(chart)) {
      if (mark.matches("rect")) continue;
      const distance = Math.hypot(mark.dataset.x - at.x, mark.dataset.y - at.y);
      if (distance < least) [best, least] = [mark, distance];
    }
    if (best) point(best); else leave();
  };
  chart.addEventListener("pointermove", place);
  chart.addEventListener("pointerdown", place);
  chart.addEventListener("pointerleave", leave);
  chart.addEventListener("blur", leave);
  chart.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") leave();
    if (!step) return;
    event.preventDefault();
    const places = marks(chart);
    const now = places.indexOf(near);
    if (places.length) point(places[now < 0 ? 0 : (now + step + places.length) % places.length]);
  });
}
window.addEventListener("scroll", leave, { passive: true });

// --- the table of samples ---
const table = document.querySelector("[data-sortable]");
if (table) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const headings = all("thead th", table);
  const compare = (a, b) => (isNaN(a) || isNaN(b) || a === "" || b === ""
    ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  for (const button of all("[data-sort]", table)) button.addEventListener("click", () => {
    const column = Number(button.dataset.sort), heading = headings[column];
    const down = heading.getAttribute("aria-sort") === "ascending";
    headings.forEach((one) => one.setAttribute("aria-sort", "none"));
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.cells[column].dataset.value;
    rows.sort((a, b) => (down ? -1 : 1) * compare(value(a), value(b)));
    body.append(...rows);
  });

  const filter = document.getElementById("filter"), troubled = document.getElementById("troubled");
  const shown = document.getElementById("shown");
  const narrow = () => {
    const words = filter.value.toLowerCase().split(/\s+/);
    let count = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = (troubled.checked && !row.className) || !words.every((word) => text.includes(word));
      count += !row.hidden;
    }
    shown.textContent = `${count} of ${rows.length} samples`;
  };
  filter.addEventListener("input", narrow);
  troubled.addEventListener("change", narrow);
  filter.form.addEventListener("submit", (event) => event.preventDefault());
  narrow();
}

root.dataset.ready = "yes";
