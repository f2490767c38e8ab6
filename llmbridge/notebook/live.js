// The inspector: interceptions while they stream, and step by step afterwards.
//
// One ES module without imports, loaded by anywidget as it stands. Whatever a model, a tool or a client wrote is text
// here: it reaches the page through text nodes alone. Nothing is fetched but `control`, which stops a call.
//
// What comes from the kernel (llmbridge/notebook/outbox.py): batches of events with absolute places, the trait
// `keyframe` (how everything stands), the trait `recording` (ended interceptions whole), and history when asked for.
//
// Hooks for tests, which stay as they are:
//   .llmb                     a view; data-mode=live|closed|play|page data-selected=ID data-status=live|done|stopped|error
//                             data-events=N (have come) data-shown=K (are folded into what is seen)
//   [data-part=NAME]          filter list title status stop stats timeline play back forward slider place speed follow
//                             copy-curl copy-cassette note tab-X panel-X (message events request response usage)
//   [role=option][data-id][data-status]         one interception in the list
//   [data-block=N][data-kind=text|thinking|tool|refusal|error]   a block; what was said is in its [data-part=text]
//   [data-event=K]            a row of the events panel (only those in view are there)

// ---- The value that a cut JSON document already determines, as canon/partial_json.py has it

const ABSENT = Symbol("absent");
const MAX_DEPTH = 200;
const MAX_NUMBER = 4300;
const LITERALS = { true: true, false: false, null: null };
const ATOM = /[-+.0-9A-Za-z]*/y;
const NUMBER = /^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$/;
const CUT_ATOM = /^(?:t|tr|tru|f|fa|fal|fals|n|nu|nul|-|-?(?:0|[1-9][0-9]*)(?:\.|(?:\.[0-9]+)?[eE][-+]?))$/;
const LONE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** A number as it was written: JavaScript would round it. */
class Num {
  constructor(text) {
    this.text = text;
  }
}

