// Tokens that stay on the page, side by side.

class Pins {
  constructor(views, page) {
    Object.assign(this, { views, page, pinned: [] });
    this.list = make("ul");
    this.add = make("button", { type: "button", id: "pin", onclick: () => this.pin() }, "Pin this token");
    this.note = make("p", { class: "note" }, "Click a patch, or press Enter on it, and its maps stay here beside those of others.");
    this.element = make("section", { class: "pins", "aria-label": "Pinned tokens" },
      make("header", { class: "top" }, make("h2", {}, "Pinned tokens"), this.add), this.note, this.list);
  }

  pin() {
    const { y, x } = this.page.state;
    const patch = this.views[0].patch().join(", ");
    const known = this.pinned.findIndex((each) => each.patch === patch);
    if (known >= 0) return this.unpin(this.pinned[known]);
    const pinned = { y, x, patch, drawn: [] };
    pinned.element = this.card(pinned);
    this.pinned.push(pinned);
    this.list.append(pinned.element);
    this.draw();
    announce(`Token ${patch} pinned.`);
  }

  unpin(pinned) {
    this.pinned = this.pinned.filter((each) => each !== pinned);
    pinned.element.remove();
    this.note.hidden = this.pinned.length > 0;
    announce(`Token ${pinned.patch} is no longer pinned.`);
  }

  card(pinned) {
    const close = make("button", { type: "button", "aria-label": `Unpin token ${pinned.patch}`, onclick: () => this.unpin(pinned) }, "×");
    const card = make("li", { class: "pin" }, make("header", {}, make("strong", {}, `(${pinned.patch})`), close));
    this.views.forEach((view) => {
      const stage = new Stage(view.model), strip = make("div", { class: "strip" });
      const caption = make("p", { class: "caption" });
      const small = view.model.layers.map((layer) => {
        const each = new Stage(view.model, { title: `Layer ${layer}` });
        strip.append(each.element);
        return each;
      });
      card.append(caption, stage.element, strip);
      pinned.drawn.push({ view, stage, small, caption });
    });
    return card;
  }

  draw() {
    this.note.hidden = this.pinned.length > 0;
    const state = this.page.state;
    for (const { y, x, drawn } of this.pinned) {
      for (const { view, stage, small, caption } of drawn) {
        const [rows, columns] = view.model.grid;
        const patch = [Math.min(Math.floor(y * rows), rows - 1), Math.min(Math.floor(x * columns), columns - 1)];
        const token = view.token(patch);
        view.paint(stage, view.values(view.layer, token), patch);
        small.forEach((each, layer) => view.paint(each, view.values(layer, token), patch));
        const method = view.model.methods[view.method].label;
        caption.textContent = `${this.views.length > 1 ? `${view.model.name}, ${method}, ` : ""}layer ${view.model.layers[view.layer]}`;
      }
    }
    return state;
  }
}
