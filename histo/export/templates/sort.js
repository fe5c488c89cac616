// Sorting by a click on a heading; the page is complete without it.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const key = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent.trim();
    const compare = (a, b) => {
      const [one, other] = [key(a), key(b)];
      const numbers = [one, other].every((text) => text !== "" && isFinite(text));
      return numbers ? one - other : one.localeCompare(other, undefined, { numeric: true });
    };
    const sort = () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].sort(compare);
      body.append(...(up ? rows : rows.reverse()));
    };
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort";
    button.append(...head.childNodes);
    button.addEventListener("click", sort);
    head.append(button);
  });
}
