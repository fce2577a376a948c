// The lab drawn: outside, balancer, networks, nodes with their pods; and the packet on its way through it.
// Every place has an anchor, the point where its kernel handles the packet; cables meet there, switches are bars.

const BOX = { width: 118, height: 66, header: 52, pod: 34, gap: 8 };
const NARROW = 600;
const MOST_SHOWN = { wide: 3, narrow: 2 };
const MOST_IDLE_PODS = 3;

class LabMap {
  constructor(run, flow, label) {
    this.run = run;
    this.label = label;
    this.figure = el("figure", { class: "map" });
    this.moving = 0;
    this.show(flow);
  }

  // Places of this flow are always drawn, others as far as there is room.
  show(flow) {
    this.flow = flow;
    this.hops = packetsOf(flow).flatMap((packet) => packet.hops);
    this.width = 0;
    this.resize();
  }

  resize() {
    // Letters of the drawing are as large as those around it, on a projector as well.
    const scale = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
    const width = Math.max(300, Math.min(1500, Math.floor((this.figure.clientWidth || 700) / scale)));
    if (width === this.width) return false;
    this.width = width;
    this.narrow = width < NARROW;
    this.layOut();
    this.render();
    return true;
  }

  sorted() {
    const topology = this.run.topology || { places: [], links: [] };
    const used = new Set(this.hops.map((hop) => hop.node));
    const places = new Map(topology.places.map((place) => [place.name, place]));
    this.hops.forEach((hop) => {
      if (!places.has(hop.node)) places.set(hop.node, this.guess(hop, places));
    });
    const all = [...places.values()];
    const beside = new Map();
    for (const [a, , b] of topology.links) {
      for (const [one, other] of [[a, b], [b, a]]) beside.set(one, [...(beside.get(one) || []), other]);
    }
    const isNode = (name) => places.get(name)?.role === "node";
    const most = this.narrow ? MOST_SHOWN.narrow : MOST_SHOWN.wide;
    const nodes = all.filter((place) => place.role === "node");
    const shown = nodes.filter((place) => used.has(place.name));
    for (const node of nodes) if (!used.has(node.name) && shown.length < most) shown.push(node);
    shown.sort((a, b) => nodes.indexOf(a) - nodes.indexOf(b));
    const switches = all.filter((place) => place.role === "switch");
    const inner = switches.filter((place) => (beside.get(place.name) || []).some(isNode));
    return {
      used, beside, inner, nodes: shown, hidden: nodes.length - shown.length,
      outer: switches.filter((place) => !inner.includes(place)),
      outside: all.filter((place) => ["client", "host"].includes(place.role)),
      middle: all.filter((place) => ["balancer", "router"].includes(place.role)),
      pods: (node) => {
        const mine = all.filter((place) => place.role === "pod" && place.host === node.name);
        const idle = mine.filter((pod) => !used.has(pod.name)).slice(0, MOST_IDLE_PODS);
        return mine.filter((pod) => used.has(pod.name) || idle.includes(pod));
      },
    };
  }

  // A pod that was gone when the run ended: it lived where its packets came from or went to.
  guess(hop, places) {
    const at = this.hops.indexOf(hop);
    const near = [this.hops[at - 1], this.hops[at + 1]].map((one) => one && places.get(one.node)).find((one) => one && one.role === "node");
    return { name: hop.node, role: hop.node.startsWith("pod/") ? "pod" : "host", host: near ? near.name : "", addresses: [] };
  }

  layOut() {
    const parts = this.sorted();
    this.parts = parts;
    this.at = new Map();
    this.bars = new Map();
    const lonely = [...new Set(this.hops.map((hop) => hop.node))].filter((name) => name.startsWith("pod/") && ![...parts.nodes].some((node) => parts.pods(node).some((pod) => pod.name === name)));
    const outside = [...parts.outside, ...lonely.map((name) => ({ name, role: "pod", addresses: [] }))];
    const longest = Math.max(0, ...[...outside, ...parts.middle].map((place) => this.addressOf(place).length));
    this.boxWidth = Math.max(BOX.width, Math.min(160, 36 + 7 * longest));
    const columns = [outside, parts.outer, parts.middle, parts.inner, parts.nodes];
    this.narrow ? this.rows(columns) : this.columns(columns);
  }

