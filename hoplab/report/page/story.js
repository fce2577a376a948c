// A flow as packets and steps: a packet is followed hop by hop, and each hop is one step of the walk.

const LOST = ["dropped", "unanswered"];

function packetsOf(flow) {
  if (!flow.packets) {
    flow.packets = [flow, ...(flow.legs || [])].flatMap(ownPackets);
    if ((flow.legs || []).length) flow.packets.sort((a, b) => a.time - b.time);
  }
  return flow.packets;
}

// A proxy's own connection is a leg of the flow: its packets stand among the others, in time order.
function ownPackets(flow) {
  const name = (label) => (flow.leg ? `leg ${flow.leg} ${label}` : label);
  const packets = (flow.passages || []).map((passage) => ({
    label: name(passage.label),
    reply: passage.reply,
    again: passage.retransmission,
    main: Boolean(passage.same),
    hops: passage.same ? flow[passage.same] : passage.hops || [],
    count: passage.nodes.length,
    time: passage.time_ns,
  }));
  for (const [way, reply] of [["forward", false], ["reply", true]]) {
    if (flow[way].length && !packets.some((packet) => packet.main && packet.hops === flow[way])) {
      packets.push({ label: name(reply ? "answer" : "packet"), reply, again: false, main: true, hops: flow[way], count: flow[way].length, time: flow[way][0].time_ns });
    }
  }
  return packets;
}

function stepsOf(flow, whole) {
  const steps = [];
  packetsOf(flow).forEach((packet, number) => {
    if (!packet.main && !whole) return;
    packet.hops.forEach((hop, place) => steps.push({ packet, number, hop, place, before: packet.hops[place - 1], flow }));
  });
  const last = steps[steps.length - 1];
  if (last && LOST.includes(flow.outcome)) last.lost = last.packet.reply && last.hop.node === flow.sender ? "not the answer" : flow.outcome;
  return steps;
}

const wayOf = (step) => (step.packet.reply ? "back" : "there");

// What changed in a hop, as [field, before, after].
function changesOf(hop) {
  const changes = [];
  if (destination(hop.before) !== destination(hop.after)) changes.push(["destination", destination(hop.before), destination(hop.after)]);
  if (source(hop.before) !== source(hop.after)) changes.push(["source", source(hop.before), source(hop.after)]);
  return changes;
}

function interfacesOf(hop) {
  if (!hop.in) return hop.out ? `sends by ${hop.out}` : "seen by rule traces only";
  return hop.out ? `in by ${hop.in}, out by ${hop.out}` : `takes in by ${hop.in}`;
}

function ttlOf(hop) {
  if (hop.ttl_in !== null && hop.ttl_out !== null) return `TTL ${hop.ttl_in} → ${hop.ttl_out}`;
  const known = hop.ttl_in ?? hop.ttl_out;
  return known === null ? "" : `TTL ${known}`;
}

const decisiveOf = (hop, rules) => hop.rules.map((number) => rules[number]).filter((rule) => rule.does);
const chainOf = (rule) => `${rule.table} ${rule.chain}${rule.rule === "policy" ? " policy" : ""}`;
const deciding = (rule) => `${rule.does} by ${chainOf(rule)}${rule.object ? `: ${rule.object}` : ""}`;

const lostWord = (step) => ({ dropped: "dropped here", unanswered: "last seen here" })[step.lost] || step.lost;

// A step in one sentence, for the live region and for whoever listens to the page.
function sentence(step, rules) {
  const hop = step.hop;
  const told = [`${wayOf(step)}, ${step.packet.label}: ${hop.node}, ${interfacesOf(hop)}`];
  for (const [field, before, after] of changesOf(hop)) told.push(`${field} ${before} becomes ${after}`);
  for (const rule of decisiveOf(hop, rules)) told.push(deciding(rule));
  if (step.lost) told.push(lostWord(step));
  return `${told.join("; ")}.`;
}

// Two walks beside each other: rows of steps, a step alone where the other walk has none (longest common way).
function aligned(left, right) {
  const key = (step) => `${step.packet.reply} ${step.packet.label} ${step.hop.node}`;
  const a = left.map(key), b = right.map(key);
  const length = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      length[i][j] = a[i] === b[j] ? length[i + 1][j + 1] + 1 : Math.max(length[i + 1][j], length[i][j + 1]);
    }
  }
  const rows = [];
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) rows.push([left[i++], right[j++]]);
    else if (j >= b.length || (i < a.length && length[i + 1][j] >= length[i][j + 1])) rows.push([left[i++], null]);
    else rows.push([null, right[j++]]);
  }
  return rows;
}

// Where two steps differ; times, ports that the kernel or the prober made up, and generated interface names do not count.
function differences(left, right, rules) {
  if (!left || !right) return left || right ? ["only one of them comes by here"] : [];
  const bare = (name) => String(name).replace(/^veth[0-9a-f]{6,}$/, "veth…");
  const known = (port) => (port && port < 32768 ? `:${port}` : "");
  const facts = (step, mine) => ({
    "interfaces": `${bare(step.hop.in)} ${bare(step.hop.out)}`,
    "destination": `${step.hop.before.dst}${known(step.hop.before.dport)} → ${step.hop.after.dst}${known(step.hop.after.dport)}`,
    "source": `${step.hop.before.src}${known(step.hop.before.sport)} → ${step.hop.after.src}${known(step.hop.after.sport)}`,
    "TTL": ttlOf(step.hop),
    "tunnel": step.hop.tunnel ? "in a tunnel" : "",
    "deciding rules": decisiveOf(step.hop, mine).map((rule) => rule.does).join(", "),
    "how it ended": step.lost || "",
  });
  const told = (step, mine) => (step.hop.facts ? { ...step.hop.facts, "how it ended": step.lost || "" } : facts(step, mine));
  const one = told(left, rules[0]), other = told(right, rules[1]);
  return Object.keys(one).filter((fact) => one[fact] !== other[fact]).map((fact) => `${fact}: ${one[fact] || "none"} | ${other[fact] || "none"}`);
}
