// The start page: drop or pick films, send them in one request, show what becomes of each, then open the results.
// Without this script the form sends the same films and the server answers with the results page.
const form = document.getElementById("upload");
const words = JSON.parse(form.dataset.words);
const picker = form.querySelector("input[type=file]");
const lightbox = document.querySelector(".lightbox");
const queue = document.getElementById("queue");
const list = document.getElementById("files");
const state = document.getElementById("state");
const problem = document.getElementById("problem");

document.documentElement.classList.add("scripted");

const say = (key, values = {}) => words[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

function row(file) {
  const item = document.createElement("li");
  const name = document.createElement("bdi");
  const small = document.createElement("small");
  const bar = document.createElement("progress");
  const outcome = document.createElement("span");
  name.textContent = file.name;
  name.title = file.name;
  small.textContent = ` ${size(file.size)}`;
  name.append(small);
  bar.max = 1;
  bar.value = 0;
  bar.setAttribute("aria-label", say("progress", { file: file.name }));
  outcome.className = "outcome";
  outcome.textContent = say("waiting");
  item.append(name, bar, outcome);
  list.append(item);
  return { file, bar, outcome, films: 0, knees: 0, reasons: [] };
}

/** Spread the bytes sent so far over the files, in order. */
function sent(rows, loaded) {
  for (const entry of rows) {
    const share = Math.min(Math.max(loaded / entry.file.size, 0), 1) || 0;
    loaded -= entry.file.size;
    if (entry.films) continue;
    entry.bar.value = share * 0.9;
    if (share === 1) {
      entry.bar.removeAttribute("value"); // the server has it and says nothing yet
      entry.outcome.textContent = say("grading");
    } else if (share > 0) entry.outcome.textContent = say("sending");
  }
}

/** Note what the server said of one film: of a file, or of a member of an archive. */
function graded(rows, line) {
  const entry = rows.find((one) => one.file.name === line.file && !one.films) ?? rows.find((one) => line.file.startsWith(`${one.file.name}!/`));
  if (!entry) return;
  entry.films += 1;
  entry.knees += new Set(line.predictions.map((p) => p.knee.box.join())).size;
  entry.reasons.push(...line.rejections.map((r) => words[`reason.${r.reason}`] ?? r.reason));
  entry.bar.value = 1;
  entry.outcome.classList.add(entry.knees ? "graded" : "refused");
  entry.outcome.classList.toggle("refused", !entry.knees);
  entry.outcome.textContent = entry.knees ? say(entry.knees === 1 ? "knee" : "knees", { n: entry.knees }) : (entry.reasons[0] ?? "");
}

/** POST `body` and hand each line of the streamed answer to `heard`; resolves with the last one. */
function post(url, body, { progress, heard, stop }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch says nothing of what was sent so far
    let read = 0;
    let last = null;
    const hear = () => {
      for (let end = request.responseText.indexOf("\n", read); end >= 0; end = request.responseText.indexOf("\n", read)) {
        const text = request.responseText.slice(read, end).trim();
        read = end + 1;
        if (text) heard((last = JSON.parse(text)));
      }
    };
    request.open("POST", url);
    request.setRequestHeader("Accept", "application/x-ndjson");
    request.upload.addEventListener("progress", (event) => progress(event.loaded));
    request.addEventListener("progress", () => request.status === 200 && hear());
    request.addEventListener("load", () => {
      if (request.status !== 200) return reject(new Error(described(request)));
      hear();
      return last?.visit ? resolve(last) : reject(new Error(say("broken")));
    });
    request.addEventListener("error", () => reject(new Error(say("unreachable"))));
    request.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")));
    stop.addEventListener("click", () => request.abort(), { once: true });
    request.send(body);
  });
}

/** What an answer of application/problem+json (RFC 9457) says went wrong. */
function described(request) {
  try {
    const { detail, remedy, title } = JSON.parse(request.responseText);
    return [detail ?? title, remedy].filter(Boolean).join(" ");
  } catch {
    return say("status", { status: request.status });
  }
}

async function send(files) {
  const chosen = [...files];
  if (!chosen.length || form.inert) return;
  list.replaceChildren();
  problem.hidden = true;
  queue.hidden = false;
  const rows = chosen.map(row);
  const body = new FormData();
  for (const file of chosen) body.append("files", file);
  let done = 0;
  form.inert = true;
  state.textContent = say("busy", { n: chosen.length });
  queue.scrollIntoView({ block: "nearest" });
  document.getElementById("queue-title").focus({ preventScroll: true });
  try {
    const last = await post(`${form.dataset.api}/predict`, body, {
      progress: (loaded) => sent(rows, loaded),
      heard: (line) => {
        done += 1;
        graded(rows, line);
        state.textContent = say("done", { n: done });
      },
      stop: document.getElementById("stop"),
    });
    state.textContent = say("opening");
    leadTo(last.visit);
  } catch (error) {
    failed(error, rows);
  }
}

function failed(error, rows) {
  for (const entry of rows.filter((one) => !one.films)) {
    entry.bar.value = 0;
    entry.outcome.textContent = say("stopped");
  }
  form.inert = false;
  state.textContent = "";
  problem.textContent = error.name === "AbortError" ? say("aborted") : error.message;
  problem.hidden = false;
  picker.value = "";
}

function leadTo(visit) {
  const [path, query] = form.dataset.visit.split("?");
  location.assign(path + visit + (query ? `?${query}` : ""));
}

picker.addEventListener("change", () => send(picker.files));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  send(picker.files);
});

let depth = 0; // dragenter and dragleave also come from every child
const lit = (change) => {
  depth = Math.max(0, depth + change);
  lightbox.classList.toggle("over", depth > 0);
};
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragenter", (event) => carriesFiles(event) && lit(1));
document.addEventListener("dragleave", (event) => carriesFiles(event) && lit(-1));
document.addEventListener("dragover", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault(); // the whole page takes a drop: a film let go beside the box must not replace the page
  event.dataTransfer.dropEffect = "copy";
});
document.addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  lit(-depth);
  send(event.dataTransfer.files);
});
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload(); // back from the results: a fresh form
});
