// Colour scales that readers of every colour vision can tell apart, and the colours of segments.

const VIRIDIS = "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1fa088 28ae80 3fbc73 5ec962 84d44b addc30 d8e219 fde725";
const BLUE_ORANGE = "053c6e 15598f 2f79ae 5799c6 86b6d6 b0d0e4 d3e4ee ebf0f3 f7f6f2 f8ead7 f9d7b0 f9bd83 f3a055 e58232 cb6318 a5480c 7a3205";
// Okabe and Ito, without black; then lightened, then darkened.
const OKABE_ITO = [[0, 114, 178], [230, 159, 0], [0, 158, 115], [204, 121, 167], [86, 180, 233], [213, 94, 0], [240, 228, 66], [70, 70, 70]];
const SEGMENTS = [
  ...OKABE_ITO,
  ...OKABE_ITO.map((colour) => colour.map((part) => Math.round(0.5 * part + 127.5))),
  ...OKABE_ITO.map((colour) => colour.map((part) => Math.round(0.5 * part))),
];
const RESTS_ON = [245, 124, 32];
const FEEDS = [86, 180, 233];

function table(stops) {
  const colours = stops.split(" ").map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const found = new Uint8ClampedArray(256 * 3);
  for (let i = 0; i < 256; i++) {
    const place = (i / 255) * (colours.length - 1);
    const low = Math.min(Math.floor(place), colours.length - 2);
    for (let c = 0; c < 3; c++) found[3 * i + c] = colours[low][c] + (place - low) * (colours[low + 1][c] - colours[low][c]);
  }
  return found;
}

const TABLES = { plain: table(VIRIDIS), signed: table(BLUE_ORANGE) };
const gradient = (signed) => `linear-gradient(to right, ${(signed ? BLUE_ORANGE : VIRIDIS).split(" ").map((hex) => `#${hex}`).join(", ")})`;

// Where a value stands in a table of colours, 0 to 255.
function shade(value, top, signed) {
  if (!top) return signed ? 128 : 0;
  const share = signed ? (value / top + 1) / 2 : value / top;
  return Math.round(255 * Math.min(Math.max(share, 0), 1));
}

// One opaque pixel for each patch; the canvas is enlarged by its style.
function paintMap(canvas, values, rows, columns, top, signed) {
  if (canvas.width !== columns || canvas.height !== rows) { canvas.width = columns; canvas.height = rows; }
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  const colours = signed ? TABLES.signed : TABLES.plain;
  for (let i = 0; i < values.length; i++) {
    const at = 3 * shade(values[i], top, signed);
    image.data[4 * i] = colours[at];
    image.data[4 * i + 1] = colours[at + 1];
    image.data[4 * i + 2] = colours[at + 2];
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}
