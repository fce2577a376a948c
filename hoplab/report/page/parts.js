// Everything around the walk: the verdict, why something failed, the spread, the checks, the run itself.

const verdict = (run) => el("span", { class: `verdict ${run.passed ? "good" : "bad"}` }, run.passed ? "✓ passed" : "✗ failed");

function header(data) {
  const run = data.runs[0];
  const two = data.runs.length > 1;
  const links = el("nav", { "aria-label": "Files" }, el("ul", { class: "files" }, fileLinks(data)));
  byId("top").append(
    el("p", { class: "brand" }, "hoplab"),
    el("h1", {}, two ? [visible(data.runs[0].scenario, 60), " beside ", visible(data.runs[1].scenario, 60)] : visible(run.scenario, 80)),
    el("div", { class: "verdicts" }, data.runs.map((one, number) => el("p", { class: "verdict-line" }, two && el("span", { class: "side" }, "AB"[number]), verdict(one), el("span", { class: "quiet" }, [checksWord(one), `seed ${one.seed}`, one.started && one.started.replace("T", " ").replace("Z", " UTC"), one.timings_s.total !== undefined && `${one.timings_s.total.toFixed(2)} s`, two && one.folder].filter(Boolean).map((word) => visible(word, 120)).join(" · "))))),
    themeSwitch(),
    links,
  );
}

const checksWord = (run) => `${run.checks_held} of ${count(run.checks_made, "check")} hold${run.checks_held === 1 && run.checks_made === 1 ? "s" : ""}`;

function fileLinks(data) {
  if (data.kind !== "run") return [];
  const names = { pcapng: "run.pcapng", story: "story.txt", json: "run.json" };
  const words = { pcapng: "capture for Wireshark", story: "story as text", json: "JSON" };
  const kinds = Object.keys(names).filter((kind) => data.runs[0].artifacts[kind]);
  return [["../index.html", "all runs"], ...kinds.map((kind) => [names[kind], words[kind]])].map(([address, word]) => el("li", {}, el("a", { href: address }, word)));
}

// Why the run failed comes before everything else: the failed checks, and what is known of the flows behind them.
function why(data, walk) {
  for (const [number, run] of data.runs.entries()) {
    const failed = run.checks.filter((check) => !check.passed);
    const side = data.runs.length > 1 ? `Run ${"AB"[number]}: ` : "";
    if (run.passed) continue;
    const told = reasons(run, walk);
    const open = told ? 1 : 2;
    const title = failed.length ? `${side}why it failed` : `${side}no check was made, so nothing is proved`;
    byId("why").append(el("section", { class: "why", "aria-labelledby": `why-${number}` }, el("h2", { id: `why-${number}` }, title.charAt(0).toUpperCase() + title.slice(1)), told, el("ul", { class: "checks" }, failed.slice(0, open).map((check) => checkNode(check, run, walk, true)), failed.slice(open, 12).map((check) => checkNode(check, run, walk, false))), failed.length > 12 && el("p", {}, `and ${failed.length - 12} more, below`)));
  }
}

// The same cause at the same place is told once, with all flows that it hit.
function reasons(run, walk) {
  const groups = new Map();
  const add = (reason, number, flow) => {
    const key = `${reason.cause} ${reason.node} ${number}`;
    if (!groups.has(key)) groups.set(key, { reason, number, flows: [] });
    if (flow) groups.get(key).flows.push(flow);
  };
  (run.reasons || []).forEach((reason, number) => add(reason, number, null));
  for (const flow of run.flows) [...(flow.reasons || []), ...(flow.legs || []).flatMap((leg) => leg.reasons || [])].slice(0, 4).forEach((reason, number) => add(reason, number, flow));
  if (!groups.size) return "";
  const hit = (flow) => el("span", { class: "hit" }, el("b", {}, visible(flow.name, 80)), " ", outcomeWord(flow.outcome));
  return el("ul", { class: "reasons" }, [...groups.values()].slice(0, 12).map(({ reason, number, flows }) => el("li", {}, reasonNode(reason, number, run, walk), flows.length > 0 && el("p", { class: "of" }, `Hit ${count(flows.length, "flow")}: `, flows.slice(0, 8).map(hit), flows.length > 8 && ` and ${flows.length - 8} more`))));
}

