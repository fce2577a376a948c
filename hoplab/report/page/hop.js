// One hop in full: headers before and after, who rewrote them, every rule met, connection tracking, frames.

const FIELDS = [
  ["Source", (hop) => source(hop.before), (hop) => source(hop.after)],
  ["Destination", (hop) => destination(hop.before), (hop) => destination(hop.after)],
  ["TTL", (hop) => hop.ttl_in, (hop) => hop.ttl_out],
  ["MAC from", (hop) => hop.mac_in && hop.mac_in[0], (hop) => hop.mac_out && hop.mac_out[0]],
  ["MAC to", (hop) => hop.mac_in && hop.mac_in[1], (hop) => hop.mac_out && hop.mac_out[1]],
];

function hopDetail(step, steps, run) {
  if (!step) return el("div", { class: "hop empty" }, el("p", {}, steps.length ? "This packet does not come by here." : "No packet of this flow was seen anywhere."));
  const hop = step.hop;
  const since = step.before ? hop.time_ns - step.before.time_ns : 0;
  const start = steps[0].hop.time_ns;
  const facts = [
    interfacesOf(hop), ttlOf(hop), since > 0 && `+${duration(since)} since the hop before`, hop.time_ns > start && `${duration(hop.time_ns - start)} after the first frame`,
  ].filter(Boolean);
  return el(
    "div", { class: `hop ${wayOf(step)}` },
    el("h3", {}, el("span", { class: "way" }, `${step.packet.reply ? "← back" : "→ there"} ${step.packet.label}${step.packet.again ? " (again)" : ""}`), el("span", { class: "node" }, visible(hop.node, 60))),
    el("p", { class: "facts" }, facts.join(" · ")),
    step.lost && lostWords(step),
    el("ul", { class: "decisions" }, decisiveOf(hop, run.rules).map((rule) => decision(rule))),
    undone(hop, run.rules),
    headers(hop),
    hop.tunnel && el("p", { class: "tunnel" }, el("b", {}, "In a tunnel: "), hop.tunnel.replace("->", "→")),
    everyRule(hop, run.rules),
    tracking(step),
    el("p", { class: "frames" }, hop.frames.length ? ["Frames ", el("code", {}, hop.frames.join(", ")), " · in Wireshark ", el("code", {}, `frame.number in {${hop.frames.join(", ")}}`)] : "No frame: only the rules' trace saw it here."),
  );
}

function lostWords(step) {
  const flow = step.flow;
  return el("p", { class: "lost-here", role: "note" }, el("b", {}, `✗ ${lostWord(step).charAt(0).toUpperCase()}${lostWord(step).slice(1)}. `), visible(flow.reason || "", 600));
}

function decision(rule) {
  const bad = ["drop", "reject"].includes(rule.does);
  return el("li", { class: bad ? "bad" : "" }, el("b", {}, rule.does), " by ", el("code", {}, chainOf(rule)), rule.object && [": ", el("span", { class: "object" }, visible(rule.object, 300))]);
}

// A rewrite that no rule of this passage explains was done by connection tracking.
function undone(hop, rules) {
  const done = decisiveOf(hop, rules).map((rule) => rule.does);
  const left = hop.rewrite.filter((kind) => !done.some((does) => (kind === "DNAT" ? ["DNAT", "redirect"] : ["SNAT", "masquerade"]).includes(does)));
  return left.length ? el("p", { class: "by-conntrack" }, el("b", {}, left.join(" and ")), " by connection tracking: no rule was asked, the entry of the first packet was.") : "";
}

function headers(hop) {
  const both = hop.in && hop.out;
  const rows = FIELDS.map(([name, before, after]) => [name, before(hop), after(hop)]).filter(([, before, after]) => (before ?? after ?? null) !== null);
  const cell = (value) => (value === null || value === undefined ? "–" : visible(value));
  const shown = rows.map(([name, before, after]) => {
    const rewritten = ["Source", "Destination"].includes(name) && before !== after;
    const changed = rewritten || (both && before !== null && after !== null && before !== after);
    const kind = changed ? (rewritten ? "rewritten" : "changed") : "";
    return el(
      "tr", { class: kind },
      el("th", { scope: "row" }, name),
      el("td", {}, cell(name === "TTL" || name.startsWith("MAC") || hop.in || rewritten ? before : null)),
      el("td", { class: "mark" }, changed ? el("span", { "aria-label": rewritten ? "rewritten to" : "changed to", role: "img" }, rewritten ? "⇒" : "→") : ""),
      el("td", {}, cell(name === "TTL" || name.startsWith("MAC") || hop.out || rewritten ? after : null)),
    );
  });
  return el(
    "div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Headers before and after" },
    el("table", { class: "headers" }, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Header"), el("th", { scope: "col" }, hop.in ? `came in by ${hop.in}` : "made here"), el("td", {}), el("th", { scope: "col" }, hop.out ? `left by ${hop.out}` : "taken here"))), el("tbody", {}, shown)),
  );
}

function everyRule(hop, rules) {
  if (!hop.rules.length) return el("p", { class: "quiet" }, "No rule was traced here. Traced are nodes, balancer and router, and the packets that open or refuse something; connection tracking does the rest.");
  const items = hop.rules.map((number) => {
    const rule = rules[number];
    const text = rule.rule === "policy" ? `policy ${rule.verdict}` : rule.rule.replace(`-A ${rule.chain} `, "");
    return el("li", { class: rule.does ? "decides" : "" }, el("span", { class: "hook" }, rule.hook || "?"), el("code", {}, `${rule.family} ${rule.table} ${rule.chain}`), " ", el("code", { class: "rule" }, visible(text, 400)), rule.rule !== "policy" && el("span", { class: "verdict-word" }, ` → ${visible(rule.verdict, 80)}`));
  });
  return el("details", { class: "rules" }, el("summary", {}, `Every rule that it met here (${hop.rules.length})`), el("ol", {}, items));
}

function tracking(step) {
  const every = [step.flow, ...(step.flow.legs || [])].flatMap((flow) => flow.conntrack || []);
  const entries = every.filter((entry) => entry.node === step.hop.node);
  if (!entries.length) return "";
  const told = entries.map((entry) => el("li", {}, el("code", {}, `${source(entry.original)} → ${destination(entry.original)}`), el("br"), "an answer comes as ", el("code", {}, `${source(entry.reply)} → ${destination(entry.reply)}`), entry.state && ` ${entry.state}`));
  return el("div", { class: "tracking" }, el("h4", {}, `Connection tracking of ${visible(step.hop.node, 60)}`), el("ul", {}, told));
}
