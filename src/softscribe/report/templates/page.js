"use strict";
// Without this script the page lacks nothing but the readings under the pointer and the enlarged pictures.

// One step under the pointer, read off in all charts at once.
const charts = [...document.querySelectorAll(".chart svg")].map((svg) => ({
  svg,
  cursor: svg.querySelector(".cursor"),
  outputs: [...svg.closest("figure").querySelectorAll("output")],
  lines: JSON.parse(svg.dataset.series),
  lastStep: Math.max(Number(svg.dataset.lastStep), 1),
  left: Number(svg.dataset.left),
  right: Number(svg.dataset.right),
}));

function read(step) {
  for (const chart of charts) {
    const x = chart.left + ((chart.right - chart.left) * step) / chart.lastStep;
    chart.cursor.setAttribute("x1", x);
    chart.cursor.setAttribute("x2", x);
    chart.cursor.style.visibility = "visible";
    chart.lines.forEach(([, steps, values], line) => {
      let nearest = 0;
      steps.forEach((other, index) => {
        if (Math.abs(other - step) < Math.abs(steps[nearest] - step)) nearest = index;
      });
      const value = values[nearest];
      chart.outputs[line].textContent = `${value === null ? "not finite" : Number(value.toPrecision(4))} at step ${steps[nearest]}`;
    });
  }
}

function rest() {
  for (const chart of charts) {
    chart.cursor.style.visibility = "hidden";
    for (const output of chart.outputs) output.textContent = output.dataset.last;
  }
}

for (const chart of charts) {
  chart.svg.addEventListener("pointermove", (event) => {
    const box = chart.svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * chart.svg.viewBox.baseVal.width;
    const share = (x - chart.left) / (chart.right - chart.left);
    read(Math.round(Math.min(Math.max(share, 0), 1) * chart.lastStep));
  });
  chart.svg.addEventListener("pointerleave", rest);
}

// A picture, large; the arrow keys go through the steps of its piece at the same place.
const dialog = document.querySelector("dialog");
if (dialog) {
  const large = dialog.querySelector("img");
  const title = dialog.querySelector("output");
  let shown = [];
  let place = 0;
  const show = (index) => {
    place = Math.min(Math.max(index, 0), shown.length - 1);
    large.src = shown[place].src;
    large.alt = shown[place].alt;
    title.textContent = shown[place].alt;
  };
  for (const row of document.querySelectorAll(".pictures")) {
    const images = [...row.querySelectorAll("img")];
    images.forEach((image, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-label", `Enlarge: ${image.alt}`);
      image.replaceWith(button);
      button.append(image);
      button.addEventListener("click", () => {
        shown = images;
        show(index);
        dialog.showModal();
      });
    });
  }
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(place - 1);
    if (event.key === "ArrowRight") show(place + 1);
  });
  dialog.querySelector("[data-go='-1']").addEventListener("click", () => show(place - 1));
  dialog.querySelector("[data-go='1']").addEventListener("click", () => show(place + 1));
}

// What is folded on the screen is wanted on paper.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => part.setAttribute("open", "")));
