// The walk: which flow (or which two beside each other), which step, and everything that moves it.

const PACE = 1500;
const FEW_FLOWS = 8;

class Lane {
  constructor(run, flow, name) {
    this.run = run;
    this.name = name;
    this.title = el("p", { class: "lane-title" });
    this.detail = el("div", { class: "detail" });
    this.packets = el("div", { class: "packets" });
    this.map = new LabMap(run, flow, name ? `The lab, run ${name}` : "The lab");
    this.node = el("div", { class: "lane" }, this.title, el("div", { class: "stage" }, this.map.figure, this.detail, this.packets));
    this.show(flow);
  }

  show(flow) {
    this.flow = flow;
    this.map.show(flow);
    const why = (flow.reasons || []).length ? flow.reasons[0].words : flow.reason;
    this.title.replaceChildren(...[
      this.name && el("span", { class: "side" }, this.name), el("b", {}, visible(flow.name, 120)), ` ${flow.protocol} `, outcomeWord(flow.outcome),
      flow.outcome !== "accepted" && why && el("span", { class: "reason" }, visible(why, 500)),
    ].filter(Boolean));
  }
}

class Walk {
  constructor(data) {
    this.data = data;
    this.at = 0;
    this.whole = false;
    this.playing = 0;
    const first = data.runs[0];
    this.lanes = data.runs.map((run, number) => run.flows.length && new Lane(run, this.begin(run), data.runs.length > 1 ? "AB"[number] : "")).filter(Boolean);
    this.two = data.runs.length > 1;
    this.root = byId("walk");
    this.head = el("div", { class: "head" }, el("h2", { id: "walk-title" }, this.two ? "The same packet in both runs" : "The packet's way"));
    this.root.append(this.head);
    if (!this.lanes.length) {
      this.root.append(el("p", {}, first && first.flows_left_out ? "No flow of this run is small enough to be walked here." : "This run tells no flow hop by hop."));
      return;
    }
    this.root.append(this.choices(), this.controls(), this.lanesNode());
    this.chosen();
    this.keys();
    new ResizeObserver(() => this.lanes.forEach((lane) => { if (lane.map.resize()) lane.map.step(lane.steps, this.stepOf(lane), false); })).observe(this.root);
  }

  // A run that failed begins with a flow that did not end well.
  begin(run) {
    return (!run.passed && run.flows.find((flow) => flow.outcome !== "accepted")) || run.flows[0];
  }

  choices() {
    const bar = el("div", { class: "choices" });
    this.lanes.forEach((lane, number) => bar.append(this.picker(lane, this.two ? `Flow of run ${"AB"[number]}` : "Flow")));
    if (!this.two && this.lanes[0].run.flows.length > 1) {
      this.beside = el("select", { id: "beside" }, el("option", { value: "" }, "nothing"), this.lanes[0].run.flows.map((flow, number) => el("option", { value: number }, flowLabel(flow))));
      this.beside.addEventListener("change", () => this.compare(this.beside.value));
      this.head.append(el("label", { class: "pick" }, "Beside it ", this.beside));
    }
    const whole = el("input", { type: "checkbox", id: "whole" });
    whole.addEventListener("change", () => { this.whole = whole.checked; this.chosen(); });
    this.wholeBox = whole;
    // Two runs that were read from their JSON tell the hops of the first packet and of its answer only.
    if (!this.two) this.head.append(el("label", { class: "check" }, whole, " every packet of the exchange"));
    return bar;
  }

