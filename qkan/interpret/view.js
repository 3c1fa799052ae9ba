"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const get = (id) => document.getElementById(id);
const { columns, layers, rows } = data;
const edges = layers.flatMap((layer, n) => layer.edges.map((edge) => ({ ...edge, n })));
const state = { edge: null, pinned: false, lit: false, row: 0 };

function make(parent, tag, attributes = {}, text = null) {
  const space = parent.namespaceURI === "http://www.w3.org/2000/svg" || tag === "svg";
  const made = space ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== null) made.textContent = text;
  return parent.appendChild(made);
}

// three digits, and of numbers that are close to each other, as dates are, those that differ
function say(value, spread = Math.abs(value)) {
  const more = spread > 0 ? Math.max(0, Math.ceil(Math.log10(Math.abs(value) / spread))) : 0;
  return String(Number(Number(value).toPrecision(Math.min(3 + more, 17)))).replace("-", "−");
}

function sayNode(n, node) {
  const values = columns[n].values[columns[n].nodes.indexOf(node)];
  return say(values[state.row], Math.max(...values) - Math.min(...values));
}

function percent(share) {
  return `${share > 0 && share < 0.01 ? "less than 1" : Math.round(100 * share)} %`;
}

function cut(text, most) {
  return text.length > most ? text.slice(0, most - 1) + "…" : text;
}

const nameOf = (n, node) => columns[n].names[columns[n].nodes.indexOf(node)];
const valueOf = (n, node) => columns[n].values[columns[n].nodes.indexOf(node)][state.row];
const titleOf = (edge) => `${nameOf(edge.n, edge.i)} → ${nameOf(edge.n + 1, edge.o)}`;

// where a value lies between two ends, from 0 to 1, and in the middle where these are equal
function between(value, low, high) {
  return high > low ? (value - low) / (high - low) : 0.5;
}

function curvePath(edge, x, y, width, height) {
  const low = Math.min(...edge.y), high = Math.max(...edge.y);
  return edge.y.map((value, k) => {
    const across = x + width * k / (edge.y.length - 1);
    const up = y + height * (1 - between(value, low, high));
    return `${k ? "L" : "M"}${across.toFixed(1)} ${up.toFixed(1)}`;
  }).join("");
}

/* the network: columns of nodes from left to right, edges between them */
function draw() {
  const host = get("network");
  const width = host.clientWidth, small = width < 600;
  const letters = small ? 10 : 22;
  const most = Math.max(...columns.map((column) => column.nodes.length)), dense = most > 16;
  const room = (column) => 22 + 7.4 * Math.max(rows.length && dense ? 16 : 6,
    ...column.names.map((name) => cut(name, letters).length));
  const left = Math.min(room(columns[0]), width / 4);
  const right = Math.min(room(columns[columns.length - 1]), width / 4);
  const gap = (width - left - right) / layers.length;
  const boxed = layers.map((layer) => gap >= 88 && layer.edges.length <= 24);
  const step = dense ? 24 : 40;
  const height = 30 + Math.max(
    ...columns.map((column) => step * column.nodes.length),
    ...layers.map((layer, n) => (boxed[n] ? 40 * layer.edges.length : 0)), 150);
  const spread = (count, k) => 18 + (height - 30) * (k + 0.5) / count;
  const place = (n, node) => [left + gap * n,
    spread(columns[n].nodes.length, columns[n].nodes.indexOf(node))];
  host.replaceChildren();
  const svg = make(host, "svg", { width, height, role: "group",
    "aria-label": "Edges of the network. The arrow keys move from edge to edge." });
  layers.forEach((layer, n) => {
    const mine = edges.filter((edge) => edge.n === n).sort((a, b) => a.o - b.o || a.i - b.i);
    mine.forEach((edge, k) => drawEdge(svg, edge, place(n, edge.i), place(n + 1, edge.o),
      boxed[n] ? { y: spread(mine.length, k), width: Math.min(70, 0.5 * gap) } : null));
  });
  columns.forEach((column, n) => column.nodes.forEach((node, k) => {
    const [x, y] = place(n, node), ends = n === 0 ? "end" : n === layers.length ? "start" : "middle";
    make(svg, "circle", { class: "node", cx: x, cy: y, r: 5 });
    const shift = ends === "end" ? -10 : ends === "start" ? 10 : 0;
    if (dense && !shift) return;
    const text = make(svg, "text", { x: x + shift, y: y + (shift ? 4 : -9), "text-anchor": ends });
    make(text, "title", {}, column.names[k]);
    make(text, "tspan", {}, cut(column.names[k], letters));
    const below = { x: x + shift, dy: shift ? 14 : 28 };
    make(text, "tspan", { class: "quiet value", "data-column": n, "data-node": node,
      ...(dense ? {} : below) });
  }));
  light();
  choose(state.edge, state.pinned);
}

