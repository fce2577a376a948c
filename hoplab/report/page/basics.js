// Small helpers that every part of the page uses: elements, harmless text, numbers, the switch for light and dark.

const SVG = "http://www.w3.org/2000/svg";
const ACTING = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu;
const NAMED = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

// Text of unknown origin: what would act instead of being read becomes an escape, as in the terminal's story.
function visible(text, most = 0) {
  let shown = String(text).replace(ACTING, (character) => {
    if (NAMED[character]) return NAMED[character];
    const number = character.codePointAt(0);
    if (number < 0x100) return "\\x" + number.toString(16).padStart(2, "0");
    return number < 0x10000 ? "\\u" + number.toString(16).padStart(4, "0") : "\\U" + number.toString(16).padStart(8, "0");
  });
  if (most && shown.length > most) {
    const half = Math.floor((most - 5) / 2);
    shown = `${shown.slice(0, half)} ... ${shown.slice(-half)}`;
  }
  return shown;
}

// Children are nodes or text; text always goes in as text, never as markup.
function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : visible(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false || child === "") continue;
    node.append(child instanceof Node ? child : document.createTextNode(visible(child)));
  }
  return node;
}

const el = (tag, properties, ...children) => fill(document.createElement(tag), properties, children);
const draw = (tag, properties, ...children) => fill(document.createElementNS(SVG, tag), properties, children);
const byId = (id) => document.getElementById(id);

function endpoint(address, port) {
  if (!port) return address;
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

const source = (tuple) => endpoint(tuple.src, tuple.sport);
const destination = (tuple) => endpoint(tuple.dst, tuple.dport);
const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;

function duration(nanoseconds) {
  if (nanoseconds < 1e6) return `${(nanoseconds / 1e3).toFixed(0)} µs`;
  return nanoseconds < 1e9 ? `${(nanoseconds / 1e6).toFixed(1)} ms` : `${(nanoseconds / 1e9).toFixed(2)} s`;
}

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// Light and dark: what the system says, until somebody says otherwise.
function themeSwitch() {
  const keep = (value) => { try { localStorage.setItem("hoplab-theme", value); } catch { /* a page that may keep nothing */ } };
  const kept = () => { try { return localStorage.getItem("hoplab-theme") || ""; } catch { return ""; } };
  const root = document.documentElement;
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  const button = el("button", { type: "button", class: "theme", id: "theme" });
  const name = () => { button.textContent = dark() ? "☀ Light" : "☾ Dark"; button.setAttribute("aria-label", dark() ? "Use light colours" : "Use dark colours"); };
  if (["light", "dark"].includes(kept())) root.dataset.theme = kept();
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; keep(root.dataset.theme); name(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  name();
  return button;
}
