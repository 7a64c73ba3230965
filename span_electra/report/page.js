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

document.querySelectorAll(".plot").forEach(follow);
if (document.body.dataset.state === "running") {
  setInterval(() => { if (!document.hidden && getSelection().isCollapsed) location.reload(); }, 60000);
}