// One reason: what, where, the evidence, what to do; where the evidence does not decide, which experiment would.
function reasonNode(reason, number, run, walk) {
  const where = [reason.node, reason.interface].filter(Boolean).join(" ");
  const seen = reason.last_seen && (reason.frame && !/frame/.test(reason.last_seen) ? `${reason.last_seen}, frame ${reason.frame}` : reason.last_seen);
  const parts = [["where", where], ["object", reason.object], ["last seen", seen], ["evidence", reason.evidence], ["next", reason.next_step], ["to tell", reason.experiment]];
  const shown = parts.filter(([, text]) => text && text.length).flatMap(([word, text]) => [el("dt", {}, word), [text].flat().map((one) => el("dd", {}, withFrames(one, run, walk)))]);
  return el("div", { class: "reason-node" }, el("p", {}, el("span", { class: "cause" }, visible(reason.cause, 40)), " ", el("b", {}, visible(reason.words, 600)), !reason.decided && el("span", { class: "quiet" }, number ? " (or this)" : " (the evidence fits others as well)")), el("dl", {}, shown));
}

// Evidence whose frames can be looked at leads to them.
function withFrames(text, run, walk) {
  const shown = visible(text, 600);
  const found = /\bframes? (\d+)/.exec(shown);
  if (!found || !walk) return shown;
  const frame = Number(found[1]);
  const known = run.flows.some((flow) => packetsOf(flow).some((packet) => packet.hops.some((hop) => hop.frames.includes(frame))));
  if (!known) return shown;
  return el("button", { type: "button", class: "evidence", onclick: () => walk.toFrame(run, frame) }, shown);
}

function checkNode(check, run, walk, open) {
  const body = el("dl", {}, [["expected", check.expected], ["observed", check.observed]].flatMap(([word, text]) => [el("dt", {}, word), el("dd", { class: word === "observed" && !check.passed ? "bad" : "" }, withFrames(text, run, walk))]), check.evidence.length > 0 && [el("dt", {}, "evidence"), check.evidence.map((one) => el("dd", {}, withFrames(one, run, walk)))]);
  const head = [el("span", { class: `mark ${check.passed ? "accepted" : "dropped"}`, role: "img", "aria-label": check.passed ? "holds" : "does not hold" }, check.passed ? "✓" : "✗"), " ", visible(check.name, 300)];
  return el("li", { class: check.passed ? "" : "failed" }, open ? [el("p", { class: "check-name" }, head), body] : el("details", {}, el("summary", {}, head), body));
}

function checks(run, side, walk) {
  const id = `checks-${side || "a"}`;
  const more = run.checks_made - run.checks.length;
  const failed = run.checks_made - run.checks_held - run.checks.filter((check) => !check.passed).length;
  return el("section", { class: "part", "aria-labelledby": id }, el("h2", { id }, `${side ? `Run ${side}: c` : "C"}hecks: ${run.checks_held === run.checks_made && run.checks_made ? "all hold" : `${run.checks_held} of ${run.checks_made} hold`}`), el("ul", { class: "checks" }, run.checks.map((check) => checkNode(check, run, walk, false))), more > 0 && el("p", {}, `${count(more, "more check")}${failed ? "" : ", all of which hold,"} ${more === 1 ? "is" : "are"} in run.json.`));
}

// Who got how many of equal flows: bars, and the same numbers as a table.
function spread(run, side) {
  if (!(run.spread || []).length) return "";
  const id = `spread-${side || "a"}`;
  return el("section", { class: "part", "aria-labelledby": id }, el("h2", { id }, `${side ? `Run ${side}: w` : "W"}here equal flows went`), run.spread.map((one) => el("div", { class: "spread" }, el("h3", {}, `${visible(one.title, 120)}: ${count(one.flows, "flow")}`), el("div", { class: "plots" }, plot("entered the cluster by", one.entered, one.flows, "no node"), plot("were answered by", one.answered, one.flows, "nobody")), Object.keys(one.outcomes).length > 1 && el("p", {}, Object.entries(one.outcomes).map(([outcome, number]) => `${number} ${outcome}`).join(", ")))));
}