  nodeHeight(node) {
    return BOX.header + 14 + this.parts.pods(node).length * (BOX.pod + BOX.gap) + 4;
  }

  place(place, x, y, width, height) {
    this.at.set(place.name, { place, x, y, width, height, ax: x + 15, ay: y + BOX.header });
    if (place.role !== "node") return;
    this.parts.pods(place).forEach((pod, number) => {
      const top = y + BOX.header + 14 + number * (BOX.pod + BOX.gap);
      this.at.set(pod.name, { place: pod, x: x + 46, y: top, width: width - 54, height: BOX.pod, ax: x + 46, ay: top + BOX.pod / 2, host: place.name });
    });
  }

  columns([outside, outer, middle, inner, nodes]) {
    const bar = (list) => (list.length ? 56 : 0);
    const box = (list) => (list.length ? this.boxWidth : 0);
    const fixed = box(outside) + bar(outer) + box(middle) + bar(inner);
    const nodeWidth = Math.max(190, Math.min(360, this.width - fixed - 24));
    const slack = Math.max(0, this.width - fixed - nodeWidth - 24);
    const between = slack / Math.max(1, [outer, middle, inner].filter((list) => list.length).length + 1);
    const tall = nodes.reduce((sum, node) => sum + this.nodeHeight(node) + 16, 0) - 16;
    const stacked = (list) => list.length * (BOX.height + 34) - 34;
    this.height = Math.max(tall, stacked(outside), stacked(middle), 150) + 40;
    let x = 12;
    const stack = (list, width, heightOf) => {
      const total = list.reduce((sum, one) => sum + heightOf(one), 0);
      const gap = heightOf === this.boxHeight ? 34 : 16;
      let y = 28 + Math.max(0, (this.height - 40 - total - gap * Math.max(0, list.length - 1)) / 2);
      for (const one of list) {
        this.place(one, x, y, width, heightOf(one));
        y += heightOf(one) + gap;
      }
      if (list.length) x += width;
    };
    stack(outside, this.boxWidth, this.boxHeight);
    x = this.standing(outer, x, between);
    stack(middle, this.boxWidth, this.boxHeight);
    x = this.standing(inner, x, between);
    stack(nodes, nodeWidth, (node) => this.nodeHeight(node));
  }

  boxHeight() { return BOX.height; }

  standing(list, x, between) {
    if (!list.length) return x + (this.parts.middle.length ? between : 0);
    list.forEach((one, number) => this.bars.set(one.name, { place: one, x: x + between + 20 + number * 16 }));
    return x + between + 56 + between * 0.6;
  }

  rows([outside, outer, middle, inner, nodes]) {
    let y = 8;
    const row = (list, heightOf) => {
      if (!list.length) return;
      const width = Math.min(170, (this.width - 8 * (list.length + 1)) / list.length);
      const total = list.length * width + (list.length - 1) * 8;
      list.forEach((one, number) => this.place(one, (this.width - total) / 2 + number * (width + 8), y, width, heightOf(one)));
      y += Math.max(...list.map(heightOf));
    };
    const lying = (list) => list.forEach((one) => { y += 30; this.bars.set(one.name, { place: one, y }); y += 18; });
    row(outside, this.boxHeight);
    lying(outer);
    row(middle, this.boxHeight);
    lying(inner);
    row(nodes, (node) => this.nodeHeight(node));
    this.height = y + 14;
  }

  // The corners of the way from one place to another.
  way(from, to, switches) {
    const a = this.at.get(from), b = this.at.get(to);
    if (!a || !b) return [];
    const start = [a.ax, a.ay], end = [b.ax, b.ay];
    if (from === to) return [start, end];
    if (a.host === to || b.host === from) {
      const [pod, node] = a.host === to ? [a, b] : [b, a];
      const corners = [[pod.ax, pod.ay], [node.ax, pod.ay], [node.ax, node.ay]];
      return a.host === to ? corners : corners.reverse();
    }
    const bar = [...switches, ...this.shared(from, to)].map((name) => this.bars.get(name)).find(Boolean);
    if (!bar) return [start, end];
    return this.narrow ? [start, [a.ax, bar.y], [b.ax, bar.y], end] : [start, [bar.x, a.ay], [bar.x, b.ay], end];
  }

