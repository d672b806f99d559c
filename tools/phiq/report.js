// Sorts a table by the column whose head is clicked; a second click turns the order round.
// The page is complete without this: plots and figures need no script.
"use strict";

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const isNumber = head.classList.contains("number");
      // Greatest numbers first: what went worst is what one looks for. Names from A to Z.
      const wasSorted = head.getAttribute("aria-sort");
      const descending = wasSorted ? wasSorted !== "descending" : isNumber;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const rows = Array.from(table.tBodies[0].rows);
      rows.sort((a, b) => compare(a.cells[column], b.cells[column], isNumber, descending));
      table.tBodies[0].append(...rows);
    });
  });
}

// Cells without a number come last in both orders.
function compare(a, b, isNumber, descending) {
  const sign = descending ? -1 : 1;
  if (!isNumber) return sign * a.textContent.localeCompare(b.textContent, "en", {numeric: true});
  const x = numberOf(a);
  const y = numberOf(b);
  if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
  return x === y ? 0 : x > y ? sign : -sign;
}

function numberOf(cell) {
  const text = cell.dataset.value;
  if (text === undefined) return NaN;
  return text === "inf" ? Infinity : text === "-inf" ? -Infinity : Number(text);
}
