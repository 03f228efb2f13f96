"use strict";
// Asks the server for samples and explanations, and draws them. What the server says is only ever set as text.

const VIRIDIS = "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1fa088 28ae80 3fbc73 5ec962 84d44b addc30 d8e219 fde725";
const BLUE_ORANGE = "053c6e 15598f 2f79ae 5799c6 86b6d6 b0d0e4 d3e4ee ebf0f3 f7f6f2 f8ead7 f9d7b0 f9bd83 f3a055 e58232 cb6318 a5480c 7a3205";
const PAGE = 24;
const SMALL = 160; // pixels of a picture that is enlarged without smoothing
const at = (id) => document.getElementById(id);
const state = { config: null, sample: null, model: 0, method: null, arguments: {}, target: null, opacity: 0.75, shown: null };
let asking = false, again = false;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined && value !== null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

const control = (label, input) => make("label", { class: "control" }, make("span", {}, label), input);
const brief = (value) => (value === 0 ? "0" : Number(value.toPrecision(3)).toString());

function say(text, wrong = false) {
  at("status").textContent = text;
  at("status").classList.toggle("wrong", wrong);
}

async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let answer, data;
  try {
    answer = await fetch(path, options);
    data = await answer.json();
  } catch {
    throw new Error("the server does not answer; is its program still running?");
  }
  if (!answer.ok) throw new Error(data.error);
  return data;
}

// ---- samples

async function list() {
  const start = at("samples").children.length;
  const { samples, more } = await ask("samples", { start, count: PAGE });
  for (const each of samples) {
    const button = make("button", { type: "button", class: "sample", "aria-pressed": "false", onclick: () => choose(each.index) });
    if (each.thumbnail) button.append(make("img", { src: each.thumbnail, alt: "" }));
    button.append(each.words ?? each.label ?? `sample ${each.index}`);
    if (each.error) button.append(make("div", { class: "quiet" }, each.error));
    if (each.words && each.label) button.append(make("div", { class: "quiet" }, each.label));
    button.setAttribute("aria-label", `sample ${each.index}${each.label ? `, ${each.label}` : ""}`);
    at("samples").append(button);
  }
  at("more").hidden = !more;
  if (state.sample === null && samples.length) choose((samples.find((each) => !each.error) ?? samples[0]).index);
  else if (!at("samples").children.length) say("The dataset has no sample.");
}

function choose(index) {
  state.sample = index;
  state.target = null;
  [...at("samples").children].forEach((each, number) => each.setAttribute("aria-pressed", String(number === index)));
  at("explorer").replaceChildren();
  update();
}

// ---- method and arguments

const method = () => state.config.methods.find((each) => each.name === state.method);

function field(name, told) {
  const value = state.arguments[name] ?? told.value;
  const changed = (event) => { if (event.target.checkValidity()) { state.arguments[name] = event.target.value; update(); } };
  if (told.kind === "choice") {
    const select = make("select", { id: `argument-${name}`, onchange: changed });
    told.options.forEach((each) => select.append(make("option", { value: each, selected: each === value }, each)));
    return select;
  }
  const numeric = told.kind === "number";
  return make("input", {
    id: `argument-${name}`, type: numeric ? "number" : "text", value: String(value), min: told.low, max: told.high, step: numeric ? 1 : null,
    title: numeric ? null : "an index (0 is the first token), or row and column of a patch",
    pattern: numeric ? null : "\\s*-?\\d+([\\s,]+\\d+)?\\s*", required: true, onchange: changed,
  });
}

