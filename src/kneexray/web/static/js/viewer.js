// The film viewer: pan, zoom, window and level, heatmap. The film with its boxes is complete without this script.
const stage = document.getElementById("stage");

if (stage) {
  const at = (id) => document.getElementById(id);
  const film = at("film");
  const world = at("world");
  const said = at("said");
  const { width, height } = film.viewBox.baseVal;
  const boxes = [...document.querySelectorAll("#boxes .box")];
  const home = { x: 0, y: 0, zoom: 1 };
  let view = { ...home };
  let inverted = false;

  const percent = (share) => `${Math.round(share * 100)} %`;
  const button = (name) => document.querySelector(`[data-do=${name}]`);
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  /** CSS pixels that one pixel of the film takes while the whole film is in view. */
  const fitted = () => {
    const frame = film.getBoundingClientRect();
    return Math.min(frame.width / width, frame.height / height);
  };

  function move({ x, y, zoom }, { aloud = false } = {}) {
    zoom = clamp(zoom, 1, Math.max(8, 8 / fitted()));
    x = clamp(x, width * (0.5 - zoom), width * 0.5); // the film never leaves the middle
    y = clamp(y, height * (0.5 - zoom), height * 0.5);
    view = zoom === 1 ? { ...home } : { x, y, zoom };
    world.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.zoom})`);
    const type = 13 / (fitted() * view.zoom); // film pixels: the labels keep their size on the screen
    for (const text of film.querySelectorAll("#boxes text")) text.setAttribute("font-size", type);
    stage.classList.toggle("zoomed", view.zoom > 1);
    at("zoom").value = percent(view.zoom);
    if (aloud) said.textContent = said.dataset.zoom.replace("{percent}", percent(view.zoom));
  }

  /** Zoom by `factor` about a point of the screen, by default the middle of the stage. */
  function zoomBy(factor, point = middle(), options = {}) {
    const { x, y } = toFilm(point);
    const zoom = clamp(view.zoom * factor, 1, Math.max(8, 8 / fitted()));
    const ratio = zoom / view.zoom;
    move({ x: x - (x - view.x) * ratio, y: y - (y - view.y) * ratio, zoom }, options);
  }

  function panBy(dx, dy) {
    const share = 1 / fitted();
    move({ ...view, x: view.x + dx * share, y: view.y + dy * share });
  }

  function show(box) {
    const { x, y, width: w, height: h } = Object.fromEntries(Object.entries(box.dataset).map(([k, v]) => [k, Number(v)]));
    const zoom = Math.max(1, Math.min((stage.clientWidth / fitted()) / w, (stage.clientHeight / fitted()) / h) * 0.9);
    move({ x: width / 2 - (x + w / 2) * zoom, y: height / 2 - (y + h / 2) * zoom, zoom }, { aloud: true });
  }

  /** A point of the screen in pixels of the film as it lies when it fits. */
  function toFilm({ x, y }) {
    return new DOMPoint(x, y).matrixTransform(film.getScreenCTM().inverse());
  }

  function middle() {
    const { left, top, width: w, height: h } = stage.getBoundingClientRect();
    return { x: left + w / 2, y: top + h / 2 };
  }

  // Window and level as in DICOM PS3.3 C.11.2.1.2, in percent of the display range: out = (in - level) / width + 1/2.
  function shade() {
    const level = at("level").value / 100;
    const span = at("width").value / 100;
    const sign = inverted ? -1 : 1;
    const plain = level === 0.5 && span === 1 && !inverted;
    for (const channel of film.querySelectorAll("#window feFuncR, #window feFuncG, #window feFuncB")) {
      channel.setAttribute("slope", sign / span);
      channel.setAttribute("intercept", 0.5 - (sign * level) / span);
    }
    if (plain) at("bone").removeAttribute("filter");
    else at("bone").setAttribute("filter", "url(#window)");
    for (const id of ["level", "width"]) at(id).setAttribute("aria-valuetext", `${at(id).value} %`);
  }

  function heat() {
    at("heat").setAttribute("opacity", at("heat-opacity").value / 100);
    at("heat-opacity").setAttribute("aria-valuetext", `${at("heat-opacity").value} %`);
  }

  function press(name, on) {
    button(name).setAttribute("aria-pressed", on);
  }

  function reset() {
    at("tools").reset();
    inverted = false;
    press("invert", false);
    press("boxes", true);
    at("boxes").removeAttribute("display");
    heat();
    shade();
    move(home, { aloud: true });
  }

  const actions = {
    in: () => zoomBy(1.25, middle(), { aloud: true }),
    out: () => zoomBy(0.8, middle(), { aloud: true }),
    fit: () => move(home, { aloud: true }),
    invert: () => {
      inverted = !inverted;
      press("invert", inverted);
      shade();
    },
    boxes: () => {
      const hidden = at("boxes").getAttribute("display") === "none";
      press("boxes", hidden);
      if (hidden) at("boxes").removeAttribute("display");
      else at("boxes").setAttribute("display", "none");
    },
    heat: () => {
      const slider = at("heat-opacity");
      slider.value = Number(slider.value) ? 0 : 100;
      heat();
    },
    reset,
  };

  const keys = {
    "+": actions.in, "=": actions.in, "-": actions.out, 0: actions.fit, i: actions.invert, b: actions.boxes, h: actions.heat, r: reset,
    ArrowLeft: () => panBy(40, 0), ArrowRight: () => panBy(-40, 0), ArrowUp: () => panBy(0, 40), ArrowDown: () => panBy(0, -40),
    PageDown: () => document.querySelector("[rel=next]")?.click(), PageUp: () => document.querySelector("[rel=prev]")?.click(),
  };

  stage.addEventListener("keydown", (event) => {
    const act = event.ctrlKey || event.metaKey || event.altKey ? null : keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  at("tools").addEventListener("submit", (event) => event.preventDefault());
  at("tools").addEventListener("click", (event) => actions[event.target.closest("[data-do]")?.dataset.do]?.());
  at("heat-opacity").addEventListener("input", heat);
  for (const id of ["level", "width"]) at(id).addEventListener("input", shade);

  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const step = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 0.05 : 0.0015;
    zoomBy(Math.exp(-event.deltaY * step), { x: event.clientX, y: event.clientY });
  }, { passive: false });

  // One finger or button pans, two fingers pinch; the right button, or Shift, drags window (across) and level (up and down).
  const pointers = new Map();
  stage.addEventListener("pointerdown", (event) => {
    if (event.button === 1) return;
    stage.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, shading: event.button === 2 || event.shiftKey });
    stage.classList.add("dragging");
  });
  stage.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const now = { ...before, x: event.clientX, y: event.clientY };
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    pointers.set(event.pointerId, now);
    if (other) {
      const spread = (p) => Math.hypot(p.x - other.x, p.y - other.y);
      panBy((now.x - before.x) / 2, (now.y - before.y) / 2);
      zoomBy(spread(now) / Math.max(spread(before), 1), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
    } else if (before.shading) {
      at("width").value = Number(at("width").value) + (now.x - before.x) / 3;
      at("level").value = Number(at("level").value) + (now.y - before.y) / 3;
      shade();
    } else panBy(now.x - before.x, now.y - before.y);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, (event) => {
      pointers.delete(event.pointerId);
      stage.classList.toggle("dragging", pointers.size > 0);
    });
  }
  stage.addEventListener("contextmenu", (event) => event.preventDefault());
  stage.addEventListener("dblclick", (event) => (view.zoom > 1 ? actions.fit() : zoomBy(2, { x: event.clientX, y: event.clientY })));

  for (const card of document.querySelectorAll(".knee")) {
    const box = boxes.find((one) => one.dataset.knee === card.dataset.knee);
    if (!box) continue; // a knee on another frame of the file
    const mark = (on) => {
      card.classList.toggle("on", on);
      box.classList.toggle("on", on);
    };
    for (const start of ["pointerenter", "focusin"]) card.addEventListener(start, () => mark(true));
    for (const end of ["pointerleave", "focusout"]) card.addEventListener(end, () => mark(false));
    const button = card.querySelector(".show");
    button.hidden = false;
    button.addEventListener("click", () => {
      show(box);
      stage.scrollIntoView({ block: "nearest" });
    });
  }
  document.querySelector(".strip [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

  at("tools").hidden = false;
  new ResizeObserver(() => move(view)).observe(stage);
  heat();
  shade();
}
