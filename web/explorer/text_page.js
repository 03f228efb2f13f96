// The page of a text: what its views share, and the controls.

class TextPage {
  constructor(told) {
    this.told = told;
    this.depth = Math.max(...told.models.map((model) => model.layers.length));
    this.state = { layer: this.depth - 1, pointed: null, held: null, level: "token", direction: "both", sink: false };
    this.views = told.views.map((view, number) => new TextView(told.models[view.model], view, number, this));
    this.element = make("div", { class: "views" }, ...this.views.map((view) => view.element));
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") this.hold(null); });
  }

  controls() {
    const named = (index) => [...new Set(this.told.models.map((model) => model.layers[this.layerOf(model, index)]))].join(" / ");
    const layer = slider("Layer", "layer", { min: 0, max: this.depth - 1, step: 1, value: this.state.layer }, named,
      (value) => { this.state.layer = value; this.draw(); announce(this.views[0].said); });
    const rebuild = (name) => (value) => {
      this.state[name] = value;
      for (const view of this.views) view.build();
      this.draw();
    };
    const level = choice("Pieces", "level", [["token", "tokens"], ["word", "words"], ["sentence", "sentences"]], this.state.level, rebuild("level"));
    const direction = choice("Show", "direction", [["both", "rests on and feeds"], ["rests", "what it rests on"], ["feeds", "what it feeds"]],
      this.state.direction, (value) => { this.state.direction = value; this.draw(); });
    const sink = checkbox("First token (sink)", "sink", this.state.sink, rebuild("sink"));
    return [layer.element, level, direction, sink];
  }

  layerOf(model, index = this.state.layer) {
    return this.depth === 1 ? 0 : Math.round((index / (this.depth - 1)) * (model.layers.length - 1));
  }

  place() { return this.state.held ?? this.state.pointed; }

  pointAt(place, tell) {
    this.state.pointed = place;
    if (this.state.held === null) this.draw();
    if (tell) announce(this.views[0].said);
  }

  // Chosen pieces stay until they are chosen again, or Escape is pressed.
  hold(place) {
    this.state.held = this.state.held === place ? null : place;
    this.draw();
    if (place !== null) announce(this.views[0].said);
  }

  draw() { for (const view of this.views) view.draw(); }

  help() {
    return "Point at a piece of the text, or choose one with Tab, arrow keys and Enter: orange is what it rests on, blue is what it feeds. " +
      "Relevance of several tokens is added up over those that give it and averaged over those that receive it; what counts against a piece has no colour and is named below. Escape lets go.";
  }
}
