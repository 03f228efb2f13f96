// One model and one score over a text: what a piece rests on, and what it feeds.

class TextView {
  constructor(model, told, number, page) {
    Object.assign(this, { model, page, number, method: told.method });
    this.rowOf = new Map(model.targets.map((token, row) => [token, row]));
    this.body = make("div");
    this.readout = make("p", { class: "readout" });
    this.sinkNote = make("p", { class: "note" });
    this.scales = {
      rests: make("span"), feeds: make("span"),
    };
    const bar = (colour, name) => make("div", { class: "legend" }, make("span", {}, name), make("span", {}, "0"),
      make("div", { class: "bar", style: `background: linear-gradient(to right, rgba(${colour}, 0), rgb(${colour}))` }), this.scales[name === "rests on" ? "rests" : "feeds"]);
    const choose = choice("Method", `method-${number}`, model.methods.map((each, i) => [String(i), each.label]), String(this.method),
      (value) => { this.method = Number(value); this.draw(); });
    this.element = make("section", { class: "view", "aria-label": model.name },
      make("header", {}, make("h2", {}, model.name), choose), this.body,
      make("div", { class: "scales" }, bar(RESTS_ON, "rests on"), bar(FEEDS, "feeds")), this.readout, this.sinkNote);
    this.build();
  }

  get layer() { return this.page.layerOf(this.model); }
  get rows() { return this.model.methods[this.method].layers[this.layer].rows; }

  // The pieces of the level at hand, in the order of the text.
  build() {
    this.pieces = [];
    const { level, sink } = this.page.state;
    this.body.replaceChildren(...this.model.parts.map((part, number) => {
      const text = make("p", { class: "text" });
      if (number === 0 && sink && this.model.special[0]) {
        text.append(this.piece(this.model.names[0], -1, [0], number, "piece sink"), " ");
      }
      const pieces = part.levels[level];
      pieces.forEach(([words, place, tokens], at) => {
        if (tokens.length) text.append(this.piece(words, place, tokens, number, "piece"));
        else text.append(at === 0 ? words.trimStart() : at === pieces.length - 1 ? words.trimEnd() : words);
      });
      return make("div", { class: "part" }, make("h3", {}, part.label), text);
    }));
    const first = this.pieces.find((piece) => this.explained(piece).length) || this.pieces[0];
    if (first) first.element.tabIndex = 0;
  }

  piece(text, place, tokens, part, kind) {
    const element = make("span", { class: kind, role: "button", tabindex: "-1", "aria-pressed": "false" }, text);
    const found = { text: text.trim(), place, end: place + text.length, tokens, part, element };
    element.addEventListener("pointerenter", () => this.page.pointAt(place, false));
    element.addEventListener("pointerleave", () => this.page.pointAt(null, false));
    element.addEventListener("click", () => this.page.hold(place));
    element.addEventListener("focus", () => { if (element.matches(":focus-visible")) this.page.pointAt(place, true); });
    element.addEventListener("blur", () => this.page.pointAt(null, false));
    element.addEventListener("keydown", (event) => this.key(event, found));
    this.pieces.push(found);
    return element;
  }

