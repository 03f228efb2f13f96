// The segmentation of one view: the linkage tree of its maps, cut where the reader says.

const MOST_DRAWN = 64; // more clusters than that are drawn by patch
const LONGEST_SIDE = 192; // pixels of the drawing

class Segments {
  constructor(view, page) {
    Object.assign(this, { view, page, drawn: "" });
    this.stage = new Stage(view.model);
    pointable(this.stage, () => view.patch(), (patch, told) => page.moveTo(view, patch, told), page.pin, page.layerBy);
    const leaves = view.model.grid[0] * view.model.grid[1];
    this.count = slider("Segments k", `k-${view.number}`, { min: 1, max: Math.min(leaves, MOST_DRAWN), step: 1, value: 1 }, String,
      (value) => page.setCut({ k: value }));
    this.distance = slider("Distance ζ", `zeta-${view.number}`, { min: 0, max: 1, step: 0.01, value: 0.4 },
      (value) => value.toFixed(2), (value) => page.setCut({ zeta: value }));
    this.readout = make("p", { class: "readout" });
    this.element = make("figure", {}, make("h3", {}, "Segments: tokens explained alike"), this.stage.element,
      make("div", { class: "sliders" }, this.count.element, this.distance.element), this.readout);
  }

  // The cut of the tree at hand: its labels, and how many joins were made.
  cut() {
    const { pairs, heights } = this.view.model.methods[this.view.method].layers[this.view.layer];
    const { k, zeta } = this.page.state.cut;
    const joins = k === undefined ? joinsWithin(heights, zeta) : Math.max(heights.length + 1 - k, 0);
    return { ...cutTree(pairs, joins), joins, heights };
  }

  draw(everything) {
    this.stage.mark(this.view.patch());
    this.stage.look(this.page.state);
    if (everything || !this.found) {
      this.found = this.cut();
      this.paint();
      this.adjustSliders();
    }
    this.describe();
  }

  paint() {
    const { labels, count, colours } = this.found, { grid, size } = this.view.model;
    if (count > MOST_DRAWN) {
      this.pixels = labels;
      paintLabels(this.stage.canvas, labels, colours, grid[0], grid[1], 1, false);
      return;
    }
    const shrink = Math.min(1, LONGEST_SIDE / Math.max(...size));
    const [height, width] = size.map((side) => Math.round(side * shrink));
    this.pixels = pixelLabels(this.view.rows(), labels, count, grid, [height, width]);
    // A small picture is drawn larger, so that borders stay thin.
    const times = Math.max(1, Math.floor((2 * LONGEST_SIDE) / Math.max(height, width)));
    paintLabels(this.stage.canvas, this.pixels, colours, height, width, times, true);
  }

  adjustSliders() {
    const { heights, joins, count } = this.found, { zeta } = this.page.state.cut;
    this.distance.input.max = Math.max(Math.ceil(100 * (heights[heights.length - 1] || 0)) / 100, 0.01);
    this.count.set(count);
    this.count.element.querySelector("output").textContent = String(count);
    this.distance.set(zeta === undefined ? (joins ? heights[joins - 1] : 0) : zeta);
    if (zeta === undefined) this.distance.element.querySelector("output").textContent = (joins ? heights[joins - 1] : 0).toFixed(2);
  }

  describe() {
    const { labels, count } = this.found, own = labels[this.view.token()];
    const members = labels.filter((label) => label === own).length;
    const plural = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
    const how = count > MOST_DRAWN ? ", drawn by patch" : "";
    this.readout.replaceChildren(make("b", {}, `${plural(count, "segment")}${how}. `),
      `The token's own: ${plural(members, "patch").replace("patchs", "patches")}.`);
  }
}