  shared(from, to) {
    const mine = this.parts.beside.get(from) || [], other = this.parts.beside.get(to) || [];
    return mine.filter((name) => other.includes(name));
  }

  render() {
    const used = this.parts.used;
    this.trail = draw("g", { class: "trail" });
    this.marks = draw("g", { class: "marks" });
    this.packet = draw("g", { class: "packet", visibility: "hidden" }, draw("rect", { height: 20, y: -10, rx: 10 }), draw("text", { y: 4.5, "text-anchor": "middle" }));
    const cables = draw("g", { class: "cables" }), boxes = draw("g", { class: "boxes" });
    for (const [name, bar] of this.bars) this.drawBar(cables, name, bar);
    for (const [name, box] of this.at) boxes.append(this.drawBox(name, box, used.has(name)));
    const names = [...this.at.values()].map((box) => box.place.name).join(", ");
    const more = this.parts.hidden ? `and ${count(this.parts.hidden, "more node")} that this packet did not meet` : "";
    this.svg = draw(
      "svg",
      { viewBox: `0 0 ${this.width} ${Math.ceil(this.height)}`, role: "img", "aria-label": `${this.label}: ${names}` },
      cables, boxes, this.trail, this.marks, this.packet,
    );
    const legend = el("figcaption", {}, el("span", { class: "key there" }, "there"), el("span", { class: "key back" }, "back"), el("span", { class: "key rewrote" }, "header rewritten"), more);
    this.figure.replaceChildren(this.svg, legend);
  }

  drawBar(group, name, bar) {
    const ends = (this.parts.beside.get(name) || []).map((one) => this.at.get(one)).filter(Boolean);
    if (!ends.length) return;
    const points = this.narrow ? ends.map((end) => end.ax) : ends.map((end) => end.ay);
    const [low, high] = [Math.min(...points) - 8, Math.max(...points) + 8];
    for (const end of ends) {
      const to = this.narrow ? [end.ax, bar.y] : [bar.x, end.ay];
      group.append(draw("line", { class: "cable", x1: end.ax, y1: end.ay, x2: to[0], y2: to[1] }));
    }
    const line = this.narrow ? { x1: low, y1: bar.y, x2: high, y2: bar.y } : { x1: bar.x, y1: low, x2: bar.x, y2: high };
    const text = this.narrow ? { x: Math.min(high + 6, this.width - 60), y: bar.y - 6 } : { x: bar.x, y: low - 8, "text-anchor": "middle" };
    group.append(draw("line", { class: "bar", ...line }), draw("text", { class: "small", ...text }, name));
  }

  // The first address of the flow's own family.
  addressOf(place) {
    const first = this.hops[0], six = Boolean(first && first.before.dst.includes(":"));
    return place.addresses.find((address) => address.includes(":") === six) || place.addresses[0] || "";
  }

  drawBox(name, box, used) {
    const group = draw("g", { class: `place ${box.place.role}${used ? " used" : ""}` });
    const room = Math.max(4, Math.floor((box.width - 24) / 7));
    const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
    group.append(draw("title", {}, `${name} ${box.place.addresses.join(", ")}`), draw("rect", { x: box.x, y: box.y, width: box.width, height: box.height, rx: 7 }));
    const address = this.addressOf(box.place);
    if (box.place.role === "pod" && box.host) {
      const after = name.length + address.length + 2 <= room - 3;
      group.append(draw("text", { class: "name", x: box.ax + 16, y: box.ay + (after || !address ? 5 : -2) }, short(visible(name), room - 2)));
      if (address) group.append(draw("text", { class: "small", x: after ? box.x + box.width - 8 : box.ax + 16, y: box.ay + (after ? 5 : 12), "text-anchor": after ? "end" : "start" }, short(address, room)));
    } else {
      group.append(draw("text", { class: "name", x: box.x + 28, y: box.y + 20 }, short(visible(name), room)));
      group.append(draw("text", { class: "small", x: box.x + 28, y: box.y + 36 }, short(address, room + 1)));
    }
    if (box.place.role === "node") {
      const pods = [...this.at.values()].filter((one) => one.host === name);
      const last = pods[pods.length - 1];
      if (last) group.append(draw("line", { class: "bridge", x1: box.ax, y1: box.ay, x2: box.ax, y2: last.ay }));
      for (const pod of pods) group.append(draw("line", { class: "cable", x1: box.ax, y1: pod.ay, x2: pod.ax, y2: pod.ay }));
    }
    group.append(draw("circle", { class: "anchor", cx: box.ax, cy: box.ay, r: 5 }));
    return group;
  }