  picker(lane, title) {
    const flows = lane.run.flows;
    const pick = (number) => { lane.show(flows[number]); this.at = 0; this.chosen(); };
    if (flows.length > FEW_FLOWS || this.two) {
      const select = el("select", {}, flows.map((flow, number) => el("option", { value: number }, flowLabel(flow))));
      select.addEventListener("change", () => pick(Number(select.value)));
      select.value = flows.indexOf(lane.flow);
      lane.pick = (number) => { select.value = number; pick(number); };
      return el("label", { class: "pick" }, `${title} `, select);
    }
    const buttons = flows.map((flow, number) => el("button", { type: "button", "aria-pressed": flow === lane.flow ? "true" : "false", onclick: () => lane.pick(number) }, outcomeMark(flow.outcome), " ", visible(flow.name, 60)));
    lane.pick = (number) => { buttons.forEach((button, place) => button.setAttribute("aria-pressed", place === number ? "true" : "false")); pick(number); };
    return el("div", { class: "flows", role: "group", "aria-label": title }, buttons);
  }

  controls() {
    const button = (id, name, act) => el("button", { type: "button", id, "aria-label": name, title: name, onclick: act }, icon(ICONS[id]));
    this.play = button("play", "Play", () => this.toggle());
    this.slider = el("input", { type: "range", id: "slider", min: 0, max: 0, value: 0, "aria-label": "Step" });
    this.slider.addEventListener("input", () => { this.stop(); this.go(Number(this.slider.value)); });
    this.where = el("span", { class: "where", id: "where" });
    this.live = el("p", { class: "live unseen", id: "live", "aria-live": "polite" });
    return el(
      "div", { class: "controls", role: "group", "aria-label": "Walk" },
      el("div", { class: "buttons" },
        button("first", "To the first step (Home)", () => { this.stop(); this.go(0); }),
        button("back", "A step back (arrow left)", () => { this.stop(); this.go(this.at - 1, true); }),
        this.play,
        button("next", "A step on (arrow right)", () => { this.stop(); this.go(this.at + 1, true); }),
        button("last", "To the last step (End)", () => { this.stop(); this.go(this.rows.length - 1); }),
        this.slider, this.where),
      this.live,
    );
  }

  lanesNode() {
    this.lanesBox = el("div", { class: this.lanes.length > 1 ? "lanes two" : "lanes" }, this.lanes.map((lane) => lane.node));
    return this.lanesBox;
  }

  compare(value) {
    this.lanes.length = 1;
    if (value !== "") this.lanes.push(new Lane(this.lanes[0].run, this.lanes[0].run.flows[Number(value)], "B"));
    this.lanes[0].name = value === "" ? "" : "A";
    this.lanes[0].show(this.lanes[0].flow);
    this.lanesBox.className = this.lanes.length > 1 ? "lanes two" : "lanes";
    this.lanesBox.replaceChildren(...this.lanes.map((lane) => lane.node));
    this.at = 0;
    this.chosen();
  }

  // Something was chosen: new rows of steps, shown from where we are.
  chosen() {
    this.lanes.forEach((lane) => { lane.steps = stepsOf(lane.flow, this.whole); });
    const [left, right] = this.lanes;
    this.rows = right ? aligned(left.steps, right.steps) : left.steps.map((step) => [step]);
    if (!this.rows.length) this.rows = [[null, null]];
    const rules = this.lanes.map((lane) => lane.run.rules);
    this.apart = right ? this.rows.map(([one, other]) => differences(one, other, rules)) : [];
    this.slider.max = this.rows.length - 1;
    this.lanes.forEach((lane) => { lane.map.resize(); lane.packets.replaceChildren(this.packetsOf(lane)); });
    this.go(Math.min(this.at, this.rows.length - 1));
  }

