// Reads the numbers, builds the page, and keeps what tests and the curious may look at.

function themeButton() {
  const button = document.getElementById("theme"), root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const name = () => { button.textContent = isDark() ? "Light" : "Dark"; button.setAttribute("aria-label", `${button.textContent} colours`); };
  button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; name(); });
  dark.addEventListener("change", name);
  name();
}

async function start() {
  themeButton();
  const told = JSON.parse(document.getElementById("told").textContent);
  const buffer = await unpack(document.getElementById("numbers").textContent);
  for (const model of told.models) {
    for (const method of model.methods) {
      for (const layer of method.layers) {
        layer.rows = new Rows(buffer, layer, model.levels, method.signed);
        if (layer.joins) {
          layer.pairs = new Uint32Array(part(buffer, layer.joins));
          layer.heights = new Float64Array(part(buffer, layer.heights));
        }
      }
    }
  }
  const page = told.kind === "image" ? new ImagePage(told) : new TextPage(told);
  document.getElementById("controls").append(...page.controls());
  document.getElementById("main").replaceChildren(page.element);
  document.getElementById("help").textContent = page.help();
  page.draw(true);
  return page;
}

document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
window.explorer = start();
window.explorer.catch((error) => { document.getElementById("main").textContent = `This page cannot be shown: ${error.message}`; });