  // The walk as far as steps[at]: its trail, what was rewritten where, and the packet itself (`moved`: seen travelling).
  step(steps, at, moved) {
    const here = steps[at];
    this.trail.replaceChildren();
    this.marks.replaceChildren();
    cancelAnimationFrame(this.moving);
    if (!here) { this.packet.setAttribute("visibility", "hidden"); return; }
    const shownFrom = steps.findIndex((step) => step.number >= here.number - 1);
    for (let number = shownFrom; number <= at; number++) {
      const step = steps[number];
      if (step.place > 0) this.drawTrail(step, step.number !== here.number);
    }
    const mine = steps.slice(0, at + 1).filter((step) => step.number === here.number);
    for (const step of mine) this.mark(step);
    const box = this.at.get(here.hop.node);
    if (!box) return;
    for (const group of this.svg.querySelectorAll(".place.here")) group.classList.remove("here");
    [...this.at.keys()].forEach((name, number) => { if (name === here.hop.node) this.svg.querySelectorAll(".boxes > .place")[number].classList.add("here"); });
    this.packet.setAttribute("visibility", "visible");
    this.packet.setAttribute("class", `packet ${wayOf(here)}`);
    this.name(visible(here.packet.label, 16));
    const corners = here.before ? this.way(here.before.node, here.hop.node, here.before.switches || []) : [];
    if (moved && corners.length && !calm()) this.travel(corners, 520);
    else this.put(box.ax, box.ay);
  }

  drawTrail(step, older) {
    const corners = this.way(step.before.node, step.hop.node, step.before.switches || []);
    if (!corners.length) return;
    const shift = step.packet.reply ? 3 : -3;
    const tunnel = step.before.tunnel && step.hop.tunnel ? " tunnel" : "";
    this.trail.append(draw("polyline", { class: `${wayOf(step)}${older ? " older" : ""}${tunnel}`, points: corners.map(([x, y]) => `${x + shift},${y + shift}`).join(" ") }));
  }

  mark(step) {
    const box = this.at.get(step.hop.node);
    const words = step.lost ? [`✗ ${lostWord(step)}`] : step.hop.rewrite;
    if (!box || !words.length) return;
    const text = words.join("+");
    const wide = text.length * 7.4 + 10;
    const x = Math.max(1, Math.min(this.width - wide - 1, box.x + box.width - wide + 6)), y = box.y - 9;
    this.marks.append(
      draw("rect", { class: step.lost ? "lost" : "rewrote", x, y, width: wide, height: 19, rx: 4 }),
      draw("text", { class: step.lost ? "lost" : "rewrote", x: x + 5, y: y + 14 }, text),
    );
  }

  // The packet is a pill with its name; it ends just behind the anchor, where no text stands.
  name(text) {
    const [pill, words] = this.packet.children;
    this.wide = text.length * 7.6 + 14;
    pill.setAttribute("width", this.wide);
    words.setAttribute("x", this.wide / 2);
    words.textContent = text;
  }

  put(x, y) { this.packet.setAttribute("transform", `translate(${Math.max(1, x + 11 - this.wide)} ${y})`); }

  travel(corners, milliseconds) {
    const lengths = corners.slice(1).map(([x, y], number) => Math.hypot(x - corners[number][0], y - corners[number][1]));
    const total = lengths.reduce((sum, length) => sum + length, 0) || 1;
    const began = performance.now();
    const frame = (now) => {
      const part = Math.min(1, (now - began) / milliseconds);
      let left = total * (part < 0.5 ? 2 * part * part : 1 - (2 - 2 * part) ** 2 / 2);
      let leg = 0;
      while (leg < lengths.length - 1 && left > lengths[leg]) left -= lengths[leg++];
      const share = lengths[leg] ? Math.min(1, left / lengths[leg]) : 1;
      const [x, y] = corners[leg], [toX, toY] = corners[leg + 1];
      this.put(x + (toX - x) * share, y + (toY - y) * share);
      if (part < 1) this.moving = requestAnimationFrame(frame);
    };
    this.put(...corners[0]);
    this.moving = requestAnimationFrame(frame);
  }
}
