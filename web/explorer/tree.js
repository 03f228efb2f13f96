// Cutting a linkage tree, and drawing its clusters as segments.

const WHITE = 0xffffffff;

// How many joins are at most this far apart; heights do not fall.
function joinsWithin(heights, distance) {
  let low = 0, end = heights.length;
  while (low < end) {
    const middle = (low + end) >> 1;
    if (heights[middle] <= distance) low = middle + 1;
    else end = middle;
  }
  return low;
}

// Clusters of the leaves after so many joins, numbered in the order of their first leaf, and a colour for each
// cluster that stays when the tree is cut further down: of two parts, the larger one keeps it.
function cutTree(pairs, joins) {
  const leaves = pairs.length / 2 + 1;
  const parent = new Int32Array(2 * leaves - 1).fill(-1);
  const sizes = new Int32Array(2 * leaves - 1).fill(1, 0, leaves);
  for (let i = 0; i < leaves - 1; i++) {
    const node = leaves + i, left = pairs[2 * i], right = pairs[2 * i + 1];
    sizes[node] = sizes[left] + sizes[right];
    if (i < joins) { parent[left] = node; parent[right] = node; }
  }
  const colour = new Int32Array(2 * leaves - 1);
  let next = 1;
  for (let i = leaves - 2; i >= joins; i--) {
    const node = leaves + i, left = pairs[2 * i], right = pairs[2 * i + 1];
    const [larger, smaller] = sizes[left] >= sizes[right] ? [left, right] : [right, left];
    colour[larger] = colour[node];
    colour[smaller] = next++;
  }
  const number = new Map(), labels = new Int32Array(leaves), colours = [];
  for (let leaf = 0; leaf < leaves; leaf++) {
    let root = leaf;
    while (parent[root] >= 0) root = parent[root];
    if (!number.has(root)) { number.set(root, number.size); colours.push(colour[root]); }
    labels[leaf] = number.get(root);
  }
  return { labels, count: number.size, colours };
}

// Bilinear enlargement of a line: for each new place the two old ones and the share of the second.
function interpolation(old, size) {
  const first = new Int32Array(size), second = new Int32Array(size), share = new Float64Array(size);
  for (let i = 0; i < size; i++) {
    const place = Math.max(((i + 0.5) * old) / size - 0.5, 0);
    first[i] = Math.min(Math.floor(place), old - 1);
    second[i] = Math.min(first[i] + 1, old - 1);
    share[i] = place - first[i];
  }
  return { first, second, share };
}

// Per cluster the sum of its maps, enlarged and scaled to 0..1; a pixel belongs to the cluster that is highest there.
function pixelLabels(rows, labels, count, grid, size) {
  const [height, width] = size, [gridRows, gridColumns] = grid;
  const patches = gridRows * gridColumns;
  const sums = new Float64Array(count * patches);
  for (let token = 0; token < patches; token++) {
    const values = rows.row(token), at = labels[token] * patches;
    for (let i = 0; i < patches; i++) sums[at + i] += values[i];
  }
  const down = interpolation(gridRows, height), across = interpolation(gridColumns, width);
  const best = new Float64Array(height * width).fill(-1), found = new Int32Array(height * width);
  const enlarged = new Float64Array(height * width);
  const line = new Float64Array(gridColumns);
  for (let cluster = 0; cluster < count; cluster++) {
    const at = cluster * patches;
    let low = Infinity, top = -Infinity;
    for (let y = 0; y < height; y++) {
      const above = at + down.first[y] * gridColumns, below = at + down.second[y] * gridColumns, v = down.share[y];
      for (let x = 0; x < gridColumns; x++) line[x] = sums[above + x] + v * (sums[below + x] - sums[above + x]);
      for (let x = 0; x < width; x++) {
        const left = line[across.first[x]];
        const value = left + across.share[x] * (line[across.second[x]] - left);
        enlarged[y * width + x] = value;
        if (value < low) low = value;
        if (value > top) top = value;
      }
    }
    const unit = top > low ? 1 / (top - low) : 0;
    for (let i = 0; i < enlarged.length; i++) {
      const value = (enlarged[i] - low) * unit;
      if (value > best[i] + 1e-9) { best[i] = value; found[i] = cluster; }
    }
  }
  return found;
}

// Labels in colour, each drawn as a square of so many pixels, with thin white lines between different ones.
function paintLabels(canvas, labels, colours, height, width, times, borders) {
  canvas.width = width * times;
  canvas.height = height * times;
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  const packed = colours.map((colour) => {
    const [red, green, blue] = SEGMENTS[colour % SEGMENTS.length];
    return new Uint32Array(new Uint8Array([red, green, blue, 255]).buffer)[0];
  });
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = y * width + x, colour = packed[labels[i]];
      const right = borders && x + 1 < width && labels[i] !== labels[i + 1];
      const below = borders && y + 1 < height && labels[i] !== labels[i + width];
      const first = y * times * canvas.width + x * times;
      for (let v = 0; v < times; v++) {
        const start = first + v * canvas.width;
        pixels.fill(below && v === times - 1 ? WHITE : colour, start, start + times);
        if (right) pixels[start + times - 1] = WHITE;
      }
    }
  }
  context.putImageData(image, 0, 0);
}