function drawEdge(svg, edge, [x0, y0], [x1, y1], box) {
  const group = make(svg, "g", { class: "edge", role: "button", tabindex: -1,
    "aria-label": titleOf(edge) +
      (edge.share === null ? "" : `, ${percent(edge.share)} of layer ${edge.n}`) });
  const bow = (xa, ya, xb, yb) => `M${xa} ${ya}C${(xa + xb) / 2} ${ya} ${(xa + xb) / 2} ${yb} ${xb} ${yb}`;
  const middle = (x0 + x1) / 2, half = box ? box.width / 2 : 0;
  const way = box ? bow(x0, y0, middle - half, box.y) + bow(middle + half, box.y, x1, y1)
    : bow(x0, y0, x1, y1);
  edge.wire = make(group, "path", { class: "wire", d: way });
  make(group, "path", { class: "touch", d: way });
  if (box) {
    make(group, "rect", { x: middle - half, y: box.y - 16, width: box.width, height: 32, rx: 4 });
    make(group, "path", { class: "curve",
      d: curvePath(edge, middle - half + 4, box.y - 12, box.width - 8, 24) });
  }
  edge.group = group;
  group.addEventListener("pointerenter", () => state.pinned || choose(edge, false));
  group.addEventListener("focus", () => edge === state.edge || choose(edge, state.pinned));
  group.addEventListener("click", () => choose(edge, true));
  group.addEventListener("keydown", (event) => pressed(event, edge));
}

/* keys: up and down within a layer, left and right to the next one */
function pressed(event, edge) {
  const order = edges.filter((other) => other.n === edge.n)
    .sort((a, b) => a.o - b.o || a.i - b.i);
  const k = order.indexOf(edge);
  const beside = (n) => edges.find((other) => other.n === n &&
    (n > edge.n ? other.i === edge.o : other.o === edge.i)) || edges.find((other) => other.n === n);
  const next = {
    ArrowUp: () => order[k - 1], ArrowDown: () => order[k + 1], Home: () => order[0],
    End: () => order[order.length - 1], ArrowLeft: () => beside(edge.n - 1),
    ArrowRight: () => beside(edge.n + 1), Enter: () => edge, " ": () => edge, Escape: () => edge,
  }[event.key];
  if (!next) return;
  event.preventDefault();
  const chosen = next();
  if (!chosen) return;
  choose(chosen, event.key === "Enter" || event.key === " " || (state.pinned && event.key !== "Escape"));
  chosen.group.focus();
}

/* what each edge is worth: over all data, or for one row */
function light() {
  const on = state.lit && rows.length > 0;
  for (const [n, layer] of layers.entries()) {
    const mine = edges.filter((edge) => edge.n === n);
    const apart = (edge) => edge.at[state.row] - edge.mean;
    const most = on ? Math.max(...mine.flatMap((edge) => edge.at.map((a) => Math.abs(a - edge.mean))))
      : Math.max(...mine.map((edge) => edge.score));
    for (const edge of mine) {
      const value = on ? apart(edge) : edge.score;
      const part = most > 0 ? Math.abs(value) / most : 0;
      edge.wire.setAttribute("stroke-opacity", 0.12 + 0.88 * Math.sqrt(part));
      edge.wire.setAttribute("stroke-width", 0.8 + (on ? 5 : 2) * part);
      edge.group.classList.toggle("more", on && value > 0);
      edge.group.classList.toggle("less", on && value < 0);
    }
  }
  for (const text of document.querySelectorAll(".value")) {
    const value = on ? sayNode(Number(text.dataset.column), Number(text.dataset.node)) : "";
    text.textContent = value && !text.hasAttribute("x") ? ` ${value}` : value;
  }
  if (!rows.length) return;
  get("which").textContent = `${rows[state.row]}, counted from 0 to ${data.samples - 1}` +
    (on ? ". Blue edges add more than on average, orange ones less." : "");
  get("row").setAttribute("aria-valuetext", `row ${rows[state.row]}`);
}