function controls() {
  const parts = [];
  if (state.config.models.length > 1) {
    const select = make("select", { id: "model", onchange: () => { state.model = Number(select.value); at("explorer").replaceChildren(); update(); } });
    state.config.models.forEach((name, number) => select.append(make("option", { value: number, selected: number === state.model }, `${number}: ${name}`)));
    parts.push(control("model", select));
  }
  const select = make("select", { id: "method", onchange: () => { state.method = select.value; state.arguments = {}; controls(); update(); } });
  state.config.methods.forEach(({ name }) => select.append(make("option", { value: name, selected: name === state.method }, name)));
  parts.push(control("method", select));
  for (const [name, told] of Object.entries(method().parameters)) parts.push(control(name.replaceAll("_", " "), field(name, told)));
  if (state.config.kind === "image") {
    parts.push(control("opacity", make("input", {
      id: "opacity", type: "range", min: 0, max: 1, step: 0.05, value: state.opacity,
      oninput: (event) => { state.opacity = Number(event.target.value); if (state.shown) draw(); },
    })));
  }
  at("controls").replaceChildren(...parts);
}

function token(text) {
  state.arguments.token = text;
  at("argument-token").value = text;
  update();
}

// ---- one request at a time; what changed meanwhile is asked for behind it

async function update() {
  if (asking) { again = true; return; }
  if (state.sample === null) return;
  asking = true;
  at("result").setAttribute("aria-busy", "true");
  const asked = { sample: state.sample, model: state.model, method: state.method, target: state.target, arguments: { ...state.arguments } };
  try {
    const shown = await ask("explain", asked);
    if (!again) { state.shown = { ...shown, explains: method().explains }; draw(); }
  } catch (error) {
    if (!again) { state.shown = null; at("result").replaceChildren(); at("classes").replaceChildren(); say(error.message, true); }
  }
  asking = false;
  at("result").setAttribute("aria-busy", "false");
  if (again) { again = false; update(); }
}

// ---- drawing

function shade(share, signed) {
  const stops = (signed ? BLUE_ORANGE : VIRIDIS).split(" ");
  const place = Math.min(Math.max(signed ? (share + 1) / 2 : share, 0), 1) * (stops.length - 1);
  const low = Math.min(Math.floor(place), stops.length - 2);
  return [0, 2, 4].map((c) => {
    const [a, b] = [stops[low], stops[low + 1]].map((hex) => parseInt(hex.slice(c, c + 2), 16));
    return Math.round(a + (place - low) * (b - a));
  });
}

function paint(canvas, { map, shape: [height, width], signed }) {
  const bytes = Uint8Array.from(atob(map), (character) => character.charCodeAt(0));
  const colours = Array.from({ length: 256 }, (_, step) => shade(signed ? step / 127.5 - 1 : step / 255, signed));
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  bytes.forEach((step, i) => {
    const [red, green, blue] = colours[step];
    image.data.set([red, green, blue, 255], 4 * i);
  });
  context.putImageData(image, 0, 0);
}

function legend({ high, signed }) {
  const bar = make("canvas", { width: 128, height: 1, "aria-hidden": "true" });
  const context = bar.getContext("2d");
  for (let x = 0; x < 128; x++) {
    context.fillStyle = `rgb(${shade(signed ? x / 63.5 - 1 : x / 127, signed)})`;
    context.fillRect(x, 0, 1, 1);
  }
  return make("div", { class: "legend" }, make("span", {}, "relevance"), make("span", {}, signed ? brief(-high) : "0"), bar, make("span", {}, brief(high)));
}

function stage(shown, kind) {
  const crisp = Math.max(...shown.shape) < SMALL ? " crisp" : "";
  const box = make("div", { class: `stage ${kind}${crisp}` }, make("img", { src: shown.picture, alt: kind === "map" ? "map over the image" : "image" }));
  box.style.aspectRatio = `${shown.shape[1]} / ${shown.shape[0]}`;
  if (kind === "map") {
    const canvas = make("canvas", { id: "map" });
    canvas.style.opacity = state.opacity;
    paint(canvas, shown);
    box.append(canvas);
  }
  if (shown.patch && shown.grid) {
    const ring = make("div", { class: "ring" }), [row, column] = shown.patch, [rows, columns] = shown.grid;
    Object.assign(ring.style, { left: `${100 * column / columns}%`, top: `${100 * row / rows}%`, width: `${100 / columns}%`, height: `${100 / rows}%` });
    box.append(ring);
  }
  if (shown.explains === "token" && shown.grid) {
    box.classList.add("choose");
    box.addEventListener("click", (event) => {
      const frame = box.getBoundingClientRect(), [rows, columns] = shown.grid;
      const place = (share, count) => Math.min(Math.max(Math.floor(share * count), 0), count - 1);
      token(`${place((event.clientY - frame.top) / frame.height, rows)} ${place((event.clientX - frame.left) / frame.width, columns)}`);
    });
  }
  return box;
}

