// Elements. Text is only ever set as text: nothing that a page shows becomes markup.

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

function slider(label, id, settings, show, changed) {
  const input = make("input", { type: "range", id, ...settings });
  const output = make("output", { for: id });
  const update = () => {
    output.textContent = show(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.addEventListener("input", () => { update(); changed(Number(input.value)); });
  update();
  const set = (value) => { input.value = value; update(); };
  return { element: make("label", { class: "control" }, make("span", {}, label), input, output), input, set };
}

function choice(label, id, options, value, changed) {
  const select = make("select", { id });
  options.forEach(([each, text]) => select.append(make("option", { value: each, selected: each === value }, text)));
  select.addEventListener("change", () => changed(select.value));
  return make("label", { class: "control" }, make("span", {}, label), select);
}

function checkbox(label, id, value, changed) {
  const input = make("input", { type: "checkbox", id, checked: value });
  input.addEventListener("change", () => changed(input.checked));
  return make("label", { class: "control" }, input, make("span", {}, label));
}

function legend() {
  const low = make("span"), top = make("span");
  const bar = make("div", { class: "bar" });
  return {
    element: make("div", { class: "legend" }, make("span", {}, "relevance"), low, bar, top),
    // What lies beyond the ends takes their colour.
    show(value, isSigned, beyond) {
      low.textContent = isSigned ? `${beyond ? "≤ " : ""}${brief(-value)}` : "0";
      top.textContent = `${beyond ? "≥ " : ""}${brief(value)}`;
      bar.style.background = gradient(isSigned);
    },
  };
}

// What a screen reader is told: after a pause, so that quick moves do not queue up.
const announce = (() => {
  let timer = 0;
  return (text) => {
    clearTimeout(timer);
    timer = setTimeout(() => { document.getElementById("live").textContent = text; }, 120);
  };
})();