  packetsOf(lane) {
    const every = packetsOf(lane.flow);
    const row = (packet, number) => {
      const hops = packet.hops.map((hop, place) => {
        const step = lane.steps.find((one) => one.hop === hop && one.number === number);
        const rewrote = hop.rewrite.length > 0;
        return el("li", {}, el("button", { type: "button", class: rewrote ? "rewrote" : "", "data-hop": `${number}.${place}`, onclick: () => this.jump(lane, number, place), disabled: !step && !packet.hops.length }, visible(hop.node, 40), rewrote && el("small", {}, ` ${hop.rewrite.join("+")}`)));
      });
      const name = `${packet.reply ? "←" : "→"} ${packet.label}${packet.again ? " again" : ""}`;
      return el("li", { class: packet.reply ? "back" : "there" }, el("span", { class: "label" }, name), hops.length ? el("ol", { class: "hops", "aria-label": `Hops of ${packet.label}` }, hops) : el("span", { class: "quiet" }, count(packet.count, "hop")));
    };
    const main = every.map((packet, number) => packet.main && row(packet, number)).filter(Boolean);
    const rest = every.map((packet, number) => !packet.main && row(packet, number)).filter(Boolean);
    return el("div", {}, el("h3", {}, "Packets"), el("ul", { class: "list" }, main), rest.length > 0 && el("details", { open: this.whole }, el("summary", {}, `the rest of the exchange (${count(rest.length, "packet")})`), el("ul", { class: "list" }, rest)), legsNode(lane.flow));
  }

  jump(lane, number, place) {
    this.stop();
    const wanted = (row) => { const step = row[this.lanes.indexOf(lane)]; return step && step.number === number && step.place === place; };
    if (!this.rows.some(wanted)) { this.whole = this.wholeBox.checked = true; this.chosen(); }
    this.go(this.rows.findIndex(wanted));
  }

  // To the hop that a frame belongs to, in whatever flow: where evidence leads.
  toFrame(run, frame) {
    const lane = this.lanes.find((one) => one.run === run);
    for (const [index, flow] of run.flows.entries()) {
      for (const [number, packet] of packetsOf(flow).entries()) {
        const place = packet.hops.findIndex((hop) => hop.frames.includes(frame));
        if (place < 0) continue;
        if (lane.flow !== flow) lane.pick(index);
        this.jump(lane, number, place);
        this.root.focus({ preventScroll: true });
        this.root.scrollIntoView({ behavior: calm() ? "auto" : "smooth" });
        return true;
      }
    }
    return false;
  }

  stepOf(lane) {
    const column = this.lanes.indexOf(lane);
    for (let at = this.at; at >= 0; at--) if (this.rows[at][column]) return lane.steps.indexOf(this.rows[at][column]);
    return -1;
  }

  go(to, moved = false) {
    const before = this.at;
    this.at = Math.max(0, Math.min(this.rows.length - 1, to));
    this.slider.value = this.at;
    this.slider.setAttribute("aria-valuetext", `step ${this.at + 1} of ${this.rows.length}`);
    this.where.textContent = `step ${this.at + 1} of ${this.rows.length}`;
    const row = this.rows[this.at];
    const told = [];
    this.lanes.forEach((lane, column) => {
      const step = row[column];
      const apart = this.apart[this.at] || [];
      lane.map.step(lane.steps, this.stepOf(lane), moved && this.at === before + 1 && Boolean(step));
      lane.detail.replaceChildren(hopDetail(step, lane.steps, lane.run), column === 0 && apart.length ? apartNode(apart) : "");
      lane.node.querySelectorAll("[aria-current]").forEach((one) => one.removeAttribute("aria-current"));
      if (step) {
        const button = lane.node.querySelector(`[data-hop="${step.number}.${step.place}"]`);
        if (button) button.setAttribute("aria-current", "step");
        told.push(`${lane.name ? `${lane.name}: ` : ""}${sentence(step, lane.run.rules)}`);
      } else if (lane.name) told.push(`${lane.name}: does not come by here.`);
    });
    if (this.apart[this.at]?.length) told.push("The two differ here.");
    this.live.replaceChildren(...(this.lanes.length > 1 ? told.map((one) => el("span", { class: "line" }, one)) : [document.createTextNode(told.join(" "))]));
    this.named();
  }

  named() {
    const word = this.playing ? "Pause" : "Play";
    if (this.play.getAttribute("aria-label") === word && this.play.childElementCount > 1) return;
    this.play.replaceChildren(icon(ICONS[word.toLowerCase()]), el("span", {}, word));
    this.play.setAttribute("aria-label", word);
  }