function words(shown) {
  const box = make("div", { class: "text" });
  shown.words.forEach((word, index) => {
    const share = shown.values[index];
    const pressed = index === shown.token;
    const element = make(shown.explains === "token" ? "button" : "span", { class: pressed ? "word here" : "word", title: brief(share * shown.high), "data-share": share }, word);
    element.style.backgroundColor = `rgba(${share < 0 ? "86, 180, 233" : "245, 124, 32"}, ${0.9 * Math.abs(share)})`;
    if (shown.explains === "token") element.addEventListener("click", () => token(String(index)));
    box.append(element, " ");
  });
  return box;
}

function draw() {
  const shown = state.shown, what = shown.explains === "class" ? (state.config.classes[shown.target] ?? "the predicted class") : null;
  if (state.config.kind === "text") {
    const scale = `relevance: the strongest colour is ${brief(shown.high)}${shown.signed ? ", blue is against" : ""}`;
    at("result").replaceChildren(words(shown), make("div", { class: "legend" }, scale));
  }
  else {
    at("result").replaceChildren(
      make("figure", {}, make("figcaption", {}, shown.explains === "token" ? "image: click to choose a token" : "image"), stage(shown, "image")),
      make("figure", {}, make("figcaption", {}, what ? `relevance for ${what}` : "relevance for the token"), stage(shown, "map"), legend(shown)),
    );
  }
  const chips = shown.predictions.map(({ index, label, score }) => make("button", {
    type: "button", "aria-pressed": String(shown.explains === "class" && index === shown.target), disabled: shown.explains !== "class",
    onclick: () => { state.target = index; update(); },
  }, `${label} ${score === null ? "beyond all numbers" : score.toFixed(2)}`));
  if (chips.length) chips.unshift(make("span", { class: "quiet" }, "the model sees"));
  if (shown.label !== null) chips.push(make("span", { class: "quiet" }, `true class: ${shown.label}`));
  at("classes").replaceChildren(...chips);
  at("explore").hidden = !(state.config.kind === "image" && shown.grid);
  say(`${shown.high === 0 ? "This map is zero everywhere. " : ""}Computed in ${shown.milliseconds} ms.`);
}

function explore() {
  const title = `All tokens of sample ${state.sample}`;
  const loaded = () => say(`${title} are below.`);
  say("Explaining all tokens of this sample …");
  at("explorer").replaceChildren(make("iframe", { src: `explorer?sample=${state.sample}&model=${state.model}&key=${state.config.key}`, title, onload: loaded }));
}

function theme() {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  return dark ? "dark" : "light";
}

function showTheme() { at("theme").textContent = theme() === "dark" ? "Light" : "Dark"; }

async function begin() {
  at("theme").addEventListener("click", () => { document.documentElement.dataset.theme = theme() === "dark" ? "light" : "dark"; showTheme(); });
  at("more").addEventListener("click", () => list().catch((error) => say(error.message, true)));
  at("explore").addEventListener("click", explore);
  at("controls").addEventListener("submit", (event) => event.preventDefault());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
  showTheme();
  try {
    state.config = await ask("config");
    state.method = state.config.methods[0].name;
    at("title").textContent = `Token visualizer: ${state.config.name}`;
    if (state.config.kind === "text") at("samples").classList.add("words");
    controls();
    await list();
  } catch (error) { say(error.message, true); }
}

begin();