  key(event, piece) {
    const at = this.pieces.indexOf(piece), last = this.pieces.length - 1;
    const steps = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + 10, ArrowUp: at - 10, Home: 0, End: last };
    if (event.key in steps) {
      const next = this.pieces[Math.min(Math.max(steps[event.key], 0), last)];
      piece.element.tabIndex = -1;
      next.element.tabIndex = 0;
      this.page.state.held = null;
      next.element.focus();
    } else if (event.key === "Enter" || event.key === " ") this.page.hold(piece.place);
    else return;
    event.preventDefault();
  }

  explained(piece) { return piece.tokens.filter((token) => this.rowOf.has(token)); }

  // Sources are added up, targets averaged.
  relevance(target, source) {
    const explained = this.explained(target);
    if (!explained.length) return 0;
    let sum = 0;
    for (const each of explained) for (const token of source.tokens) sum += this.rows.value(this.rowOf.get(each), token);
    return sum / explained.length;
  }

  isSink(piece) { return !this.page.state.sink && piece.tokens.includes(this.model.sink) && piece.tokens.length === 1; }

  pieceAt(place) { return place === null ? null : this.pieces.find((each) => each.place === place) || this.pieces.find((each) => each.place <= place && place < each.end) || null; }

  // What each piece gives to the one pointed at, and takes from it; of no piece: what the last part rests on.
  values(piece) {
    const others = this.pieces.map((each) => (each === piece || this.isSink(each) ? null : each));
    const { direction } = this.page.state;
    if (piece) {
      return {
        rests: direction === "feeds" ? null : others.map((each) => (each ? this.relevance(piece, each) : 0)),
        feeds: direction === "rests" ? null : others.map((each) => (each ? this.relevance(each, piece) : 0)),
      };
    }
    const last = this.model.parts.length - 1;
    if (!last || direction === "feeds") return { rests: null, feeds: null };
    const summary = { tokens: this.pieces.filter((each) => each.part === last).flatMap((each) => each.tokens) };
    return { rests: others.map((each) => (each && each.part === 0 ? this.relevance(summary, each) : 0)), feeds: null };
  }

  draw() {
    const piece = this.pieceAt(this.page.place()), found = this.values(piece);
    const tops = { rests: found.rests ? Math.max(...found.rests, 0) : 0, feeds: found.feeds ? Math.max(...found.feeds, 0) : 0 };
    this.pieces.forEach((each, i) => {
      const strength = (name) => (tops[name] > 0 ? Math.min(Math.max(found[name][i] / tops[name], 0), 1) : 0);
      const rests = strength("rests"), feeds = strength("feeds");
      const colour = rests >= feeds ? RESTS_ON : FEEDS, share = Math.max(rests, feeds);
      each.strength = share;
      each.element.style.backgroundColor = share > 0.004 ? `rgba(${colour}, ${share.toFixed(3)})` : "";
      each.element.style.color = share > 0.68 ? "#111" : ""; // light letters of the dark theme would not stand out
      each.element.classList.toggle("here", each === piece);
      each.element.setAttribute("aria-pressed", String(each === piece && this.page.state.held !== null));
    });
    this.scales.rests.textContent = found.rests ? brief(tops.rests) : "–";
    this.scales.feeds.textContent = found.feeds ? brief(tops.feeds) : "–";
    this.describe(piece, found);
  }

  describe(piece, found) {
    const strongest = (values, sign = 1) => {
      const order = values ? [...values.keys()].filter((i) => sign * values[i] > 0).sort((a, b) => sign * (values[b] - values[a])).slice(0, 4) : [];
      return order.map((i) => `“${shortened(this.pieces[i].text)}” ${brief(values[i])}`).join(", ");
    };
    const layer = `layer ${this.model.layers[this.layer]}`;
    const rests = strongest(found.rests), feeds = strongest(found.feeds);
    const against = this.model.methods[this.method].signed ? strongest(found.rests, -1) : "";
    const name = piece ? `“${shortened(piece.text)}”` : this.model.parts.length > 1 ? `The ${this.model.parts.at(-1).label}` : "";
    const said = [rests && `rests on ${rests}`, against && `against it counts ${against}`, feeds && `feeds ${feeds}`].filter(Boolean).join("; ");
    if (name) this.readout.replaceChildren(make("b", {}, `${name}, ${layer}, `), said || "rests on nothing that is shown");
    else this.readout.replaceChildren("Point at a piece of the text.");
    this.said = `${name}, ${layer}, ${said || "nothing shown"}.`;
    this.sinkNote.textContent = this.sinkText(piece);
  }

  sinkText(piece) {
    if (this.model.sink === null || this.page.state.sink) return "";
    const last = this.model.parts.length - 1;
    const targets = piece || { tokens: this.pieces.filter((each) => each.part === last).flatMap((each) => each.tokens) };
    const own = this.relevance(targets, { tokens: [this.model.sink] });
    return `The first token, ${this.model.names[0]}, received ${brief(own)}; it is left out of the colours.`;
  }
}

const shortened = (text) => (text.length > 40 ? `${text.slice(0, 39)}…` : text);
