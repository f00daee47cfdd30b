// Everything can be read without this script: it only fades the heatmaps, and filters and sorts the cards.
"use strict";
const at = (id) => document.getElementById(id);
const knees = [...document.querySelectorAll(".knee")];
const nameOf = (knee) => knee.querySelector(".name").textContent;
const keys = {
  read: () => 0,
  grade: (a, b) => b.dataset.grade - a.dataset.grade,
  sure: (a, b) => a.dataset.sure - b.dataset.sure,
  name: (a, b) => nameOf(a).localeCompare(nameOf(b), undefined, { numeric: true }),
};

function filter() {
  const wanted = at("name").value.toLowerCase();
  let shown = 0;
  for (const knee of knees) {
    knee.hidden =
      (at("label").value !== "" && knee.dataset.label !== at("label").value) ||
      (at("warned").checked && knee.dataset.warned !== "1") ||
      !nameOf(knee).toLowerCase().includes(wanted);
    shown += !knee.hidden;
  }
  at("count").value = `${shown} of ${knees.length} knees`;
}

const labels = new Map(knees.map((knee) => [knee.dataset.label, Number(knee.dataset.grade)]));
for (const [label] of [...labels].sort((a, b) => a[1] - b[1])) at("label").add(new Option(label, label));
at("heat").addEventListener("input", (event) => document.body.style.setProperty("--heat", event.target.value / 100));
at("order").addEventListener("change", () => at("knees").append(...[...knees].sort(keys[at("order").value])));
for (const id of ["label", "warned", "name"]) at(id).addEventListener("input", filter);
const controls = document.querySelector(".controls");
controls.addEventListener("submit", (event) => event.preventDefault());
controls.reset();
filter();
controls.hidden = knees.length === 0;

for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const text = button.parentElement.querySelector(".said").innerText;
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  });
}
