// Asks the admin port what is going on, every second while somebody looks, and shows it.

import { Rows, Tile, bytes, count, latency, make, quantile, rate, say, span } from "./draw.js";

const EVERY_MS = 1000;
const PATIENCE_MS = 3000;
// Connections and topics, of which there may be many, are asked for every so many times.
const LISTS_EVERY = 2;
const LIST_LIMIT = 50;
// The delivery latency is that of so many of the last answers.
const LATENCY_ANSWERS = 10;

const at = (id) => document.getElementById(id);
const tiles = Object.fromEntries(
  [
    ["connections", "Connections"],
    ["sessions", "Sessions"],
    ["in", "Events in /s"],
    ["out", "Events out /s"],
    ["latency", "Delivery, p99"],
    ["memory", "Memory"],
  ].map(([name, title]) => [name, new Tile(at("tiles"), `tile-${name}`, title)]),
);
const connections = new Rows(at("connections"), 12, "Nobody is connected.");
const topics = new Rows(at("topics"), 7, "There is no topic, or none of that name.");

// Answers of this server process, the newest last.
let past = [];
let answered = null;
let drainPeak = 0;
// What was counted at the last look, by list and key, for rates.
const before = { connections: new Map(), topics: new Map() };

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

// How much a counter grew a second since the look before; null at the first.
function perSecond(now, of) {
  const then = past.at(-2);
  const seconds = then ? (now.now_us - then.now_us) / 1e6 : 0;
  return seconds > 0 ? Math.max(0, of(now) - of(then)) / seconds : null;
}

function showTiles(now) {
  const { connections: held, events } = now;
  const published = perSecond(now, (status) => status.events.published);
  const delivered = perSecond(now, (status) => status.events.delivered);
  const first = past.at(-LATENCY_ANSWERS) ?? past[0];
  const p99 = quantile(now.latency.bounds, now.latency.counts.map((n, i) => n - first.latency.counts[i]), 0.99);
  tiles.connections.show(held.active, count(held.active), `of at most ${count(held.limit)}`);
  tiles.sessions.show(now.sessions, count(now.sessions), `on ${count(now.topics)} ${now.topics === 1 ? "topic" : "topics"}`);
  tiles.in.show(published, published === null ? "–" : rate(published), `${count(events.published)} in all`);
  tiles.out.show(delivered, delivered === null ? "–" : rate(delivered), `${count(events.delivered)} in all`);
  tiles.latency.show(p99 ?? 0, latency(p99), "from publish to write");
  tiles.memory.show(now.memory_bytes, bytes(now.memory_bytes ?? 0), "resident");
}

function showDrain(now) {
  const { drain } = now;
  const on = !["starting", "serving"].includes(drain.phase);
  at("drain").hidden = !on;
  if (!on) {
    drainPeak = 0;
    return;
  }
  drainPeak = Math.max(drainPeak, drain.remaining, drain.told);
  const left = drainPeak - drain.remaining;
  say(at("drain-state"), `${drain.phase.replace("_", " ")}${drain.reason ? `: ${drain.reason}` : ""}`);
  at("drain-progress").max = Math.max(1, drainPeak);
  at("drain-progress").value = drainPeak === 0 ? 1 : left;
  const parts = [`${count(left)} of ${count(drainPeak)} connections have left`, `${count(drain.told)} were told to move`];
  if (drain.forced > 0) parts.push(`${count(drain.forced)} were closed`);
  if (drain.deadline_us) parts.push(`whoever is left goes in ${span((drain.deadline_us - now.now_us) / 1e6)}`);
  say(at("drain-text"), `${parts.join("; ")}.`);
}

function showHead(now) {
  say(at("node"), now.node);
  document.title = `${now.node} · Bowline`;
  const serving = now.phase === "serving" && now.ready;
  say(at("phase"), `${now.phase.replace("_", " ")}${now.ready ? "" : ", not ready"}`);
  at("phase").className = `pill ${serving ? "good" : "warn"}`;
  say(at("version"), `${now.version} (${now.revision.slice(0, 12)})`);
  say(at("uptime"), span((now.now_us - now.started_us) / 1e6));
  const log = now.log_level;
  const until = log?.until_us ? ` for ${span((log.until_us - now.now_us) / 1e6)} more, then ${log.configured}` : "";
  say(at("log-level"), log ? `${log.directives}${until}` : "elsewhere");
}

// How much a number grew a second since the last look at the same row.
function growth(list, key, now_us, value) {
  const [then, old] = before[list].get(key) ?? [now_us, value];
  return now_us > then ? Math.max(0, value - old) / ((now_us - then) / 1e6) : 0;
}

function remember(list, rows, now_us) {
  before[list] = new Map(rows.map(([key, value]) => [key, [now_us, value]]));
}

