// How numbers are written and drawn. Knows nothing of the server.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const low = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export const count = (n) => (n < 100_000 ? whole.format(n) : short.format(n));

export const rate = (n) => (n >= 1000 ? short.format(n) : n >= 10 ? whole.format(n) : low.format(n));

export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (n >= 1024 && at < units.length - 1) {
    n /= 1024;
    at += 1;
  }
  return `${n >= 100 ? whole.format(n) : fine.format(n)} ${units[at]}`;
}

export function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

export function latency(seconds) {
  if (seconds === null) return "–";
  return seconds < 1 ? `${fine.format(seconds * 1000)} ms` : `${fine.format(seconds)} s`;
}

// The value below which a share of the observations lies, between the bounds of its bucket; null without any.
export function quantile(bounds, counts, share) {
  const all = counts.reduce((sum, n) => sum + n, 0);
  if (all === 0) return null;
  let below = 0;
  for (let at = 0; at < bounds.length; at += 1) {
    if (below + counts[at] >= share * all) {
      const from = at === 0 ? 0 : bounds[at - 1];
      return from + ((bounds[at] - from) * (share * all - below)) / counts[at];
    }
    below += counts[at];
  }
  return bounds[bounds.length - 1];
}

// Sets a text only where it differs, so that nothing is laid out anew for nothing.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [120, 32];
// So many numbers are drawn at most; fewer than so many are drawn as if they were.
const [LONGEST, SHORTEST] = [120, 30];

// A tile: what it is, its number, a word about it, and how the number was lately.
export class Tile {
  constructor(parent, id, title) {
    const tile = make("article", "tile");
    tile.id = id;
    this.value = make("div", "value", "–");
    this.more = make("div", "more");
    const spark = document.createElementNS(SVG, "svg");
    spark.setAttribute("class", "spark");
    spark.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    spark.setAttribute("preserveAspectRatio", "none");
    spark.setAttribute("aria-hidden", "true");
    this.area = document.createElementNS(SVG, "polygon");
    this.line = document.createElementNS(SVG, "polyline");
    spark.append(this.area, this.line);
    tile.append(make("h3", "", title), this.value, this.more, spark);
    parent.append(tile);
    this.past = [];
  }

  // A number of null is not known yet.
  show(number, text, more) {
    say(this.value, text);
    say(this.more, more);
    if (number === null) return;
    this.past.push(number);
    if (this.past.length > LONGEST) this.past.shift();
    const top = Math.max(...this.past, Number.MIN_VALUE) * 1.15;
    const step = WIDTH / (Math.max(this.past.length, SHORTEST) - 1);
    const x = (at) => (WIDTH - (this.past.length - 1 - at) * step).toFixed(2);
    const y = (n) => (HEIGHT - 1 - (n / top) * (HEIGHT - 2)).toFixed(2);
    const points = this.past.map((n, at) => `${x(at)},${y(n)}`);
    this.line.setAttribute("points", points.join(" "));
    this.area.setAttribute("points", `${x(0)},${HEIGHT} ${points.join(" ")} ${WIDTH},${HEIGHT}`);
  }

  forget() {
    this.past = [];
  }
}

// The rows of a table, kept from one time to the next by their key, so that focus and what is open stay.
export class Rows {
  constructor(body, columns, none) {
    Object.assign(this, { body, columns, none, rows: new Map() });
  }

  // `items` as [key, cells], a cell being [text, className] or an element.
  show(items) {
    const seen = new Set(items.map(([key]) => key));
    for (const [key, row] of this.rows) {
      if (!seen.has(key)) {
        row.detail?.remove();
        row.line.remove();
        this.rows.delete(key);
      }
    }
    const focused = document.activeElement;
    let at = this.body.firstElementChild;
    for (const [key, cells] of items) {
      const row = this.row(key, cells);
      for (const part of row.detail ? [row.line, row.detail] : [row.line]) {
        if (part === at) at = at.nextElementSibling;
        else this.body.insertBefore(part, at);
      }
    }
    this.nothing(items.length === 0);
    if (focused !== document.activeElement && this.body.contains(focused)) focused.focus();
  }

  row(key, cells) {
    let row = this.rows.get(key);
    if (!row) {
      row = { line: make("tr"), detail: null };
      row.line.append(...cells.map(() => make("td")));
      this.rows.set(key, row);
    }
    cells.forEach((cell, at) => {
      const td = row.line.children[at];
      const [text, className] = cell;
      if (td.className !== className) td.className = className;
      if (cell.length === 3) {
        if (!td.firstElementChild) td.append(cell[2]());
        say(td.firstElementChild, text);
      } else say(td, text);
      if (className.startsWith("name")) td.title = text;
    });
    return row;
  }

  // Opens or closes the line below a row; the cell to fill, if it is open now.
  toggle(key) {
    const row = this.rows.get(key);
    if (!row) return null;
    if (row.detail) {
      row.detail.remove();
      row.detail = null;
      return null;
    }
    row.detail = make("tr", "detail");
    const cell = make("td");
    cell.colSpan = this.columns;
    row.detail.append(cell);
    row.line.after(row.detail);
    return cell;
  }

  // The open cells, by key.
  open() {
    return [...this.rows].filter(([, row]) => row.detail).map(([key, row]) => [key, row.detail.firstElementChild]);
  }

  nothing(empty) {
    if (empty && !this.placeholder) {
      this.placeholder = make("tr");
      const cell = make("td", "none", this.none);
      cell.colSpan = this.columns;
      this.placeholder.append(cell);
      this.body.append(this.placeholder);
    } else if (!empty && this.placeholder) {
      this.placeholder.remove();
      this.placeholder = null;
    }
  }
}
