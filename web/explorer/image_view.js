// One model and one method over a picture: the map of the token, all layers, and the segmentation.

class ImageView {
  constructor(model, told, number, page) {
    Object.assign(this, { model, page, number, method: told.method });
    const hint = "arrow keys move, Enter pins, Page Up and Page Down change the layer";
    this.stage = new Stage(model, {
      tabindex: "0", role: "application", "aria-roledescription": "patches of the picture",
      "aria-label": `${model.name}: explanation of a patch; ${hint}`,
    });
    pointable(this.stage, () => this.patch(), (patch, told) => page.moveTo(this, patch, told), page.pin, page.layerBy);
    this.legend = legend();
    this.readout = make("p", { class: "readout" });
    this.strip = make("div", { class: "strip", role: "group", "aria-label": "All layers" });
    this.small = model.layers.map((layer, index) => this.layerButton(layer, index));
    const explanation = make("figure", {}, make("h3", {}, "Explanation of the token"), this.stage.element, this.legend.element, this.readout);
    const figures = make("div", { class: "figures" }, explanation);
    this.segments = model.methods.every((method) => method.layers[0].joins) ? new Segments(this, page) : null;
    if (this.segments) figures.append(this.segments.element);
    const choose = choice("Method", `method-${number}`, model.methods.map((each, i) => [String(i), each.label]), String(this.method),
      (value) => { this.method = Number(value); this.draw(true); page.pinsChanged(); });
    this.element = make("section", { class: "view", "aria-label": `${model.name}` },
      make("header", {}, make("h2", {}, model.name), choose), figures,
      make("h3", { class: "strip-title" }, "All layers"), this.strip);
  }

  layerButton(layer, index) {
    const stage = new Stage(this.model);
    const button = make("button", { type: "button", class: "small", "aria-pressed": "false", "aria-label": `Layer ${layer}` },
      stage.element, String(layer));
    button.addEventListener("click", () => this.page.setLayer(this.page.indexOf(this.model, index)));
    this.strip.append(button);
    return { button, stage };
  }

  // The number of the layer among those of this model, where models of other depth stand beside it.
  get layer() { return this.page.layerOf(this.model); }
  get signed() { return this.model.methods[this.method].signed; }

  patch() {
    const [rows, columns] = this.model.grid, { y, x } = this.page.state;
    return [Math.min(Math.floor(y * rows), rows - 1), Math.min(Math.floor(x * columns), columns - 1)];
  }

  token([row, column] = this.patch()) { return row * this.model.grid[1] + column; }
  rows(layer = this.layer) { return this.model.methods[this.method].layers[layer].rows; }
  values(layer = this.layer, token = this.token()) { return this.rows(layer).row(token); }

  draw(everything) {
    const patch = this.patch(), values = this.values(), top = high(values);
    this.paint(this.stage, values, patch, top);
    this.legend.show(top, this.signed, values.some((value) => Math.abs(value) > top));
    this.small.forEach(({ button, stage }, index) => {
      this.paint(stage, this.values(index), patch);
      button.setAttribute("aria-pressed", String(index === this.layer));
    });
    if (this.segments) this.segments.draw(everything);
    this.describe(patch, values);
  }

  paint(stage, values, patch, top = high(values)) {
    const [rows, columns] = this.model.grid;
    paintMap(stage.canvas, values, rows, columns, top, this.signed);
    stage.mark(patch);
    stage.look(this.page.state);
  }

  // The token and the patches that it rests on most; its own entry is that of the strongest other.
  describe(patch, values) {
    const own = this.token(patch), columns = this.model.grid[1];
    const best = [...values.keys()].filter((i) => i !== own).sort((a, b) => values[b] - values[a]).slice(0, 3);
    const strongest = best.map((i) => `(${Math.floor(i / columns)}, ${i % columns}) ${brief(values[i])}`).join(", ");
    const layer = this.model.layers[this.layer], zero = values.every((value) => value === 0);
    const found = zero ? "Zero: no relevance" : `Strongest: ${strongest || "none"}`;
    this.readout.replaceChildren(make("b", {}, `Token (${patch.join(", ")}), layer ${layer}. `), found);
    this.said = `Row ${patch[0]}, column ${patch[1]}, layer ${layer}. ${found}.`;
  }
}
