"use strict";
// Without this script the page says all it has to say; with it, tables sort and the task list filters.
(() => {
  const numeric = (text) => {
    const value = parseFloat(text.replace(/,/g, ""));
    return Number.isNaN(value) ? -Infinity : value;
  };

  const sort = (table, column, heading) => {
    const numbers = heading.classList.contains("n");
    const first = numbers ? "descending" : "ascending";
    const order = heading.getAttribute("aria-sort") === first ? (numbers ? "ascending" : "descending") : first;
    for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
    const body = table.tBodies[0];
    const keyed = Array.from(body.rows, (row) => {
      const text = row.cells[column].textContent;
      return [numbers ? numeric(text) : text, row];
    });
    const sign = order === "ascending" ? 1 : -1;
    const collator = new Intl.Collator("en", { numeric: true });
    keyed.sort((a, b) => sign * (numbers ? a[0] - b[0] || 0 : collator.compare(a[0], b[0])));
    body.append(...keyed.map(([, row]) => row));
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    Array.from(table.tHead.rows[0].cells, (heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.textContent;
      button.addEventListener("click", () => sort(table, column, heading));
      heading.replaceChildren(button);
    });
  }

  const field = document.getElementById("filter");
  const shown = document.getElementById("shown");
  const rows = Array.from(document.getElementById("tasktable").tBodies[0].rows, (row) => [
    row, `${row.cells[0].textContent} ${row.cells[1].textContent}`.toLowerCase(),
  ]);
  const examples = Array.from(document.querySelectorAll("details.task"), (one) => [
    one, `${one.querySelector("bdi").textContent} ${one.dataset.category}`.toLowerCase(),
  ]);
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (text) => words.every((word) => text.includes(word));
    let count = 0;
    for (const [row, text] of rows) count += !(row.hidden = !fits(text));
    for (const [one, text] of examples) one.hidden = !fits(text);
    shown.textContent = `${count.toLocaleString("en")} task${count === 1 ? "" : "s"}`;
  });

  const reveal = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target instanceof HTMLDetailsElement) {
      target.hidden = false;
      target.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", reveal);
  reveal();
  document.documentElement.dataset.ready = "yes";
})();