/** Objects are Maps, so that no key is special and their order stays; `undefined` when nothing has a value yet. */
function parsePartial(text) {
  let at = 0;
  let cut = false;
  const refuse = () => {
    throw new SyntaxError(`no JSON at ${at}`);
  };
  const next = () => {
    while (at < text.length && " \t\n\r".includes(text[at])) at += 1;
    if (at === text.length) cut = true;
    return text[at];
  };
  const value = (depth) => {
    const char = next();
    if (cut) return ABSENT;
    if (char === '"') return string();
    if (char !== "{" && char !== "[") return atom();
    if (depth === MAX_DEPTH) refuse();
    at += 1;
    return char === "{" ? object(depth + 1) : array(depth + 1);
  };
  const atom = () => {
    ATOM.lastIndex = at;
    const found = ATOM.exec(text)[0] || text[at];
    if (found.length > MAX_NUMBER) refuse();
    if (at + found.length === text.length && CUT_ATOM.test(found)) {
      cut = true;
      return ABSENT;
    }
    if (!Object.hasOwn(LITERALS, found) && !NUMBER.test(found)) refuse();
    at += found.length;
    return Object.hasOwn(LITERALS, found) ? LITERALS[found] : new Num(found);
  };
  const string = (isKey = false) => {
    let said = "";
    let from = (at += 1);
    for (; at < text.length; at += 1) {
      const code = text.charCodeAt(at);
      if (code === 34) {
        said += text.slice(from, at);
        at += 1;
        return said.replace(LONE, "\ufffd");
      }
      if (code < 32) refuse();
      if (code !== 92) continue;
      said += text.slice(from, at);
      from = at;
      const escape = text.slice(at, at + 6);
      const whole = /^\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/.exec(escape);
      if (!whole) {
        if (at + escape.length < text.length || !/^\\(?:u[0-9a-fA-F]{0,3})?$/.test(escape)) refuse();
        at = from = text.length;
        break;
      }
      said += JSON.parse(`"${whole[0]}"`);
      at += whole[0].length - 1;
      from = at + 1;
    }
    cut = true;
    if (isKey) return ABSENT;
    said += text.slice(from, at);
    // A high surrogate waits for its low one.
    return said.replace(/[\ud800-\udbff]$/, "").replace(LONE, "\ufffd");
  };
  /** What stands between brackets: `take` takes one, until it is cut. */
  const each = (close, take) => {
    if (next() === close) at += 1;
    else
      while (!cut) {
        take();
        if (cut || next() === undefined) return;
        const char = text[at];
        if (char !== close && char !== ",") refuse();
        at += 1;
        if (char === close) return;
      }
  };
  const array = (depth) => {
    const items = [];
    each("]", () => {
      const item = value(depth);
      if (item !== ABSENT) items.push(item);
    });
    return items;
  };
  const object = (depth) => {
    const fields = new Map();
    each("}", () => {
      const quote = next();
      if (cut) return;
      if (quote !== '"') refuse();
      const key = string(true);
      if (cut || next() === undefined) return;
      if (text[at] !== ":") refuse();
      at += 1;
      const held = value(depth);
      if (held !== ABSENT) fields.set(key, held);
    });
    return fields;
  };
  try {
    const root = value(0);
    if (!cut && next() !== undefined) refuse();
    return root === ABSENT ? undefined : root;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

// ---- One interception: its events, and how it stood after any of them

/** The first number from `low` on that is no longer `before`; `high` where there is none. */
function search(low, high, before) {
  while (low < high) {
    const middle = (low + high) >> 1;
    if (before(middle)) low = middle + 1;
    else high = middle;
  }
  return low;
}

class Block {
  constructor(about, opened, round) {
    this.about = about;
    this.opened = opened;
    this.round = round;
    this.closed = Infinity;
    this.text = "";
    this.at = []; // the event that brought each piece,
    this.ends = []; // and how long the text was then
  }

  add(event, piece) {
    this.text += piece;
    this.at.push(event);
    this.ends.push(this.text.length);
  }

  /** After `count` events: how long the text is, and where the last event's piece begins. */
  lengths(count) {
    const last = search(0, this.at.length, (place) => this.at[place] < count);
    let first = last;
    while (first && this.at[first - 1] === count - 1) first -= 1;
    return [this.ends[last - 1] ?? 0, this.ends[first - 1] ?? 0];
  }
}

/** What is not known before the end of a round. */
const UNENDED = { error: undefined, error_type: undefined, stop_reason: undefined, stop: undefined };

class Trace {
  constructor(id) {
    this.id = id;
    this.facts = { id, status: "live" };
    this.request = this.response = null;
    this.thin = false; // events are known without their data
    this.reset(0);
  }

  reset(base) {
    this.base = base; // events before this one are not known one by one
    this.rows = [];
    this.blocks = [];
    this.marks = [];
    this.round = 0;
  }

  get count() {
    return this.base + this.rows.length;
  }

  get live() {
    return this.facts.status === "live";
  }

  /** True when there is more to know than this. */
  get lacks() {
    return this.thin || this.base > 0 || (!this.live && this.count < this.facts.n);
  }

  row(event) {
    return this.rows[event - this.base];
  }

  /** Take rows that begin at this place; what is known already is passed over, and a gap waits for a keyframe. */
  extend(from, rows) {
    if (from <= this.count) for (const row of rows.slice(this.count - from)) this.take(row);
  }

  take(row) {
    const event = this.count;
    this.rows.push(row);
    for (const [kind, what, more] of row[4]) {
      if (kind === "d") this.blocks[what].add(event, more);
      else if (kind === "b") this.blocks[what] = new Block(more, event, this.round);
      else if (kind === "e") this.blocks[what].closed = event;
      else if (kind === "r") {
        this.round = what;
        this.marks.push([event, UNENDED]);
      } else this.marks.push([event, what]);
    }
  }

  /** Begin where a keyframe stands. */
  rebase(keyframe) {
    this.reset(keyframe.n);
    const before = keyframe.n - 1;
    for (const [about, text, closed] of keyframe.blocks) {
      const block = new Block(about, before, 0);
      if (text) block.add(before, text);
      if (closed) block.closed = before;
      this.blocks.push(block);
    }
  }

  /** Take all rows from the first on, and keep those that came meanwhile. */
  rebuild(rows) {
    const later = this.base <= rows.length ? this.rows.slice(rows.length - this.base) : [];
    this.reset(0);
    for (const row of [...rows, ...later]) this.take(row);
  }

  seconds(event) {
    if (this.facts.timed === false) return null;
    return this.row(event)?.[0] ?? null;
  }

  gap(event) {
    const [now, before] = [this.seconds(event), event > this.base ? this.seconds(event - 1) : 0];
    return now === null || before === null ? null : Math.max(0, now - before);
  }

  kind(event) {
    const row = this.row(event);
    for (const [kind, what] of row?.[4] ?? []) {
      if (kind === "d" || kind === "b" || kind === "e") return this.blocks[what].about.kind;
      if (kind === "f" && what.error_type) return "error";
    }
    return "other";
  }

  /** How it stood after `count` events. */
  at(count) {
    const blocks = [];
    this.blocks.forEach((block, number) => {
      if (block.opened >= count) return;
      const [end, fresh] = block.lengths(count);
      blocks.push({ number, block, end, fresh, closed: block.closed < count });
    });
    const known = this.marks.filter(([event]) => event < count).map(([, facts]) => facts);
    if (count === this.count) return { blocks, facts: Object.assign({}, ...known, this.facts) };
    const open = { ...UNENDED, usage: undefined, cost: undefined, end: undefined };
    return { blocks, facts: Object.assign({}, this.facts, open, ...known) };
  }
}

// ---- All interceptions of one widget, for all of its views

class Store {
  constructor(model) {
    this.model = model;
    this.traces = new Map(); // newest first
    this.views = new Set();
    this.control = "";
    this.visible = true;
    this.seen = null; // what a view looked at, for the next one
    this.histories = new Map();
    this.hearing = [
      ["msg:custom", (message) => this.hear(message)],
      ["change:keyframe", () => this.keyframe(model.get("keyframe"))],
      ["change:recording", () => this.recording(model.get("recording"))],
      ["change:mode", () => this.changed()],
    ];
    for (const [name, listener] of this.hearing) model.on(name, listener);
    this.recording(model.get("recording"));
    if (model.get("mode") !== "page") this.keyframe(model.get("keyframe"));
  }

  dispose() {
    for (const [name, listener] of this.hearing) this.model.off(name, listener);
  }

  changed() {
    for (const view of this.views) view.repaint();
  }

  trace(id) {
    let trace = this.traces.get(id);
    if (!trace) {
      trace = new Trace(id);
      this.traces = new Map([[id, trace], ...this.traces]);
    }
    return trace;
  }

  hear(message) {
    if (message.k === "events") {
      this.control = message.control;
      for (const [id, from, rows, facts, more] of JSON.parse(message.j)) {
        const trace = Object.assign(this.trace(id), more);
        trace.facts = facts;
        trace.extend(from, rows);
      }
    } else if (message.k === "history") {
      this.history(JSON.parse(message.j));
    } else if (message.k === "cassette") {
      for (const view of this.views) view.cassette(message);
    }
    this.changed();
  }

  keyframe(json) {
    const told = JSON.parse(json);
    const kept = new Map();
    for (const { blocks, rows, ...facts } of told) {
      const trace = this.trace(facts.id);
      kept.set(facts.id, trace);
      if (facts.n < trace.count) continue;
      trace.facts = facts;
      if (facts.n === trace.count) continue;
      if (blocks) trace.rebase({ n: facts.n, blocks });
      if (rows) {
        trace.thin = true;
        trace.rebuild(rows);
      }
    }
    this.traces = kept;
    this.changed();
  }

  recording(json) {
    for (const { rows, request, response, ...facts } of JSON.parse(json)) {
      const trace = this.trace(facts.id);
      if (!trace.lacks && trace.count >= rows.length && trace.request) continue;
      trace.facts = facts;
      Object.assign(trace, { request, response });
      trace.thin = false;
      trace.rebuild(rows);
    }
    this.changed();
  }

  /** Tell the kernel when nobody looks any more, and when somebody does. */
  look() {
    const visible = [...this.views].some((view) => view.visible);
    if (visible === this.visible) return;
    this.visible = visible;
    this.model.send({ k: "visible", v: visible });
  }

  /** Ask for what is lacking, once in a while: a kernel that is busy answers late. */
  want(trace) {
    const asked = this.histories.get(trace.id);
    if (asked && performance.now() < asked.until) return;
    this.histories.set(trace.id, { rows: [], until: performance.now() + 20_000 });
    this.model.send({ k: "want", id: trace.id });
  }

  history({ id, from, rows, n, ...more }) {
    const asked = this.histories.get(id);
    const trace = this.traces.get(id);
    if (!asked || !trace || from !== asked.rows.length) return;
    asked.rows.push(...rows);
    if (from === 0) Object.assign(trace, more);
    if (asked.rows.length < Math.max(n, trace.base)) return;
    this.histories.delete(id);
    trace.thin = false;
    trace.rebuild(asked.rows);
  }

  stop(trace) {
    this.model.send({ k: "stop", id: trace.id });
    const here = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
    if (!this.control || !here) return;
    // A kernel that runs a cell hears no message: this way goes past it.
    setTimeout(() => {
      if (!trace.live) return;
      const url = `${this.control}/${encodeURIComponent(trace.id)}`;
      fetch(url, { method: "POST", mode: "no-cors", credentials: "omit" }).catch(() => {});
    }, 400);
  }
}

// ---- Words and numbers

const whole = (value) => (value ?? 0).toLocaleString("en-US");
const duration = (seconds) => {
  if (seconds == null) return "–";
  if (seconds < 0.0995) return `${(seconds * 1000).toFixed(seconds < 0.00995 ? 1 : 0)} ms`;
  if (seconds < 60) return `${seconds.toFixed(2)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
};
const bytes = (size) => (size < 1000 ? `${size} B` : `${(size / 1000).toFixed(1)} kB`);
const dollars = (cost) => (cost == null ? "–" : `$${cost.toFixed(cost >= 1 ? 2 : cost >= 0.01 ? 4 : 6)}`);
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

const NOT_SENT = new Set(["host", "content-length", "accept-encoding", "connection", "transfer-encoding"]);

/** The request for a terminal; the key comes from the variable that the provider's SDK reads. */
function curl(request, auth) {
  const parts = [`curl -N -X ${request.method} ${quoted(request.url)}`];
  for (const [name, value] of request.headers) {
    if (!NOT_SENT.has(name.toLowerCase()) && !value.includes("<redacted:"))
      parts.push(`-H ${quoted(`${name}: ${value}`)}`);
  }
  if (auth) parts.push(`-H "${auth}"`);
  if (request.body) parts.push(`--data-raw ${quoted(request.body)}`);
  return parts.join(" \\\n  ");
}

// ---- The page

/** An element; `fields` are its attributes, or its class alone. */
function h(tag, fields = {}, ...children) {
  const element = document.createElement(tag);
  const every = typeof fields === "string" ? { class: fields } : fields;
  for (const [name, value] of Object.entries(every)) {
    if (name === "on") for (const [event, run] of Object.entries(value)) element.addEventListener(event, run);
    else if (value != null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const quiet = (text, tag = "span") => h(tag, "quiet", text);
const say = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};
const mark = (element, name, value) => {
  if (element.dataset[name] !== String(value)) element.dataset[name] = value;
};

const ICONS = {
  play: "M4 2.5v11l9-5.5z",
  pause: "M4 2.5h3v11H4zM9 2.5h3v11H9z",
  back: "M11 2.5v11L4.5 8zM3 2.5h1.5v11H3z",
  forward: "M5 2.5v11L11.5 8zM11.5 2.5H13v11h-1.5z",
  stop: "M3.5 3.5h9v9h-9z",
};

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.append(path);
  return svg;
}

const CHUNK = 4096;

/** A growing text, cut after line ends into parts that the browser lays out one by one, and only where they are seen. */
class Prose {
  constructor(element) {
    this.element = element;
    this.borders = [0];
    this.length = this.fresh = -1;
  }

  show(text, end, fresh) {
    if (end === this.length && fresh === this.fresh) return;
    const borders = this.borders;
    while (text.length - borders.at(-1) > CHUNK) {
      const line = text.indexOf("\n", borders.at(-1) + CHUNK) + 1;
      if (!line && text.length - borders.at(-1) < 16 * CHUNK) break;
      borders.push(line || borders.at(-1) + CHUNK);
    }
    let part = 0;
    for (; part < borders.length && (borders[part] < end || part === 0); part += 1) {
      const node = this.element.children[part] ?? this.element.appendChild(h("div", "chunk"));
      const to = Math.min(borders[part + 1] ?? end, end);
      this.fill(node, text.slice(borders[part], to), Math.max(0, Math.min(fresh, to) - borders[part]));
    }
    while (this.element.children.length > part) this.element.lastChild.remove();
    [this.length, this.fresh] = [end, fresh];
  }

  fill(node, said, old) {
    if (node.childNodes.length === 0) node.append("", h("mark", {}));
    const [before, after] = node.childNodes;
    if (before.data.length !== old) before.data = said.slice(0, old);
    const last = said.slice(old);
    if (after.textContent !== last) after.textContent = last;
  }
}

/** A value over several lines, as text with a class for each kind of token. */
function pretty(value, indent = "") {
  const token = (kind, text) => h("span", `j-${kind}`, text);
  const deeper = `${indent}  `;
  if (value instanceof Map || Array.isArray(value)) {
    const isMap = value instanceof Map;
    const entries = isMap ? [...value] : value.map((item) => [null, item]);
    const [open, close] = isMap ? "{}" : "[]";
    if (!entries.length) return [open + close];
    const lines = entries.flatMap(([key, item], place) => [
      `\n${deeper}`,
      ...(isMap ? [token("key", JSON.stringify(key)), ": "] : []),
      ...pretty(item, deeper),
      place < entries.length - 1 ? "," : "",
    ]);
    return [open, ...lines, `\n${indent}${close}`];
  }
  if (value instanceof Num) return [token("number", value.text)];
  if (typeof value === "string") return [token("string", JSON.stringify(value))];
  return [token("word", String(value))];
}

const IMAGE = /^data:image\/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+$/;
const SHOWN_CHARS = 2000;
const SHOWN_ITEMS = 200;

/** An image that is in the text itself; no address is ever followed. */
function picture(key, value, beside) {
  if (typeof value !== "string") return null;
  const kind = key === "data" && beside && ["media_type", "mime_type", "mimeType"].map((name) => beside.get(name)).find(Boolean);
  const address = value.startsWith("data:") ? value : kind ? `data:${kind};base64,${value}` : "";
  return IMAGE.test(address) ? h("img", { src: address, alt: "image in the request", loading: "lazy" }) : null;
}

/** The first elements for these, and a branch that holds the others. */
function some(items, make) {
  if (items.length <= SHOWN_ITEMS) return items.map(make);
  const rest = items.slice(SHOWN_ITEMS);
  const more = h("details", {}, quiet(`${whole(rest.length)} more`, "summary"));
  more.addEventListener("toggle", () => more.children.length > 1 || more.append(...some(rest, make)));
  return [...items.slice(0, SHOWN_ITEMS).map(make), more];
}

/** A value as a tree; branches are made when they are opened. */
function tree(key, value, depth = 0, beside = null) {
  const label = key === null ? [] : [h("span", "j-key", String(key)), ": "];
  const branches = value instanceof Map ? [...value] : Array.isArray(value) ? value.map((item, i) => [i, item]) : null;
  if (!branches) {
    const image = picture(key, value, beside);
    if (image) return h("div", "leaf", ...label, image);
    let [shown, more] = [value, 0];
    if (typeof value === "string" && value.length > SHOWN_CHARS) {
      more = value.length - SHOWN_CHARS;
      shown = value.slice(0, SHOWN_CHARS);
    }
    const note = more ? [quiet(` … ${whole(more)} more characters`)] : [];
    const text =
      typeof shown === "string" && shown.includes("\n")
        ? [h("span", "j-string lines", shown)]
        : pretty(shown);
    return h("div", "leaf", ...label, ...text, ...note);
  }
  const size = value instanceof Map ? `{${branches.length}}` : `[${branches.length}]`;
  const details = h("details", {}, h("summary", {}, ...label, quiet(size)));
  const fill = () => {
    if (!details.open || details.children.length > 1) return;
    const kind = value instanceof Map ? value : null;
    details.append(...some(branches, ([name, item]) => tree(name, item, depth + 1, kind)));
  };
  details.addEventListener("toggle", fill);
  if (depth < 2 || (branches.length < 6 && depth < 6)) {
    details.open = true;
    fill();
  }
  return details;
}

const TABS = { message: "Message", events: "Events", request: "Request", response: "Response", usage: "Usage" };
const SPEEDS = [["0.25", "¼×"], ["1", "1×"], ["4", "4×"], ["16", "16×"]];
/** Why it has no whole answer, in a word. */
const failure = ({ status, error_type }) => (status === "stopped" ? "stopped" : status === "error" ? (error_type ?? "error") : "");
const ROW = 22; // pixels; live.css says the same
const WIDE = 1100;
const STEADY_S = 0.03; // between events whose times were not kept

class View {
  constructor(store, el) {
    this.store = store;
    Object.assign(this, { id: null, cursor: null, tab: "message", filter: "", speed: 1, playing: null, byTime: false });
    Object.assign(this, store.seen);
    this.proses = new Map();
    this.build(el);
    this.sizes = new ResizeObserver(() => this.repaint());
    this.sizes.observe(this.root);
    // The canvas does not follow the theme by itself.
    this.theme = new MutationObserver(() => this.repaint());
    this.theme.observe(document.body, { attributes: true });
    this.sight = new IntersectionObserver(([entry]) => {
      this.visible = entry.isIntersecting;
      store.look();
    });
    this.sight.observe(this.root);
    store.views.add(this);
    this.repaint();
  }

  dispose() {
    this.store.views.delete(this);
    this.store.look();
    const { id, chosen, cursor, tab, filter, speed, byTime } = this;
    this.store.seen = { id, chosen, cursor, tab, filter, speed, byTime };
    this.sizes.disconnect();
    this.sight.disconnect();
    this.theme.disconnect();
    cancelAnimationFrame(this.frame);
    this.frame = null;
    this.playing = null;
    this.root.remove();
  }

  repaint() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (this.playing) this.advance();
      this.paint();
    });
  }

  get trace() {
    return this.store.traces.get(this.id);
  }

  get mode() {
    return this.store.model.get("mode");
  }

  // What is there

  build(el) {
    const p = (this.parts = {});
    const add = (tag, part, ...more) => {
      p[part] = h(tag, ...more);
      p[part].dataset.part = part;
      return p[part];
    };
    const button = (part, label, face, run) =>
      add("button", part, { type: "button", "aria-label": label, title: label, on: {
        click: (event) => event.currentTarget.ariaDisabled === "true" || run() } }, face);
    add("input", "filter", {
      type: "search", placeholder: "Filter", "aria-label": "Filter interceptions",
      on: { input: () => this.filterBy(p.filter.value) },
    });
    p.filter.value = this.filter;
    add("span", "count", "quiet");
    add("div", "list", { role: "listbox", "aria-label": "Interceptions", tabindex: "0" });
    add("strong", "title");
    add("span", "provider", "quiet");
    add("span", "status", { class: "chip", role: "status" });
    button("stop", "Stop this call", h("span", {}, "Stop"), () => this.stop());
    p.stop.prepend(icon("stop"));
    button("copy-curl", "Copy the request as a curl command", "curl", () => this.copyCurl());
    button("copy-cassette", "Copy the recording as a cassette", "cassette", () => this.askCassette());
    add("span", "note", { class: "note", role: "status" });
    add("div", "stats", "stats");
    p.canvas = h("canvas", { "aria-hidden": "true" });
    p.line = h("div", "cursor");
    p.hover = h("div", { class: "hover", hidden: "" });
    // What a canvas cannot ask for itself: the colors of the style.
    p.swatches = ["text", "thinking", "tool", "other", "error"].map((kind) => h("i", { class: "swatch", "data-kind": kind }));
    add("div", "timeline", "timeline", p.canvas, p.line, p.hover, ...p.swatches);
    p.timeline.addEventListener("pointerdown", (event) => this.point(event, true));
    p.timeline.addEventListener("pointermove", (event) => this.point(event, event.buttons === 1));
    p.timeline.addEventListener("pointerleave", () => { p.hover.hidden = true; });
    button("play", "Play", icon("play"), () => this.toggle());
    button("back", "One event back", icon("back"), () => this.step(-1));
    button("forward", "One event forward", icon("forward"), () => this.step(1));
    add("input", "slider", {
      type: "range", min: "0", step: "1", "aria-label": "Event",
      on: { input: () => this.go(Number(p.slider.value)) },
    });
    add("output", "place");
    add("select", "speed", {
      "aria-label": "Speed of the replay",
      on: { change: () => { this.speed = Number(p.speed.value); } },
    }, ...SPEEDS.map(([value, name]) => h("option", { value }, name)));
    p.speed.value = String(this.speed);
    button("axis", "Spread the timeline by time", "by time", () => { this.byTime = !this.byTime; this.repaint(); });
    button("follow", "Show the newest", "", () => this.follow());
    p.tabs = h("div", { class: "tabs", role: "tablist", "aria-label": "What is shown" });
    p.panels = h("div", "panels");
    const uid = Math.random().toString(36).slice(2);
    for (const [name, title] of Object.entries(TABS)) {
      const tab = add("button", `tab-${name}`, {
        type: "button", role: "tab", id: `t${uid}${name}`, "aria-controls": `p${uid}${name}`,
        on: { click: () => { this.tab = name; this.repaint(); } },
      }, title);
      p[name] = add("div", `panel-${name}`, {
        role: "tabpanel", id: `p${uid}${name}`, "aria-labelledby": `t${uid}${name}`,
        tabindex: "0", class: "panel",
      });
      p.tabs.append(tab);
      p.panels.append(p[name]);
    }
    p.spacer = h("div", { class: "spacer", role: "list" });
    add("pre", "data", "data");
    p.scroll = h("div", "scroll", p.spacer);
    p.scroll.addEventListener("scroll", () => this.repaint());
    p.events.append(p.scroll, p.data);
    // A person who scrolls decides whether the end is followed; heights that are only guessed so far do not.
    for (const name of ["wheel", "touchmove", "pointerdown", "keydown"])
      p.message.addEventListener(name, () => { this.handled = performance.now(); }, { passive: true });
    p.message.addEventListener("scroll", () => {
      if (performance.now() - (this.handled ?? -1e9) > 500) return;
      this.following = p.message.scrollHeight - p.message.scrollTop - p.message.clientHeight < 24;
    });
    p.detail = h("div", "detail",
      h("header", {}, h("div", "name", p.title, p.provider), p.status, p.stop, h("span", "grow"), p.note,
        quiet("copy"), p["copy-curl"], p["copy-cassette"]),
      p.stats, p.timeline,
      h("div", { class: "transport", role: "group", "aria-label": "Replay" },
        p.back, p.play, p.forward, p.slider, p.place, p.speed, p.axis, p.follow),
      p.tabs, p.panels);
    add("p", "empty", "nothing");
    p.side = h("div", "side", h("div", "find", p.filter, p.count), p.list);
    this.root = h("div", {
      class: "llmb", role: "region", "aria-label": "Interceptions of the bridge",
      "data-lm-suppress-shortcuts": "true", tabindex: "-1",
    }, p.side, p.detail, p.empty);
    this.root.addEventListener("keydown", (event) => this.key(event));
    this.root.addEventListener("click", () => this.hold());
    el.append(this.root);
  }

  // What a person does

  select(id) {
    if (id === this.id) return;
    Object.assign(this, { id, cursor: null, playing: null, chosen: true });
    this.repaint();
  }

  go(count) {
    const trace = this.trace;
    if (!trace) return;
    this.playing = null;
    // What lies before a keyframe may still be on its way: the wish is kept.
    this.cursor = Math.max(0, Math.min(count, trace.count));
    if (this.cursor === trace.count && !trace.live) this.cursor = null;
    this.repaint();
  }

  step(by) {
    const trace = this.trace;
    if (trace) this.go((this.cursor ?? trace.count) + by);
  }

  follow() {
    Object.assign(this, { cursor: null, playing: null });
    this.repaint();
  }

  toggle() {
    const trace = this.trace;
    if (!trace) return;
    if (this.playing) this.playing = null;
    else if (this.cursor === null && trace.live) this.cursor = trace.count;
    else {
      if (this.cursor === null || this.cursor >= trace.count) this.cursor = trace.base;
      this.playing = { since: performance.now(), from: this.moment(trace, this.cursor) };
    }
    this.repaint();
  }

  moment(trace, count) {
    if (!count) return 0;
    return trace.seconds(count - 1) ?? count * STEADY_S;
  }

  advance() {
    const trace = this.trace;
    if (!trace) return;
    const now = this.playing.from + ((performance.now() - this.playing.since) / 1000) * this.speed;
    let count = this.cursor ?? trace.base;
    while (count < trace.count && this.moment(trace, count + 1) <= now) count += 1;
    this.cursor = count;
    if (count < trace.count) this.repaint();
    else Object.assign(this, { cursor: null, playing: null });
  }

  stop() {
    const trace = this.trace;
    if (!trace?.live) return;
    this.stopping = trace.id;
    this.store.stop(trace);
    setTimeout(() => {
      if (this.stopping !== trace.id) return;
      this.stopping = null;
      if (trace.live) this.tell("the kernel is busy: interrupt it");
      this.repaint();
    }, 4000);
    this.repaint();
  }

  point(event, chosen) {
    const trace = this.trace;
    const box = this.parts.timeline.getBoundingClientRect();
    if (!trace?.rows.length || !box.width) return;
    const share = Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
    const at = this.eventAt(trace, share);
    if (chosen) this.go(at + 1);
    const { hover } = this.parts;
    const gap = trace.gap(at);
    hover.textContent = `#${at + 1} ${trace.row(at)[1] || trace.kind(at)}${gap === null ? "" : ` +${duration(gap)}`}`;
    hover.hidden = false;
    hover.style.left = `${share * 100}%`;
    hover.style.transform = `translateX(${-share * 100}%)`;
  }

  // Keys that are taken are nobody else's: a notebook would scroll, or leave the cell.
  key(event) {
    const { target, key } = event;
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (target === this.parts.filter && key === "Escape") {
      this.filterBy("");
      this.parts.list.focus();
    } else if (target.closest("input:not([type=range]), select, textarea")) return;
    else if (key === " " && target.closest("button, summary")) return event.stopPropagation(); // it presses them
    else if (!this.move(key, target)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  move(key, target) {
    const run = {
      ArrowLeft: () => this.step(-1),
      ArrowRight: () => this.step(1),
      Home: () => this.go(0),
      End: () => this.follow(),
      "/": () => this.parts.filter.focus(),
      " ": () => this.toggle(),
      ...(target.closest("[role=listbox]") && { ArrowUp: () => this.choose(-1), ArrowDown: () => this.choose(1) }),
      ...(target.closest("[role=tablist]") && { ArrowLeft: () => this.turn(-1), ArrowRight: () => this.turn(1) }),
    }[key];
    run?.();
    return Boolean(run);
  }

  choose(by) {
    const ids = this.listed().map((trace) => trace.id);
    if (ids.length) this.select(ids[Math.max(0, Math.min(ids.length - 1, ids.indexOf(this.id) + by))]);
  }

  turn(by) {
    const names = Object.keys(TABS).filter((name) => !this.parts[`tab-${name}`].hidden);
    this.tab = names[(names.indexOf(this.shownTab()) + by + names.length) % names.length];
    this.parts[`tab-${this.tab}`].focus();
    this.repaint();
  }

  /** Who clicks here goes on by keys here. */
  hold() {
    if (!this.root.contains(this.focused())) this.root.focus({ preventScroll: true });
  }

  focused() {
    return this.root.getRootNode().activeElement;
  }

  filterBy(text) {
    this.parts.filter.value = this.filter = text;
    const found = this.listed();
    // What is not in the list is not shown beside it.
    if (found.length && !found.includes(this.trace)) this.select(found[0].id);
    this.repaint();
  }

  tell(text) {
    this.parts.note.textContent = text;
    clearTimeout(this.telling);
    this.telling = setTimeout(() => { this.parts.note.textContent = ""; }, 6000);
  }

  async copy(text, what) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without a secure context there is only the old way.
      const area = this.root.appendChild(h("textarea", "aside"));
      area.value = text;
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    this.tell(`${what} copied`);
  }

  copyCurl() {
    const trace = this.trace;
    if (!trace?.request) this.tell("the request is not known");
    else if (trace.facts.cut) this.tell("the request is too long for a command");
    else this.copy(curl(trace.request, trace.facts.auth), "curl");
  }

  askCassette() {
    const trace = this.trace;
    if (!trace) return;
    this.copying = trace.id;
    this.store.model.send({ k: "cassette", id: trace.id });
    this.tell("waiting for the kernel");
  }

  cassette({ id, text }) {
    if (this.copying !== id) return;
    this.copying = null;
    if (text) this.copy(text, "cassette");
    else this.tell("nothing is recorded yet");
  }

  // What is seen

  listed() {
    const words = this.filter.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = ({ facts, id }) => {
      const { model, answering, provider, status, actor, prompt, error_type: error } = facts;
      const said = [model, answering, provider, status, actor, prompt, error, id].join(" ").toLowerCase();
      return words.every((word) => said.includes(word));
    };
    const found = [...this.store.traces.values()].filter(fits);
    return [...found.filter((trace) => trace.live), ...found.filter((trace) => !trace.live)];
  }

  shownTab() {
    return this.wide && this.tab === "message" ? "events" : this.tab;
  }

  paint() {
    const held = this.focused();
    this.paintAll();
    // A browser takes the keys from what is hidden, and gives them to nobody.
    if (held !== this.root && this.root.contains(held) && (!held.offsetParent || held.matches(".away")))
      this.root.focus({ preventScroll: true });
  }

  paintAll() {
    const listed = this.listed();
    if (!this.trace || (!this.chosen && this.cursor === null && !this.trace.live && listed[0]?.live)) {
      this.id = listed[0]?.id ?? this.store.traces.keys().next().value ?? null;
      this.cursor = null;
    }
    const p = this.parts;
    const trace = this.trace;
    const every = this.store.traces.size;
    mark(this.root, "mode", this.mode);
    this.wide = this.root.clientWidth >= WIDE;
    this.root.classList.toggle("wide", this.wide);
    p.side.hidden = !["live", "closed"].includes(this.mode) && every === 1;
    const narrow = this.root.clientWidth < 640;
    this.root.classList.toggle("narrow", narrow);
    this.root.classList.toggle("tight", this.root.clientWidth - (p.side.hidden || narrow ? 0 : 250) < 540);
    p.detail.hidden = !trace;
    p.empty.hidden = Boolean(trace);
    this.root.classList.toggle("empty", !trace);
    say(p.empty, this.mode === "closed"
      ? "The bridge is closed, and no interception is at hand. Open one, and run this cell again."
      : "No interception yet. What passes the bridge shows up here as it streams.");
    p["copy-cassette"].hidden = this.mode === "page"; // nobody is there who could be asked
    this.paintList(listed, every);
    if (!trace) return;
    if (trace.lacks && this.mode !== "page") this.store.want(trace);
    const count = Math.max(trace.base, Math.min(this.cursor ?? trace.count, trace.count));
    const state = trace.at(count);
    mark(this.root, "selected", trace.id);
    mark(this.root, "status", trace.facts.status);
    mark(this.root, "events", trace.count);
    mark(this.root, "shown", count);
    this.paintHeader(trace, state, count);
    this.paintTimeline(trace, count);
    this.paintTransport(trace, count);
    const shown = this.shownTab();
    for (const name of Object.keys(TABS)) {
      const chosen = name === shown;
      p[`tab-${name}`].ariaSelected = chosen;
      p[`tab-${name}`].tabIndex = chosen ? 0 : -1;
      p[`tab-${name}`].hidden = this.wide && name === "message";
      p[name].hidden = !(chosen || (this.wide && name === "message"));
    }
    if (!p.message.hidden) this.paintMessage(trace, state, count);
    if (!p.events.hidden) this.paintEvents(trace, count);
    const { request, response } = trace;
    if (!p.request.hidden) this.refill(p.request, request, () => this.requestParts(request));
    if (!p.response.hidden) {
      const stands = `${trace.id} ${response?.body === undefined ? count : "whole"} ${Boolean(response)}`;
      this.refill(p.response, stands, () => this.responseParts(response, state));
    }
    if (!p.usage.hidden) {
      const { usage, cost, raw_usage } = state.facts;
      this.refill(p.usage, JSON.stringify([usage, cost, raw_usage]), () => this.usageParts(state.facts));
    }
  }

  paintList(listed, every) {
    const p = this.parts;
    const live = listed.filter((trace) => trace.live).length;
    say(p.count, listed.length < every ? `${listed.length} of ${every}` : live ? `${every} · ${live} live`
      : this.mode === "closed" ? `${every} · bridge closed` : String(every));
    const options = new Map([...p.list.children].map((option) => [option.dataset.id, option]));
    listed.forEach((trace, place) => {
      let option = options.get(trace.id);
      options.delete(trace.id);
      if (!option) {
        option = h("div", { role: "option", "data-id": trace.id, on: { click: () => this.select(trace.id) } },
          h("i", "dot"), h("span", "model"), h("span", "when"), h("span", "prompt"));
        option.id = `o${Math.random().toString(36).slice(2)}`;
      }
      if (p.list.children[place] !== option) p.list.insertBefore(option, p.list.children[place] ?? null);
      const { facts } = trace;
      const [, model, when, prompt] = option.children;
      mark(option, "status", facts.status);
      say(model, facts.answering || facts.model || facts.provider || "…");
      say(when, trace.live ? `${whole(trace.count)} ev` : failure(facts) || duration(facts.seconds ?? trace.seconds(trace.count - 1)));
      say(prompt, facts.prompt || facts.provider || "");
      option.ariaSelected = trace.id === this.id;
      option.ariaLabel = `${model.textContent}, ${facts.status}, ${when.textContent}, ${prompt.textContent}`;
      if (trace.id === this.id && p.list.getAttribute("aria-activedescendant") !== option.id) {
        p.list.setAttribute("aria-activedescendant", option.id);
        if (option.offsetTop < p.list.scrollTop || option.offsetTop > p.list.scrollTop + p.list.clientHeight - 40)
          p.list.scrollTop = option.offsetTop - 8;
      }
    });
    for (const option of options.values()) option.remove();
  }

  paintHeader(trace, { facts, blocks }, count) {
    const p = this.parts;
    say(p.title, facts.answering || facts.model || "unknown model");
    const of = [facts.provider, facts.dialect, facts.actor, facts.replayed && "replayed", facts.fault && `fault: ${facts.fault}`];
    say(p.provider, of.filter(Boolean).join(" · "));
    const code = trace.facts.http;
    const reason = trace.facts.status === "error" && trace.facts.error_type;
    say(p.status, trace.live ? "live" : [trace.facts.status, code !== 200 && code, reason].filter(Boolean).join(" "));
    mark(p.status, "status", trace.facts.status);
    p.stop.hidden = !trace.live || this.mode !== "live";
    // Not `disabled`, which would drop the keys of who has just pressed it.
    p.stop.ariaDisabled = this.stopping === trace.id;
    say(p.stop.lastChild, this.stopping === trace.id ? "Stopping…" : "Stop");
    const usage = facts.usage ?? {};
    const last = count > trace.base ? trace.seconds(count - 1) : null;
    const first = facts.first_s !== undefined && last !== null && facts.first_s <= last ? facts.first_s : null;
    const elapsed = count === trace.count && !trace.live ? (trace.facts.seconds ?? last) : last;
    const chars = blocks.reduce((sum, { end }) => sum + end, 0);
    const out = usage.output ?? Math.round(chars / 4);
    const rate = first !== null && last - first > 0.05 ? out / (last - first) : null;
    const guess = usage.output === undefined ? "≈ " : "";
    const cached = usage.cache_read ? ` + ${whole(usage.cache_read)} cached` : "";
    const told = [
      ["first token", duration(first)],
      ["elapsed", duration(elapsed)],
      ["tokens/s", rate === null ? "–" : `${guess}${rate < 10 ? rate.toFixed(1) : whole(Math.round(rate))}`],
      ["input", usage.input === undefined ? "–" : whole(usage.input) + cached],
      ["output", chars || usage.output ? guess + whole(out) : "–"],
      ["cost", dollars(facts.cost)],
      ["events", whole(count)],
    ];
    if (p.stats.children.length !== told.length)
      p.stats.replaceChildren(...told.map(([name]) => h("div", { "data-stat": name }, h("span", {}, name), h("b", {}))));
    told.forEach(([, text], place) => say(p.stats.children[place].lastChild, text));
  }

  // The timeline: a tick an event, as high as the gap before it; where there are more events than pixels, the longest.

  share(trace, event) {
    if (this.byTime && trace.facts.timed !== false) {
      const end = trace.rows.at(-1)?.[0] || 1;
      return trace.row(event)[0] / end;
    }
    return (event - trace.base + 0.5) / Math.max(trace.rows.length, 1);
  }

  eventAt(trace, share) {
    const at = search(trace.base, trace.count - 1, (event) => this.share(trace, event) < share);
    const nearer = at > trace.base && share - this.share(trace, at - 1) < this.share(trace, at) - share;
    return nearer ? at - 1 : at;
  }

  paintTimeline(trace, count) {
    const { canvas, line, timeline } = this.parts;
    const [width, height] = [timeline.clientWidth, timeline.clientHeight];
    line.hidden = !trace.rows.length;
    if (count > trace.base) line.style.left = `${this.share(trace, count - 1) * 100}%`;
    else line.style.left = "0";
    const ratio = window.devicePixelRatio || 1;
    const color = Object.fromEntries(
      this.parts.swatches.map((swatch) => [swatch.dataset.kind, getComputedStyle(swatch).color]));
    const drawn = [trace.id, trace.base, trace.count, width, this.byTime, ratio, color.text].join();
    const now = performance.now();
    const many = trace.live && trace.rows.length > 20_000;
    if (drawn === this.drawn || !width || (many && now - this.drawnAt < 500)) return;
    [this.drawn, this.drawnAt] = [drawn, now];
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const lanes = ["text", "thinking", "tool", "other"];
    const lane = height / lanes.length;
    const columns = new Map();
    let longest = 0.02;
    for (let event = trace.base; event < trace.count; event += 1) {
      const kind = trace.kind(event);
      const row = lanes.includes(kind) ? lanes.indexOf(kind) : kind === "refusal" ? 0 : 3;
      const gap = trace.gap(event) ?? 0;
      longest = Math.max(longest, gap);
      const key = Math.floor(this.share(trace, event) * width) * 4 + row;
      const there = columns.get(key);
      if (!there || there[0] < gap) columns.set(key, [gap, kind]);
    }
    const thick = Math.max(1, Math.min(4, width / Math.max(trace.rows.length, 1) - 1));
    for (const [key, [gap, kind]] of columns) {
      const tall = 3 + (lane - 4) * Math.sqrt(gap / longest);
      const row = key % 4;
      pen.fillStyle = color[kind === "refusal" ? "text" : kind] || color.other;
      pen.fillRect(Math.floor(key / 4), (row + 1) * lane - tall, thick, tall);
    }
  }

  paintTransport(trace, count) {
    const p = this.parts;
    const running = this.playing !== null || (this.cursor === null && trace.live);
    if (this.running !== running) {
      this.running = running;
      p.play.replaceChildren(icon(running ? "pause" : "play"));
      const label = running ? "Pause" : "Play";
      p.play.ariaLabel = label;
      p.play.title = label;
    }
    p.slider.max = String(trace.count);
    if (Number(p.slider.value) !== count) p.slider.value = String(count);
    const gap = count > trace.base ? trace.gap(count - 1) : null;
    const place = `${whole(count)} / ${whole(trace.count)}`;
    say(p.place, place);
    p.slider.ariaValueText = `event ${place}${gap === null ? "" : `, after ${duration(gap)}`}`;
    p.back.ariaDisabled = count <= trace.base;
    p.forward.ariaDisabled = count >= trace.count;
    p.axis.hidden = trace.facts.timed === false;
    p.axis.ariaPressed = this.byTime;
    // Nothing beside the slider comes or grows: its scale would change under the pointer.
    p.follow.classList.toggle("away", this.cursor === null || Boolean(this.playing && !trace.live));
    p.place.style.minWidth = `${2 * whole(trace.count).length + 4}ch`;
    const news = trace.count - count;
    say(p.follow, trace.live ? `${whole(news)} new · go live` : "to the end");
  }

  paintMessage(trace, { blocks, facts }, count) {
    const panel = this.parts.message;
    const moved = this.painted !== `${trace.id} ${count}`;
    if (this.paintedId !== trace.id || this.paintedBase !== trace.base) {
      panel.replaceChildren();
      this.proses.clear();
      if (this.paintedId !== trace.id) this.following = trace.live;
      [this.paintedId, this.paintedBase] = [trace.id, trace.base];
    }
    this.painted = `${trace.id} ${count}`;
    let current = null;
    const scrubbing = this.cursor !== null;
    blocks.forEach(({ number, block, end, fresh, closed }, place) => {
      const made = this.proses.get(number) ?? this.makeBlock(panel, number, block);
      if (panel.children[place] !== made.element) panel.insertBefore(made.element, panel.children[place] ?? null);
      mark(made.element, "closed", closed);
      const isFresh = fresh < end;
      if (isFresh || (count > 0 && (block.opened === count - 1 || block.closed === count - 1))) current = made;
      made.element.classList.toggle("now", scrubbing && (isFresh || block.opened === count - 1));
      this.fillBlock(made, block, end, scrubbing ? fresh : end, closed);
    });
    for (const [number, made] of this.proses) {
      if (!blocks.some((each) => each.number === number)) {
        made.element.remove();
        this.proses.delete(number);
      }
    }
    this.paintEnd(panel, trace, facts, blocks.length, count);
    if (!moved) return;
    if (scrubbing) this.reveal(panel, current);
    else if (this.following) {
      const toEnd = () => { panel.scrollTop = panel.scrollHeight; };
      toEnd();
      // Once more when the parts that came into sight have their height.
      requestAnimationFrame(toEnd);
    }
  }

  makeBlock(panel, number, block) {
    const { kind, name } = block.about;
    const text = h("div", { "data-part": "text", class: kind === "tool" ? "text json" : "text" });
    const title = { tool: "tool call", thinking: "thinking", refusal: "refusal" }[kind];
    const head = h("div", "head");
    if (block.round) head.append(h("span", "round", `round ${block.round + 1}`));
    if (title) head.append(h("span", "kind", title));
    if (kind === "tool") head.append(h("code", {}, name || "?"), quiet(block.about.id || ""));
    if (block.about.server) head.append(quiet("run by the provider"));
    const element = h("section", { "data-block": number, "data-kind": kind, class: "block" }, head, text);
    head.hidden = !head.childNodes.length;
    const made = { element, text, prose: new Prose(text), shown: null };
    this.proses.set(number, made);
    return made;
  }

  fillBlock(made, block, end, fresh, closed) {
    const { kind, redacted, custom } = block.about;
    if (kind !== "tool" || custom) {
      if (redacted && !block.text) say(made.text, "(encrypted)");
      else made.prose.show(block.text, end, fresh);
      return;
    }
    const state = `${end} ${closed}`;
    if (made.shown === state) return;
    made.shown = state;
    const sent = block.text.slice(0, end);
    // Arguments as long as a file are shown as they were sent.
    const value = sent.length > 10 * SHOWN_CHARS ? undefined : sent ? parsePartial(sent) : new Map();
    made.element.classList.toggle("raw", value === undefined && closed);
    made.text.replaceChildren(...(value === undefined ? [sent] : pretty(value)));
  }

  paintEnd(panel, trace, facts, place, count) {
    const failed = facts.error_type || facts.error;
    const told = failed
      ? [facts.status === "stopped" ? "stopped" : (facts.error_type ?? "error"), facts.error ?? ""]
      : count === trace.count && !trace.live && !place
        ? ["", trace.count ? "The answer has no text." : "The answer could not be read as events."]
        : null;
    let element = panel.querySelector(":scope > .ending");
    if (!told) {
      element?.remove();
      return;
    }
    if (!element) {
      element = h("section", "block ending",
        h("div", "head", h("span", "kind")), h("div", { class: "text", "data-part": "text" }));
    }
    mark(element, "kind", failed && facts.status !== "stopped" ? "error" : "note");
    mark(element, "block", "end");
    say(element.querySelector(".kind"), told[0]);
    say(element.lastChild, told[1]);
    if (panel.lastChild !== element) panel.append(element);
  }

  /** Scroll within the panel alone: the notebook stays where it is. */
  reveal(panel, made) {
    if (!made) return;
    const marks = made.text.querySelectorAll("mark");
    const target = [...marks].reverse().find((each) => each.textContent) ?? made.element;
    const box = panel.getBoundingClientRect();
    const at = target.getBoundingClientRect();
    const bottom = target === made.element ? Math.min(at.bottom, at.top + box.height) : at.bottom;
    if (bottom > box.bottom - 8) panel.scrollTop += bottom - box.bottom + 24;
    else if (at.top < box.top + 8) panel.scrollTop -= box.top - at.top + 24;
  }

  paintEvents(trace, count) {
    const { scroll, spacer, data } = this.parts;
    const total = trace.rows.length;
    spacer.style.height = `${total * ROW}px`;
    const now = count - 1 - trace.base;
    if (this.listedAt !== `${trace.id} ${count}`) {
      this.listedAt = `${trace.id} ${count}`;
      const [top, bottom] = [scroll.scrollTop, scroll.scrollTop + scroll.clientHeight];
      if (now * ROW < top || (now + 1) * ROW > bottom) scroll.scrollTop = now * ROW - scroll.clientHeight + 2 * ROW;
      const row = trace.row(count - 1);
      say(data, row ? (row[3] ?? "(not kept)") : "");
    }
    const from = Math.max(0, Math.floor(scroll.scrollTop / ROW) - 4);
    const to = Math.min(total, from + Math.ceil((scroll.clientHeight || 200) / ROW) + 8);
    const drawn = [trace.id, trace.base, from, to, now].join();
    if (drawn === this.drawnRows) return;
    this.drawnRows = drawn;
    const rows = [];
    for (let place = from; place < to; place += 1) {
      const event = trace.base + place;
      const [seconds, name, size, , steps] = trace.rows[place];
      const gap = trace.gap(event);
      const said = steps.filter(([kind]) => kind === "d").map((step) => step[2]).join("").replaceAll("\n", "⏎");
      const row = h("div", {
        role: "listitem", "data-event": event, "data-kind": trace.kind(event), class: place === now ? "row now" : "row",
        "aria-current": place === now ? "true" : null, style: `top:${place * ROW}px`,
        on: { click: () => this.go(event + 1) },
      },
        h("span", "n", String(event + 1)),
        h("span", "n", trace.facts.timed === false ? "" : duration(seconds)),
        h("span", "n gap", gap === null ? "" : `+${duration(gap)}`),
        h("i", "dot"),
        h("span", "what", name && name !== "message" ? name : steps.length ? STEPS[steps.at(-1)[0]] : "event"),
        h("span", "said", said),
        h("span", "n", bytes(size)));
      rows.push(row);
    }
    spacer.replaceChildren(...rows);
  }

  /** Make what is in a panel anew where its state is another. */
  refill(panel, state, make) {
    if (panel.shown === state) return;
    panel.shown = state;
    panel.replaceChildren(...make());
  }

  requestParts(request) {
    if (!request) return [quiet("Not known.", "p")];
    const body = request.body ? parsePartial(request.body) : undefined;
    return [
      h("p", "address", h("strong", {}, request.method), " ", request.url),
      this.fields(request.headers),
      body === undefined ? h("pre", "data", request.body) : tree(null, body),
    ];
  }

  /** The head, and the body: as it came where it is one document, else what the events make of it so far. */
  responseParts(response, { blocks, facts }) {
    if (!response) return [quiet("No answer so far.", "p")];
    const content = blocks.map(({ block, end }) => {
      const text = block.text.slice(0, end);
      const { kind, ...about } = block.about;
      const parsed = kind === "tool" && !about.custom ? parsePartial(text) : undefined;
      return new Map(Object.entries({ type: kind, ...about, [kind === "tool" ? "arguments" : "text"]: parsed ?? text }));
    });
    const message = new Map([["model", facts.answering ?? facts.model ?? null], ["content", content]]);
    if (facts.stop_reason) message.set("stop_reason", facts.stop_reason);
    if (facts.error || facts.error_type) message.set("error", facts.error ?? facts.error_type);
    const body = response.body === undefined ? message : parsePartial(response.body);
    return [
      h("p", "address", h("strong", {}, `HTTP ${response.status}`)),
      this.fields(response.headers),
      quiet(response.body === undefined ? "What the events make of it" : "Body", "p"),
      body === undefined ? h("pre", "data", response.body) : tree(null, body),
    ];
  }

  fields(pairs, kind = "") {
    const rows = pairs.map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", kind, value)));
    return h("table", {}, h("tbody", {}, ...rows));
  }

  usageParts({ usage, cost, raw_usage }) {
    if (!usage) return [quiet("No usage was reported so far.", "p")];
    const counted = Object.entries(TOKENS).filter(([name]) => usage[name] !== undefined);
    const rows = counted.map(([name, title]) => [title, whole(usage[name])]);
    if (cost != null) rows.push(["cost at list price", dollars(cost)]);
    const raw = parsePartial(JSON.stringify(raw_usage ?? {}));
    return [this.fields(rows, "n"), quiet("As the provider sent it", "p"), tree(null, raw)];
  }
}

const TOKENS = {
  input: "input", cache_read: "read from cache", cache_write: "written to cache", output: "output",
  reasoning: "reasoning, in output", total: "total",
};
const STEPS = { s: "start", b: "block", d: "delta", e: "block end", f: "end", r: "round" };

/** One store for each model, however many views it has. */
const inspector = () => {
  let store = null;
  const of = (model) => (store ??= new Store(model));
  return {
    initialize({ model }) {
      const made = of(model);
      return () => made.dispose();
    },
    render({ model, el }) {
      const view = new View(of(model), el);
      return () => view.dispose();
    },
  };
};

export { Block, Num, Store, Trace, curl, parsePartial };
export default inspector;
