// Smooth outlines of mask bitmaps, as SVG path data in image pixels.

/**
 * Outlines of the set pixels of a bitmap; holes are separate loops (fill rule evenodd).
 *
 * @param {{ x: number, y: number, width: number, height: number, data: Uint8Array }} bitmap
 */
export function outline(bitmap) {
  return loops(bitmap).map((loop) => toPath(smooth(loop), bitmap)).join("");
}

/** Loops of pixel corners around the set pixels, which lie on the right-hand side. */
function loops({ width, height, data }) {
  const at = (x, y) => x >= 0 && y >= 0 && x < width && y < height && data[y * width + x];
  const stride = width + 1;
  /** Ends of the edges that start at a pixel corner: one, or two where pixels touch at a corner. */
  const next = new Map();
  const add = (x1, y1, x2, y2) => {
    const from = y1 * stride + x1;
    const ends = next.get(from);
    if (ends) ends.push(y2 * stride + x2);
    else next.set(from, [y2 * stride + x2]);
  };
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!data[y * width + x]) continue;
      if (!at(x, y - 1)) add(x, y, x + 1, y);
      if (!at(x + 1, y)) add(x + 1, y, x + 1, y + 1);
      if (!at(x, y + 1)) add(x + 1, y + 1, x, y + 1);
      if (!at(x - 1, y)) add(x, y + 1, x, y);
    }
  }
  const result = [];
  for (const start of next.keys()) {
    while (next.get(start)?.length) {
      const loop = [];
      let point = start;
      do {
        loop.push([point % stride, Math.floor(point / stride)]);
        point = next.get(point).pop();
      } while (point !== start);
      result.push(loop);
    }
  }
  return result;
}

/** Smooths pixel steps: midpoints of the edges, then two passes of a mean with both neighbors. */
function smooth(loop) {
  let points = loop.map(([x, y], i) => {
    const [nx, ny] = loop[(i + 1) % loop.length];
    return [(x + nx) / 2, (y + ny) / 2];
  });
  for (let pass = 0; pass < 2 && points.length > 8; pass++) {
    points = points.map(([x, y], i) => {
      const [px, py] = points[(i + points.length - 1) % points.length];
      const [nx, ny] = points[(i + 1) % points.length];
      return [(px + 2 * x + nx) / 4, (py + 2 * y + ny) / 4];
    });
  }
  return points;
}

function toPath(points, { x: left, y: top }) {
  const text = points.map(([x, y]) => `${round(left + x)} ${round(top + y)}`);
  return `M${text.join("L")}Z`;
}

const round = (value) => Math.round(value * 100) / 100;
