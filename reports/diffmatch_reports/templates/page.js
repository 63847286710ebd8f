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
for (const form of document.querySelectorAll("form.filters")) {
  const tables = [...document.querySelectorAll("table.filtered")];
  const rows = tables.flatMap((table) => [...table.tBodies[0].rows]);
  const apply = () => {
    const wanted = [...form.querySelectorAll("select")].filter((select) => select.value);
    for (const row of rows) row.hidden = !wanted.every((select) => row.dataset[select.name] === select.value);
    const left = rows.filter((row) => !row.hidden).length;
    for (const table of tables) {
      const section = table.closest(".one-board");
      if (section) section.hidden = [...table.tBodies[0].rows].every((row) => row.hidden);
      for (const box of form.querySelectorAll("[name=show]")) {
        table.classList.toggle(`no-${box.value}`, !box.checked);
        document.querySelector(`.about-${box.value}`).hidden = !box.checked;
      }
    }
    form.querySelector("output").textContent = left === rows.length ? "" : `${left} of ${rows.length} rows`;
  };
  form.addEventListener("change", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
}
for (const box of document.querySelectorAll("input.overlay")) {
  box.addEventListener("change", () => box.closest("section").classList.toggle("overlaid", box.checked));
}
for (const slider of document.querySelectorAll("input.walk")) {
  slider.addEventListener("input", () => {
    const section = slider.closest("section");
    for (const list of section.querySelectorAll(".strip li")) {
      const steps = [...list.querySelectorAll(".step")];
      const shown = Math.min(slider.value, steps.length);
      for (const step of steps) step.hidden = step.dataset.step != shown;
    }
    const said = `${slider.value} of ${slider.max}`;
    section.querySelector(".walked").textContent = said;
    slider.ariaValueText = `step ${said}`;
  });
}
