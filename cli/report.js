"use strict";
// A plot says what is under the pointer.
for (const box of document.querySelectorAll(".box")) {
  const rows = JSON.parse(box.dataset.readout), cursor = box.querySelector(".cursor");
  const readout = box.parentElement.querySelector(".readout"), note = readout.textContent;
  const show = event => {
    const { left, width } = box.getBoundingClientRect();
    const place = Math.min(rows.length - 1, Math.max(0, Math.floor(rows.length * (event.clientX - left) / width)));
    cursor.hidden = false;
    cursor.style.left = 100 * (place + 0.5) / rows.length + "%";
    readout.textContent = rows[place];
  };
  box.addEventListener("pointermove", show);
  box.addEventListener("pointerdown", show);
  box.addEventListener("pointerleave", () => { cursor.hidden = true; readout.textContent = note; });
}

// A picture fills the window; a click or a key shows the next of its row in the same place.
const dialog = document.querySelector("dialog"), large = dialog.querySelector("img");
const buttons = [...dialog.querySelectorAll("button")], close = buttons.pop();
let row = null, kind = 0;
function enlarge(next) {
  kind = (next + buttons.length) % buttons.length;
  const picture = row.querySelectorAll("img")[kind];
  large.src = picture.src;
  large.alt = picture.alt;
  dialog.querySelector("span").textContent = row.dataset.title;
  buttons.forEach((button, index) => button.setAttribute("aria-pressed", String(index === kind)));
}
for (const shot of document.querySelectorAll(".shot")) {
  shot.querySelectorAll("button").forEach((button, index) => button.addEventListener("click", () => {
    row = shot;
    enlarge(index);
    dialog.showModal();
  }));
}
buttons.forEach((button, index) => button.addEventListener("click", () => enlarge(index)));
large.addEventListener("click", () => enlarge(kind + 1));
close.addEventListener("click", () => dialog.close());
dialog.addEventListener("keydown", event => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) enlarge(kind + step);
});
