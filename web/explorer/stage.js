// A picture with a canvas over it, and the ring around the token.

const share = (part) => `${(100 * part).toFixed(4)}%`;

class Stage {
  constructor(model, attributes = {}) {
    this.model = model;
    this.canvas = make("canvas", { width: 1, height: 1 });
    this.ring = make("div", { class: "ring" });
    const [height, width] = model.size;
    this.element = make(
      "div", { class: "stage", ...attributes },
      make("img", { src: model.picture, alt: "", draggable: "false" }), this.canvas, this.ring,
    );
    this.element.style.aspectRatio = `${width} / ${height}`;
  }

  mark([row, column]) {
    const [rows, columns] = this.model.grid;
    this.ring.style.cssText =
      `left: ${share(column / columns)}; top: ${share(row / rows)}; width: ${share(1 / columns)}; height: ${share(1 / rows)}`;
  }

  look({ opacity, smooth }) {
    this.canvas.style.opacity = opacity;
    this.canvas.className = smooth ? "" : "crisp";
  }

  // The patch under a pointer.
  patchAt(event) {
    const box = this.element.getBoundingClientRect();
    const within = (place, count) => Math.min(Math.max(Math.floor(place * count), 0), count - 1);
    const [rows, columns] = this.model.grid;
    return [within((event.clientY - box.top) / box.height, rows), within((event.clientX - box.left) / box.width, columns)];
  }
}

// Pointing at patches with a mouse, a finger or the arrow keys.
function pointable(stage, here, moved, pin, layerBy) {
  const { element, model } = stage;
  element.addEventListener("pointermove", (event) => moved(stage.patchAt(event), false));
  element.addEventListener("pointerdown", (event) => moved(stage.patchAt(event), false));
  element.addEventListener("click", (event) => { if (event.pointerType !== "touch") pin(); });
  element.addEventListener("keydown", (event) => {
    const [rows, columns] = model.grid;
    let [row, column] = here();
    const steps = {
      ArrowUp: () => row--, ArrowDown: () => row++, ArrowLeft: () => column--, ArrowRight: () => column++,
      Home: () => { column = 0; }, End: () => { column = columns - 1; },
    };
    if (steps[event.key]) {
      steps[event.key]();
      moved([Math.min(Math.max(row, 0), rows - 1), Math.min(Math.max(column, 0), columns - 1)], true);
    } else if (event.key === "Enter" || event.key === " ") pin();
    else if (event.key === "PageUp") layerBy(1);
    else if (event.key === "PageDown") layerBy(-1);
    else return;
    event.preventDefault();
  });
}