  toggle() {
    if (this.playing) { this.stop(); return; }
    if (this.at === this.rows.length - 1) this.at = -1;
    this.playing = setInterval(() => {
      if (this.at >= this.rows.length - 1) this.stop();
      else this.go(this.at + 1, true);
    }, PACE);
    this.go(this.at + 1, true);
  }

  stop() {
    clearInterval(this.playing);
    this.playing = 0;
    this.named();
  }

  keys() {
    const acts = { ArrowRight: () => this.go(this.at + 1, true), ArrowLeft: () => this.go(this.at - 1, true), Home: () => this.go(0), End: () => this.go(this.rows.length - 1) };
    document.addEventListener("keydown", (event) => {
      const target = event.target;
      if (event.altKey || event.ctrlKey || event.metaKey || ["SELECT", "TEXTAREA"].includes(target.tagName) || target.type === "range") return;
      if (event.key === " " && !["BUTTON", "SUMMARY", "A", "INPUT"].includes(target.tagName)) { event.preventDefault(); this.toggle(); return; }
      const act = acts[event.key];
      if (!act || (target.closest(".scroll") && target.scrollWidth > target.clientWidth)) return;
      event.preventDefault();
      this.stop();
      act();
    });
  }

  // #flow=2&step=5 in the address: the second flow's fifth step.
  fromAddress() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    if (!this.lanes.length) return;
    const flow = this.lanes[0].run.flows.findIndex((one) => one.number === Number(wanted.get("flow")));
    if (flow >= 0) this.lanes[0].pick(flow);
    const beside = this.lanes[0].run.flows.findIndex((one) => one.number === Number(wanted.get("beside")));
    if (this.beside && beside >= 0) { this.beside.value = beside; this.compare(beside); }
    if (wanted.get("step")) this.go(Number(wanted.get("step")) - 1);
  }
}

const ICONS = {
  first: "M3 3h2v10H3zM13 3v10L6 8z", back: "M11 3v10L4 8z", play: "M4 2.5v11L13 8z", pause: "M3.5 3h3v10h-3zM9.5 3h3v10h-3z",
  next: "M5 3v10l7-5z", last: "M11 3h2v10h-2zM3 3v10l7-5z",
};
const icon = (path) => draw("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" }, draw("path", { d: path }));
// Connections that proxies opened to pass the flow on, and how it is known that they belong to it.
function legsNode(flow) {
  const legs = (flow.legs || []).map((leg) => el("li", {}, el("b", {}, `Leg ${leg.leg}: `), visible(leg.sender || "a proxy", 60), leg.reused ? " goes on in a connection that it has kept, " : " goes on in a connection of its own, ", outcomeWord(leg.outcome), [...(leg.joined_by || []), leg.proxy_header, ...(leg.forwarded || [])].filter(Boolean).length > 0 && el("ul", {}, [...(leg.joined_by || []), leg.proxy_header, ...(leg.forwarded || [])].filter(Boolean).map((one) => el("li", {}, visible(one, 300))))));
  if (!legs.length && !flow.beyond) return "";
  return el("div", { class: "legs" }, el("h3", {}, "Behind the proxy"), el("ul", {}, legs), flow.beyond && el("p", {}, visible(flow.beyond, 500)));
}

const MARKS = { accepted: "✓", rejected: "!", dropped: "✗", unanswered: "?" };
const outcomeMark = (outcome) => el("span", { class: `mark ${outcome}`, "aria-hidden": "true" }, MARKS[outcome] || "·");
const outcomeWord = (outcome) => el("span", { class: `outcome ${outcome}` }, `${MARKS[outcome] || ""} ${outcome}`);
const flowLabel = (flow) => `${flow.number}. ${visible(flow.name, 70)} (${flow.outcome})`;
const apartNode = (apart) => el("div", { class: "apart" }, el("h4", {}, "≠ The two differ here (A | B)"), el("ul", {}, apart.map((one) => el("li", {}, visible(one, 300)))));
