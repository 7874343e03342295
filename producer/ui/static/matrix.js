"use strict";

// A matrix has hundreds of links: one of them is a stop of the Tab key, and the arrow keys move from
// there. Without this file each is a stop of its own.
for (const table of document.querySelectorAll("table[data-walk]")) {
  const links = [...table.querySelectorAll("tbody a[href]")];
  links.forEach((link, place) => (link.tabIndex = place ? -1 : 0));
  table.addEventListener("focusin", (event) => {
    if (links.includes(event.target)) {
      links.forEach((link) => (link.tabIndex = -1));
      event.target.tabIndex = 0;
    }
  });
  table.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const cell = event.target.closest("td");
    if (!step || !cell || event.altKey || event.ctrlKey || event.metaKey) {
      return;
    }
    event.preventDefault();
    let [row, column] = [cell.parentElement.sectionRowIndex, cell.cellIndex];
    do {
      row += step[0];
      column += step[1];
      const next = table.tBodies[0].rows[row]?.cells[column];
      if (!next) {
        return;
      }
      const link = next.querySelector("a");
      if (link) {
        link.focus();
        return;
      }
    } while (true);
  });
}