function choose(edge, pinned) {
  if (!edge) return;
  if (state.edge) state.edge.group.classList.remove("chosen");
  for (const other of edges) other.group.setAttribute("tabindex", other === edge ? 0 : -1);
  Object.assign(state, { edge, pinned });
  edge.group.classList.add("chosen");
  get("edges").value = edges.indexOf(edge);
  tell(edge);
}

/* the panel */
function tell(edge) {
  get("name").textContent = titleOf(edge);
  get("place").textContent = edge.share === null
    ? `In Python it is edge=(0, 0, ${edge.i}).`
    : `It has ${percent(edge.share)} of the importance of layer ${edge.n}. In Python it is ` +
      `edge=(${edge.n}, ${edge.o}, ${edge.i}).`;
  drawCurve(edge);
  tellRow(edge);
  get("formula").textContent = edge.formula === null ? edge.note : `${edge.formula}`;
  const input = nameOf(edge.n, edge.i), here = input === "x" ? "" : `Here x stands for ${input}. `;
  const form = edge.form ? `It was recognised as ${edge.form}. ` : "";
  get("error").textContent = edge.formula === null ? ""
    : here + form + (edge.error > 0
      ? `At the points drawn, it differs from the curve by at most ${say(edge.error)}.` : "");
  drawSpectrum(edge);
  const list = get("circuit"), circuit = layers[edge.n].circuit;
  list.replaceChildren();
  edge.gates.forEach(([label, value], k) => {
    const item = make(list, "li", { class: circuit.roles[k] }, label);
    if (value) make(item, "small", {}, value);
  });
  make(list, "li", {}, circuit.measured);
}

function tellRow(edge) {
  if (!rows.length) return;
  const apart = edge.at[state.row] - edge.mean;
  get("does").textContent = `In row ${rows[state.row]}, ${nameOf(edge.n, edge.i)} is ` +
    `${sayNode(edge.n, edge.i)}. The edge adds ${say(edge.at[state.row])} to ` +
    `${nameOf(edge.n + 1, edge.o)}, ${say(Math.abs(apart))} ${apart < 0 ? "less" : "more"} ` +
    "than on average.";
}

function axes(host, label, height) {
  host.replaceChildren();
  const width = host.clientWidth || 340;
  const svg = make(host, "svg", { width, height, role: "img", "aria-label": label });
  return { svg, width, left: 52, right: width - 8, top: 8, bottom: height - 34 };
}

function drawCurve(edge) {
  const [start, end] = edge.x, low = Math.min(...edge.y), high = Math.max(...edge.y);
  const name = nameOf(edge.n, edge.i);
  const label = `The curve: from ${say(edge.y[0])} at ${name} = ${say(start, end - start)} to ` +
    `${say(edge.y[edge.y.length - 1])} at ${say(end, end - start)}; lowest ${say(low)}, highest ${say(high)}.`;
  const { svg, left, right, top, bottom } = axes(get("curve"), label, 190);
  make(svg, "path", { class: "axis", d: `M${left} ${top}V${bottom}H${right}` });
  const up = (value) => top + 6 + (bottom - top - 12) * (1 - between(value, low, high));
  const across = (value) => left + (right - left) * (end === start ? 0.5 : (value - start) / (end - start));
  if (low < 0 && high > 0) {
    make(svg, "path", { class: "axis", "stroke-dasharray": "3 4", d: `M${left} ${up(0)}H${right}` });
  }
  const line = make(svg, "g", { class: "edge" });
  make(line, "path", { class: "curve", "stroke-width": 2,
    d: curvePath(edge, left, top + 6, right - left, bottom - top - 12) });
  for (const [value, y] of [[high, up(high) + 4], [low, up(low) + 4]]) {
    if (high > low || value === high) {
      make(svg, "text", { class: "quiet", x: left - 6, y, "text-anchor": "end" }, say(value));
    }
  }
  make(svg, "text", { class: "quiet", x: left, y: bottom + 15 }, say(start, end - start));
  make(svg, "text", { class: "quiet", x: right, y: bottom + 15, "text-anchor": "end" },
    say(end, end - start));
  make(svg, "text", { class: "quiet", x: (left + right) / 2, y: bottom + 30, "text-anchor": "middle" },
    cut(name, 40));
  if (rows.length) {
    make(svg, "circle", { class: "mark", r: 5.5, cx: across(valueOf(edge.n, edge.i)),
      cy: up(edge.at[state.row]) });
  }
}

