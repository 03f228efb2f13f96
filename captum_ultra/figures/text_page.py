"""The page of a contribution: HTML, style and script in one piece that needs no network."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ names[0] }} relevance, layer {{ view.found.layer }}</title>
<style>
  :root { color-scheme: light; }
  body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; background: #fff; color: #1b1b1b;
         font: 17px/1.75 Georgia, "Times New Roman", serif; }
  h2, header, footer, .legend { font: 13px/1.5 system-ui, sans-serif; color: #595959; }
  h2 { margin: 1.6rem 0 .3rem; font-weight: 600; }
  .text { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
  .token { border-radius: 3px; padding: .1em 0; }
  .separator { color: #767676; }
  .target { border-bottom: 2px solid #8fb7d9; cursor: pointer; }
  .target:hover, .target:focus-visible { background: #e3eef8; outline: none; }
  .target[aria-pressed="true"] { background: #bcd8ef; }
  .legend { display: flex; gap: .6rem; align-items: center; margin-top: 1.6rem; }
  .bar { width: 12rem; height: .8rem; border: 1px solid #ddd;
         background: linear-gradient(to right, rgba(245, 124, 32, 0), rgba(245, 124, 32, .9)); }
  .signed { background: linear-gradient(to right, rgba(86, 180, 233, .9), rgba(86, 180, 233, 0) 50%,
                                        rgba(245, 124, 32, 0) 50%, rgba(245, 124, 32, .9)); }
</style>
</head>
<body>
<header>{{ view.heading }}</header>
<h2>{{ names[0] }}</h2>
<p class="text" id="sources">
{%- for piece in view.sources -%}
{%- if piece.tokens -%}
<span class="token" data-piece="{{ loop.index0 }}" title="{{ data.scores[loop.index0] }}"
{#- #} style="background-color: {{ colour(data.scores[loop.index0]) }}">{{ piece.text }}</span>
{%- else -%}
{{ piece.text }}
{%- endif -%}
{%- endfor -%}
</p>
{% if separator %}
<h2>separator</h2>
<p class="text separator">{{ separator.strip("\\n") }}</p>
{% endif %}
<h2>{{ names[1] }} (point at a token, or choose one, to see what it rests on)</h2>
<p class="text" id="targets">
{%- for piece in view.targets -%}
{%- if piece.tokens -%}
<span class="target" role="button" tabindex="0" aria-pressed="false">{{ piece.text }}</span>
{%- else -%}
{{ piece.text }}
{%- endif -%}
{%- endfor -%}
</p>
<div class="legend">
  <span id="low">{{ "%.3g" % -data.high if view.signed else 0 }}</span><span class="bar{{ " signed" if view.signed }}">
  {#- #}</span><span id="high">{{ "%.3g" % data.high }}</span>
  <span id="shown">all targets</span>
</div>
{% if view.sink_note %}
<footer id="sink">{{ view.sink_note }}</footer>
{% endif %}
<script type="application/json" id="data">{{ script | safe }}</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const tokens = document.querySelectorAll("#sources .token");
const targets = document.querySelectorAll("#targets .target");
const sink = document.getElementById("sink");
const sinkNote = sink ? sink.textContent : "";
let chosen = null;

function show(row) {
  const values = row === null ? data.scores : data.rows[row];
  const high = row === null ? data.high : data.highs[row];
  for (const token of tokens) {
    const value = values[token.dataset.piece];
    const share = Math.min(Math.max(value / high, -1), 1);
    token.style.backgroundColor = `rgba(${share < 0 ? "86, 180, 233" : "245, 124, 32"}, ${0.9 * Math.abs(share)})`;
    token.title = `${value}`;
  }
  document.getElementById("high").textContent = high.toPrecision(3);
  if (data.signed) document.getElementById("low").textContent = (-high).toPrecision(3);
  document.getElementById("shown").textContent =
    row === null ? "all targets" : `for “${targets[row].textContent.trim()}”`;
  if (sink) sink.textContent = row === null ? sinkNote : `The first token received ${data.sinks[row].toPrecision(3)}.`;
}

function choose(row) {
  chosen = chosen === row ? null : row;
  targets.forEach((target, number) => target.setAttribute("aria-pressed", number === chosen));
  show(chosen);
}

targets.forEach((target, row) => {
  target.addEventListener("mouseenter", () => show(row));
  target.addEventListener("mouseleave", () => show(chosen));
  target.addEventListener("click", () => choose(row));
  target.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(row); }
  });
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") choose(chosen); });
show(null);
</script>
</body>
</html>
"""
