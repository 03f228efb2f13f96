// The numbers of the page: one compressed blob, and the arrays in it.

async function unpack(text) {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("this browser cannot unpack the maps (it lacks DecompressionStream); take one of 2023 or later");
  }
  const packed = Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

const part = (buffer, [start, length]) => buffer.slice(start, start + length);

// Rows of maps, stored in steps between 0 and the row's scale (or between -scale and scale).
class Rows {
  constructor(buffer, told, levels, signed) {
    this.steps = new (levels > 255 ? Uint16Array : Uint8Array)(part(buffer, told.steps));
    this.scales = new Float32Array(part(buffer, told.scales));
    this.width = this.scales.length ? this.steps.length / this.scales.length : 0;
    this.middle = signed ? levels >> 1 : 0;
    this.levels = signed ? levels >> 1 : levels;
  }

  row(index) {
    const unit = this.scales[index] / this.levels;
    const values = new Float32Array(this.width);
    const first = index * this.width;
    for (let i = 0; i < this.width; i++) values[i] = (this.steps[first + i] - this.middle) * unit;
    return values;
  }

  value(row, column) {
    return ((this.steps[row * this.width + column] - this.middle) * this.scales[row]) / this.levels;
  }
}

// The value in the strongest colour: a high percentile, so that one entry does not pale all others.
function high(values) {
  const sorted = Float32Array.from(values, Math.abs).sort();
  const last = sorted.length - 1;
  const place = 0.99 * last;
  const low = Math.floor(place);
  const found = sorted[low] + (place - low) * (sorted[Math.min(low + 1, last)] - sorted[low]);
  return found || sorted[last] || 0;
}

const brief = (value) => (value === 0 ? "0" : Math.abs(value) < 1e-3 ? value.toExponential(1) : value.toPrecision(3));
