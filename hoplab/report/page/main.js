// Begins here: the run's data becomes the page.

const data = JSON.parse(byId("data").textContent);
header(data);
const walk = new Walk(data);
const walked = walk.lanes.length ? walk : null;
why(data, walked);
divergences(data, walked);
for (const part of [spread, checks, about]) {
  data.runs.forEach((run, number) => {
    const node = part(run, data.runs.length > 1 ? "AB"[number] : "", walked);
    if (node) byId("parts").append(node);
  });
}
byId("bottom").append(el("p", {}, "Everything here was seen on interfaces, in rule traces and in connection tracking during the run. Keys: ", el("kbd", {}, "←"), " ", el("kbd", {}, "→"), " step, ", el("kbd", {}, "space"), " play or pause, ", el("kbd", {}, "Home"), " ", el("kbd", {}, "End"), " first and last."));
walk.fromAddress();
addEventListener("hashchange", () => walk.fromAddress());
document.documentElement.dataset.ready = "yes";