function drawSpectrum(edge) {
  const host = get("spectrum");
  if (edge.spectrum === null) {
    host.replaceChildren();
    make(host, "p", { class: "quiet" }, "An arccos encoding has no finite spectrum.");
    return;
  }
  const bars = edge.spectrum.map(([k, a, b]) => [k, Math.hypot(a, b)]);
  const far = Math.max(...bars.map(([k]) => k), 1e-12), most = Math.max(...bars.map(([, a]) => a), 1e-12);
  const strong = bars.reduce((best, bar) => (bar[1] > best[1] ? bar : best));
  const label = `The spectrum: ${bars.length} frequencies up to ${say(far)}; the strongest is ` +
    `${say(strong[0])} with amplitude ${say(strong[1])}.`;
  const { svg, left, right, top, bottom } = axes(host, label, 130);
  make(svg, "path", { class: "axis", d: `M${left} ${top}V${bottom}H${right}` });
  for (const [k, amplitude] of bars) {
    const x = left + 8 + (right - left - 16) * k / far;
    const y = bottom - (bottom - top - 6) * amplitude / most;
    make(svg, "line", { class: "stem", x1: x, x2: x, y1: bottom, y2: y });
    make(svg, "circle", { cx: x, cy: y, r: 3, fill: "var(--more)" });
  }
  make(svg, "text", { class: "quiet", x: left - 6, y: top + 10, "text-anchor": "end" }, say(most));
  make(svg, "text", { class: "quiet", x: left - 6, y: bottom + 4, "text-anchor": "end" }, "0");
  make(svg, "text", { class: "quiet", x: left + 8, y: bottom + 15, "text-anchor": "middle" }, "0");
  make(svg, "text", { class: "quiet", x: right, y: bottom + 15, "text-anchor": "end" }, say(far));
  make(svg, "text", { class: "quiet", x: (left + right) / 2, y: bottom + 30, "text-anchor": "middle" },
    "radians per unit of x; the height is the amplitude in φ");
}

function begin() {
  for (const note of data.notes) make(get("notes"), "p", {}, note);
  layers.forEach((layer, n) => {
    const left = layer.total - layer.edges.length;
    if (left) {
      make(get("notes"), "p", {}, `Layer ${n}: the ${layer.edges.length} most important of ` +
        `${layer.total} edges are shown, with ${percent(layer.share)} of its ` +
        `importance; ${left} are left out.`);
    }
  });
  const select = get("edges");
  layers.forEach((_, n) => {
    const part = make(select, "optgroup", { label: `Layer ${n}, the most important first` });
    edges.forEach((edge, k) => edge.n === n && make(part, "option", { value: k }, titleOf(edge)));
  });
  if (!edges.length) {
    make(get("notes"), "p", {}, "Every edge of this network is pruned, so there is none to show.");
    for (const part of ["form", "main"]) document.querySelector(part).hidden = true;
    return;
  }
  select.addEventListener("change", () => choose(edges[Number(select.value)], true));
  for (const part of document.querySelectorAll(".rows")) part.hidden = !rows.length;
  const again = () => { light(); tellRow(state.edge); drawCurve(state.edge); };
  get("row").max = Math.max(rows.length - 1, 0);
  get("row").addEventListener("input", () => {
    Object.assign(state, { row: Number(get("row").value), lit: true });
    get("lit").checked = true;
    again();
  });
  get("lit").addEventListener("change", () => { state.lit = get("lit").checked; again(); });
  document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  state.edge = edges[0];
  draw();
  let seen = get("network").clientWidth;
  new ResizeObserver(() => {
    if (get("network").clientWidth === seen) return;
    seen = get("network").clientWidth;
    draw();
  }).observe(get("network"));
}
begin();