function showConnections({ connections: rows, total }, now_us) {
  const number = (text, flag) => [text, `number${flag ? " flag" : ""}`];
  const wide = (text) => [text, "number wide"];
  const cells = rows.map((row) => {
    const id = row.connection_id;
    return [
      id,
      [
        [row.client_id || "(no Hello yet)", "name", () => opener(id)],
        [row.peer, "wide"],
        [row.state, row.state === "connected" ? "wide" : "wide flag"],
        wide(span((now_us - row.opened_us) / 1e6)),
        number(count(row.sessions)),
        number(count(row.slow), row.slow > 0),
        wide(count(row.paused)),
        number(count(row.lag), row.slow > 0),
        wide(rate(growth("connections", `${id} in`, now_us, row.received))),
        number(rate(growth("connections", `${id} out`, now_us, row.sent))),
        wide(bytes(row.received_bytes)),
        wide(bytes(row.sent_bytes)),
      ],
    ];
  });
  connections.show(cells);
  const counted = rows.flatMap((row) => [[`${row.connection_id} in`, row.received], [`${row.connection_id} out`, row.sent]]);
  remember("connections", counted, now_us);
  say(at("connections-note"), rows.length < total ? `${rows.length} of ${count(total)}, slow and lagging first` : "");
}

function opener(id) {
  const button = make("button");
  button.type = "button";
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", () => {
    const cell = connections.toggle(id);
    button.setAttribute("aria-expanded", String(cell !== null));
    if (cell) showSessions(id, cell);
  });
  return button;
}

async function showSessions(id, cell) {
  let lines;
  try {
    const { connection, sessions } = await ask(`/connections/${id}`);
    const heard = `heard from ${span(connection.idle_ms / 1000)} ago`;
    lines = [[connection.peer, connection.state, heard, connection.agent].filter(Boolean).join(", ")];
    lines.push(
      ...sessions.map((s) => {
        const state = [s.slow ? "slow" : "", s.paused ? "paused" : ""].filter(Boolean).join(", ");
        return `${s.session_id} on ${s.topic}: ${count(s.delivered)} delivered, ${count(s.lag)} behind, at ${s.cursor}${state && `, ${state}`}`;
      }),
    );
  } catch {
    lines = ["it is gone"];
  }
  const list = make("ul");
  list.append(...lines.map((line) => make("li", "", line)));
  cell.replaceChildren(list);
}

function showTopics({ topics: rows, next }, now_us) {
  const counted = rows.map((row) => [row.name, row.head]);
  const speed = new Map(rows.map((row) => [row.name, growth("topics", row.name, now_us, row.head)]));
  const busiest = [...rows].sort((a, b) => speed.get(b.name) - speed.get(a.name) || a.name.localeCompare(b.name));
  topics.show(
    busiest.slice(0, LIST_LIMIT).map((row) => [
      row.name,
      [
        [row.name, "name"],
        [row.class, "wide"],
        [rate(speed.get(row.name)), "number"],
        [count(row.readers), "number"],
        [count(row.events), "number"],
        [bytes(row.bytes), "number wide"],
        [String(row.head), "number wide"],
      ],
    ]),
  );
  remember("topics", counted, now_us);
  const first = Math.min(rows.length, LIST_LIMIT);
  say(at("topics-note"), next || first < rows.length ? `the busiest ${first} of the first ${rows.length} by name` : "");
}

async function look(round) {
  const now = await ask("/status");
  if (past.length > 0 && past.at(-1).started_us !== now.started_us) {
    // Another process: its counters begin at nothing.
    past = [];
    Object.values(tiles).forEach((tile) => tile.forget());
  }
  past.push(now);
  if (past.length > LATENCY_ANSWERS) past.shift();
  answered = performance.now();
  showHead(now);
  showTiles(now);
  showDrain(now);
  if (round % LISTS_EVERY !== 0) return;
  const prefix = encodeURIComponent(at("prefix").value);
  const lists = [ask(`/connections?sort=lag&limit=${LIST_LIMIT}`), ask(`/topics?limit=500&prefix=${prefix}`)];
  const [held, named] = await Promise.all(lists);
  showConnections(held, now.now_us);
  showTopics(named, now.now_us);
  await Promise.all(connections.open().map(([id, cell]) => showSessions(id, cell)));
}

function showAnswer() {
  const silence = answered === null ? null : performance.now() - answered;
  const live = silence !== null && silence < EVERY_MS + PATIENCE_MS / 2;
  const text = live ? "live" : silence === null ? "no answer yet" : `no answer since ${span(silence / 1000)}`;
  say(at("answer"), document.hidden ? "not looking" : text);
  at("answer").className = `pill ${live ? "good" : "bad"}`;
  document.body.classList.toggle("stale", !live);
}

let round = 0;
let timer = null;

async function tick() {
  timer = null;
  try {
    await look(round);
    round += 1;
  } catch {
    // Shown by how long ago the last answer was. Whatever it was, the next look may find it better.
    round = 0;
  }
  showAnswer();
  if (!document.hidden) timer = setTimeout(tick, EVERY_MS);
}

// Nobody looks at a hidden page, and an operator may have many.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && timer === null) tick();
});
at("prefix").addEventListener("input", () => {
  round = 0;
});
setInterval(showAnswer, 500);
tick();