function plot(title, counts, all, nobody) {
  const rows = Object.entries(counts).map(([name, number]) => [name || nobody, number, !name]);
  const top = Math.max(...rows.map(([, number]) => number), 1);
  const even = (all / rows.length / top) * 200;
  const bar = (number, none) => draw("svg", { viewBox: "0 0 200 20", preserveAspectRatio: "none", class: "share", "aria-hidden": "true" }, draw("rect", { class: none ? "none" : "", y: 2, width: (number / top) * 200, height: 16 }), rows.length > 1 && draw("line", { class: "even", x1: Math.min(199, even), x2: Math.min(199, even), y1: 0, y2: 20 }));
  const heads = ["place", "flows", "share"].map((word) => el("th", { scope: "col" }, word));
  const body = rows.map(([name, number, none]) => el("tr", {}, el("th", { scope: "row" }, visible(name, 40)), el("td", {}, number), el("td", {}, `${((100 * number) / all).toFixed(0)} %`), el("td", { class: "drawn" }, bar(number, none))));
  return el("div", { class: "plot" }, el("table", {}, el("caption", {}, title), el("thead", {}, el("tr", {}, heads, el("td", {}))), el("tbody", {}, body)), rows.length > 1 && el("p", { class: "quiet" }, `dashed line: an even share, ${(all / rows.length).toFixed(1)} flows`));
}

function about(run, side) {
  const id = `about-${side || "a"}`;
  const facts = [
    ...Object.entries(run.options || {}),
    ...Object.entries(run.timings_s).map(([phase, seconds]) => [`time: ${phase}`, `${seconds.toFixed(2)} s`]),
  ];
  const notes = [...run.losses.map((loss) => `${loss.lost} ${loss.source} events of ${loss.node} were lost ${loss.reason}`), ...run.problems];
  return el("section", { class: "part", "aria-labelledby": id }, el("h2", { id }, `${side ? `Run ${side}` : "The run"}`), notes.length > 0 && el("ul", { class: "notes" }, notes.map((note) => el("li", {}, visible(note, 800)))), el("dl", { class: "facts-list" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, visible(name, 60)), el("dd", {}, visible(value, 80))))), run.flows_left_out > 0 && el("p", {}, `${count(run.flows_left_out, "more flow")} of this run went ways that are shown here already, or found no room: they are in run.json, and counted in the spread.`));
}

const SHOWN = 3;

// Two runs: what differs, the first divergence first; each leads to its step.
function divergences(data, walk) {
  if (data.kind !== "diff") return;
  const { differences: found, count: all, ignored, settings, same } = data.diff;
  const places = (one) => ["left", "right"].map((side, number) => data.runs[number].flows.findIndex((flow) => flow.name === one[`${side}_flow`]));
  const jump = (one) => {
    const [left, right] = places(one);
    walk.lanes[0].pick(left);
    walk.lanes[1].pick(right);
    const side = one.left_hop >= 0 ? 0 : 1, lane = walk.lanes[side];
    const number = packetsOf(lane.flow).findIndex((packet) => packet.hops === lane.flow[one.way]);
    if (one.way && number >= 0) walk.jump(lane, number, side ? one.right_hop : one.left_hop);
    walk.root.focus({ preventScroll: true });
    walk.root.scrollIntoView({ behavior: calm() ? "auto" : "smooth" });
  };
  const leads = (one) => walk && walk.lanes.length > 1 && one.left_flow && one.right_flow && places(one).every((place) => place >= 0);
  const item = (one, number) => el("li", { class: number === 0 ? "first" : "" }, el("p", {}, number === 0 && el("b", {}, "First divergence: "), leads(one) ? el("button", { type: "button", class: "evidence", onclick: () => jump(one) }, visible(one.where, 300)) : visible(one.where, 300), el("b", {}, ` ${visible(one.what, 60)}`)), el("dl", {}, el("dt", {}, "A"), el("dd", {}, visible(one.left, 500)), el("dt", {}, "B"), el("dd", {}, visible(one.right, 500))));
  const chosen = settings.map(([name, one, other]) => el("li", {}, el("b", {}, visible(name, 60)), ` A ${visible(one, 80)}, B ${visible(other, 80)}`));
  byId("why").prepend(el("section", { class: same ? "part same" : "why differs", "aria-labelledby": "differs" }, el("h2", { id: "differs" }, same ? "Both runs saw the same" : `Where they differ: ${count(all, "difference")}`), found.length > 0 && el("ol", { class: "divergences" }, found.slice(0, SHOWN).map(item)), found.length > SHOWN && el("details", {}, el("summary", {}, `${all - SHOWN} more`), el("ol", { class: "divergences", start: SHOWN + 1 }, found.slice(SHOWN).map((one, number) => item(one, number + SHOWN)))), chosen.length > 0 && el("p", {}, "Chosen differently:"), chosen.length > 0 && el("ul", {}, chosen), el("p", { class: "quiet" }, `Not compared: ${ignored.join("; ")}.`)));
  if (found.length && leads(found[0])) { const top = scrollY; jump(found[0]); document.activeElement.blur(); scrollTo(0, top); }
}
