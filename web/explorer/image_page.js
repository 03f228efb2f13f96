// The page of an image: what its views share, and the controls.

class ImagePage {
  constructor(told) {
    this.told = told;
    this.depth = Math.max(...told.models.map((model) => model.layers.length));
    this.state = { layer: this.depth - 1, y: 0.5, x: 0.5, opacity: 0.65, smooth: true, cut: { zeta: 0.4 } };
    this.pin = () => this.pins.pin();
    this.layerBy = (step) => this.setLayer(this.state.layer + step);
    this.views = told.views.map((view, number) => new ImageView(told.models[view.model], view, number, this));
    this.pins = new Pins(this.views, this);
    this.element = make("div", {}, make("div", { class: "views" }, ...this.views.map((view) => view.element)), this.pins.element);
  }

  controls() {
    const models = this.told.models;
    const named = (index) => {
      const layers = [...new Set(models.map((model) => model.layers[this.layerOf(model, index)]))];
      return layers.join(" / ");
    };
    this.layerSlider = slider("Layer", "layer", { min: 0, max: this.depth - 1, step: 1, value: this.state.layer }, named,
      (value) => this.setLayer(value));
    const opacity = slider("Opacity", "opacity", { min: 0, max: 1, step: 0.05, value: this.state.opacity },
      (value) => `${Math.round(100 * value)} %`, (value) => { this.state.opacity = value; this.draw(false); this.pinsChanged(); });
    const smooth = checkbox("Smooth", "smooth", this.state.smooth, (value) => { this.state.smooth = value; this.draw(false); this.pinsChanged(); });
    return [this.layerSlider.element, opacity.element, smooth];
  }

  // Layers of a shallower model stand at the same share of its depth.
  layerOf(model, index = this.state.layer) {
    return this.depth === 1 ? 0 : Math.round((index / (this.depth - 1)) * (model.layers.length - 1));
  }

  indexOf(model, layer) {
    return model.layers.length === 1 ? this.state.layer : Math.round((layer / (model.layers.length - 1)) * (this.depth - 1));
  }

  moveTo(view, [row, column], tell) {
    const [rows, columns] = view.model.grid;
    this.state.y = (row + 0.5) / rows;
    this.state.x = (column + 0.5) / columns;
    this.draw(false);
    if (tell) announce(view.said);
  }

  setLayer(index) {
    this.state.layer = Math.min(Math.max(index, 0), this.depth - 1);
    this.layerSlider.set(this.state.layer);
    this.draw(true);
    this.pinsChanged();
    announce(this.views[0].said);
  }

  setCut(cut) {
    this.state.cut = cut;
    for (const view of this.views) if (view.segments) view.segments.draw(true);
  }

  pinsChanged() { this.pins.draw(); }
  draw(everything) { for (const view of this.views) view.draw(everything); }

  help() {
    return "Point at a patch. Every map says which patches of the picture the token under the pointer rests on after so many " +
      "layers; the token's own entry is shown as high as the strongest other one. " +
      `Maps are stored in ${this.told.models[0].levels} steps each.`;
  }
}
