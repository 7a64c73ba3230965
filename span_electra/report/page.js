// Shows the numbers under the pointer, and reads the page again while the run goes on.
"use strict";
const pointer = document.getElementById("pointer");

function line(tag, words) {
  const element = document.createElement(tag);
  for (const word of words) {
    const part = tag === "b" ? element : element.appendChild(document.createElement("i"));
    part.textContent = word; // never markup: names come from files
    part.style.fontStyle = "normal";
  }
  return element;
}

function follow(plot) {
  const svg = plot.querySelector("svg");
  const data = JSON.parse(svg.dataset.points);
  const cursor = plot.appendChild(document.createElement("div"));
  cursor.className = "cursor";
  cursor.hidden = true;
  const leave = () => { cursor.hidden = pointer.hidden = true; };
  plot.addEventListener("pointerleave", leave);
  plot.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width;
    let near = 0;
    data.at.forEach((place, index) => {
      if (Math.abs(place - at) < Math.abs(data.at[near] - at)) near = index;
    });
    if (!data.at.length) return leave();
    cursor.hidden = pointer.hidden = false;
    cursor.style.left = `${data.at[near] * box.width}px`;
    cursor.style.top = `${data.top * box.height}px`;
    cursor.style.height = `${(data.bottom - data.top) * box.height}px`;
    pointer.replaceChildren(line("b", [data.x[near]]));
    for (const series of data.series) {
      if (series.y[near] === null) continue;
      const row = line("span", [series.name, series.y[near]]);
      row.firstChild.style.color = series.color;
      pointer.append(row);
    }
    const room = pointer.offsetWidth + 14;
    const left = event.clientX + room > innerWidth ? event.clientX - room : event.clientX + 14;
    pointer.style.left = `${Math.max(4, left)}px`;
    pointer.style.top = `${Math.min(event.clientY + 14, innerHeight - pointer.offsetHeight - 4)}px`;
  });
}

// --- a chart as a file ---

// Outside the page there is no style sheet: what it says of the chart is written into a copy.
function asSvg(svg) {
  const style = getComputedStyle(document.documentElement), box = svg.viewBox.baseVal;
  const copy = svg.cloneNode(true);
  copy.removeAttribute("data-points");
  copy.setAttribute("xmlns", svg.namespaceURI);
  copy.setAttribute("width", box.width);
  copy.setAttribute("height", box.height);
  copy.setAttribute("color", style.getPropertyValue("--ink").trim());
  copy.setAttribute("font-family", "sans-serif");
  const paper = document.createElementNS(svg.namespaceURI, "rect");
  for (const [name, value] of Object.entries({ x: box.x, y: box.y, width: "100%", height: "100%", fill: "var(--card)" })) paper.setAttribute(name, value);
  copy.prepend(paper);
  return copy.outerHTML.replace(/var\((--[\w-]+)\)/g, (whole, name) => style.getPropertyValue(name).trim() || whole);
}

function asCsv(svg) {
  const data = JSON.parse(svg.dataset.points);
  const cell = (value) => value === null ? "" : /[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value);
  const lines = [[data.x_name, ...data.series.map((series) => series.name)]];
  data.x_numbers.forEach((x, index) => lines.push([x, ...data.series.map((series) => series.numbers[index])]));
  return lines.map((line) => line.map(cell).join(",") + "\n").join("");
}

function save(button) {
  const svg = button.closest("figure").querySelector("svg"), kind = button.dataset.save;
  const name = `${document.title.split(" · ")[0]} ${svg.getAttribute("aria-label")}`;
  const type = kind === "svg" ? "image/svg+xml" : "text/csv";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([kind === "svg" ? asSvg(svg) : asCsv(svg)], { type }));
  link.download = `${name.replace(/[^\p{L}\p{N}.-]+/gu, "-")}.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000); // the browser reads it after click() has returned
}

document.querySelectorAll(".plot").forEach(follow);
document.querySelectorAll("[data-save]").forEach((button) => button.addEventListener("click", () => save(button)));
if (document.body.dataset.state === "running") {
  setInterval(() => { if (!document.hidden && getSelection().isCollapsed) location.reload(); }, 60000);
}
