"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const key = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const numeric = head.classList.contains("num");
      const first = numeric ? "descending" : "ascending";
      const order = head.ariaSort === first ? (numeric ? "ascending" : "descending") : first;
      for (const other of table.tHead.rows[0].cells) other.ariaSort = null;
      head.ariaSort = order;
      const sign = order === "ascending" ? 1 : -1;
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [key(a, column), key(b, column)];
        if (x === "" || y === "") return (x === "") - (y === ""); // blanks stay last
        return sign * (numeric ? x - y : x.localeCompare(y));
      });
      body.append(...rows);
    });
  });
}
for (const box of document.querySelectorAll("input.overlay")) {
  box.addEventListener("change", () => box.closest("section").classList.toggle("overlaid", box.checked));
}
const reveal = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  const run = target && target.closest("details.run");
  if (run) { run.open = true; target.scrollIntoView(); }
};
addEventListener("hashchange", reveal);
reveal();
