// The waterfall: rows under each other on one axis of time. Only what is in sight is drawn, so tens of thousands of
// spans cost no more than a screenful. All texts are drawn on the canvas or set as textContent: none is markup.
const ROW = 22, HEAD = 26;

// Streamlit calls the function again when the data or the theme change, and what it returned only at the end.
let stop;

export default function ({ data, parentElement: root, setTriggerValue }) {
  stop?.();
  const { rows, spans, links, shades, marks, begun, ended, origin, short } = data;
  const scroll = root.querySelector(".scroll"), plot = root.querySelector(".plot"), map = root.querySelector(".map");
  const space = root.querySelector(".space"), says = root.querySelector(".says"), box = root.querySelector(".waterfall");
  const of = rows.map(() => []), from = rows.map(() => []);
  for (const span of spans) of[span[0]].push(span);
  for (const link of links) { from[link[0]].push(link); if (link[2] !== link[0]) from[link[2]].push(link); }
  const longest = Math.max(ended - begun, 1e-3);
  let left = begun - longest * 0.01, width = longest * 1.02, label = 200, asked = 0, tones = {}, chosen = -1;

  const face = getComputedStyle(box).fontFamily;
  const tone = (name) => (tones[name] ??= getComputedStyle(box).getPropertyValue("--" + name).trim() || "#888");
  // light-dark() is only resolved where it is a colour's value, so it is read off an element.
  const probe = document.createElement("span");
  probe.hidden = true;
  box.append(probe);
  const resolve = () => {
    tones = {};
    for (const name of ["ink", "soft", "paper", "raised", "rule", "wait", "publish", "ok", "bad", "odd", "held", "settle", "end", "shade", "shade-ink"]) {
      probe.style.color = `var(--${name})`;
      tones[name] = getComputedStyle(probe).color;
    }
  };
  const sized = (canvas, w, h) => {
    const ratio = devicePixelRatio || 1;
    canvas.width = w * ratio; canvas.height = h * ratio; canvas.style.height = h + "px";
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    return context;
  };
  // As many digits as tell one tick from the next.
  const time = (ms, every = width / 100) => {
    const [size, unit] = width > 200 ? [1000, "s"] : [1, "ms"];
    return (ms / size).toFixed(Math.max(0, Math.ceil(-Math.log10(every / size) - 1e-9))) + " " + unit;
  };
  const step = (least) => {
    const power = 10 ** Math.floor(Math.log10(least));
    return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= least);
  };
  const fit = (context, text, room) => {
    if (context.measureText(text).width <= room) return text;
    let low = 0, high = text.length;
    while (low < high) { const mid = (low + high + 1) >> 1; context.measureText(text.slice(0, mid) + "…").width <= room ? (low = mid) : (high = mid - 1); }
    return text.slice(0, low) + "…";
  };

  // A bar without an end, for what never came: hatched, open to the right, its name on it.
  const open = (context, at, to, middle, cut) => {
    if (to <= at) return;
    context.save();
    context.beginPath(); context.rect(at, middle - 6, to - at, 12); context.clip();
    context.strokeStyle = tone("bad"); context.lineWidth = 1.25;
    context.beginPath();
    for (let px = at - (at % 6) - 12; px < to; px += 6) { context.moveTo(px, middle + 6); context.lineTo(px + 12, middle - 6); }
    context.moveTo(at, middle - 6); context.lineTo(to, middle - 6); context.moveTo(at, middle + 6); context.lineTo(to, middle + 6);
    if (!cut) { context.moveTo(at + 0.5, middle - 6); context.lineTo(at + 0.5, middle + 6); }
    context.stroke();
    context.restore();
    const text = "never handled", room = context.measureText(text).width + 10;
    if (to - at < room + 12) return;
    context.fillStyle = tone("paper"); context.fillRect(to - room - 8, middle - 7, room, 14);
    context.fillStyle = tone("bad"); context.fillText(text, to - room - 3, middle + 0.5);
  };

  // A wait for a gate to let it through: a frame, with its name where there is room.
  const held = (context, at, to, middle, text) => {
    if (to <= at) return;
    context.fillStyle = tone("paper"); context.fillRect(at, middle - 7, to - at, 14);
    context.strokeStyle = tone("held"); context.lineWidth = 1; context.strokeRect(at + 0.5, middle - 6.5, Math.max(1, to - at - 1), 13);
    if (to - at < 40) return;
    context.fillStyle = tone("held"); context.fillText(fit(context, text, to - at - 8), at + 4, middle + 0.5);
  };

  const draw = () => {
    asked = 0;
    const wide = scroll.clientWidth;
    if (!wide) return;
    label = wide < 520 ? 150 : 230;
    const high = Math.min(rows.length * ROW + HEAD, 560), context = sized(plot, wide, high);
    space.style.height = rows.length * ROW + HEAD + "px";
    const x = (ms) => label + ((ms - left) / width) * (wide - label - 8);
    const first = Math.floor(scroll.scrollTop / ROW), last = Math.min(rows.length, first + Math.ceil(high / ROW) + 1);
    const y = (row) => HEAD + row * ROW - scroll.scrollTop;
    context.textBaseline = "middle";
    context.fillStyle = tone("paper"); context.fillRect(0, 0, wide, high);
    if (chosen >= 0) { context.fillStyle = tone("raised"); context.fillRect(0, y(chosen), wide, ROW); }
    context.save(); context.beginPath(); context.rect(label, 0, wide - label, high); context.clip();
    for (const [b, e] of shades) { context.fillStyle = tone("shade"); context.fillRect(x(b), 0, Math.max(1, x(e) - x(b)), high); }
    context.font = `12px ${face}`;
    const every = step(width / Math.max(2, (wide - label) / 90));
    const ticks = [];
    for (let n = Math.ceil(left / every); n * every < left + width; n++) ticks.push(n * every);
    for (const t of ticks) { context.fillStyle = tone("rule"); context.fillRect(x(t), HEAD, 1, high); }
    for (const [at] of marks) { context.fillStyle = tone("bad"); context.fillRect(x(at) - 0.75, HEAD, 1.5, high); }
    const names = [];
    for (let row = first; row < last; row++) {
      if (rows[row][2]) { context.fillStyle = tone("rule"); context.fillRect(label, y(row), wide, 1); }
      for (const [, b, e, kind, text] of of[row]) {
        const at = x(b), to = Math.max(at + 2, x(e)), middle = y(row) + ROW / 2;
        context.fillStyle = tone(kind);
        if (kind === "wait") context.fillRect(at, middle - 1.5, to - at, 3);
        else if (kind === "held") names.push([Math.max(at, label), Math.min(to, wide), middle, text]);
        else if (kind === "settle") context.fillRect(at, middle - 4, to - at, 8);
        else if (kind === "end") { context.beginPath(); context.moveTo(at, middle - 7); context.lineTo(at + 7, middle); context.lineTo(at, middle + 7); context.lineTo(at - 7, middle); context.fill(); }
        else if (kind === "lost") open(context, Math.max(at, label), Math.min(to, wide), middle, at < label);
        else context.fillRect(at, middle - 6, to - at, 12);
      }
    }
    context.strokeStyle = tone("soft"); context.fillStyle = tone("soft"); context.lineWidth = 1;
    const drawn = new Set();
    for (let row = first; row < last; row++) for (const link of from[row]) {
      if (drawn.has(link) || drawn.size > 2000) continue;
      drawn.add(link);
      const [a, ta, b, tb] = link, xa = x(ta), ya = y(a) + ROW / 2 + 6, xb = x(tb), yb = y(b) + ROW / 2;
      context.beginPath(); context.moveTo(xa, ya); context.lineTo(xa, yb); context.lineTo(xb, yb); context.stroke();
      if (xb - xa > 5) { context.beginPath(); context.moveTo(xb, yb); context.lineTo(xb - 5, yb - 3); context.lineTo(xb - 5, yb + 3); context.fill(); }
    }
    for (const one of names) held(context, ...one);  // over the line of the link that led here
    context.restore();
    context.fillStyle = tone("paper"); context.fillRect(0, 0, label - 4, high);
    if (chosen >= 0) {
      context.fillStyle = tone("raised"); context.fillRect(0, y(chosen), label - 4, ROW);
      context.fillStyle = tone("ok"); context.fillRect(0, y(chosen), 4, ROW);
      context.strokeStyle = tone("ok"); context.strokeRect(0.5, y(chosen) + 0.5, wide - 1, ROW - 1);
    }
    for (let row = first; row < last; row++) {
      const [text, , head] = rows[row];
      context.font = `${head ? 600 : 400} ${wide < 520 ? 12 : 13}px ${face}`;
      context.fillStyle = tone(head ? "ink" : "soft");
      context.fillText(fit(context, text, label - (head ? 14 : 24)), head ? 8 : 16, y(row) + ROW / 2);
    }
    context.fillStyle = tone("raised"); context.fillRect(0, 0, wide, HEAD);
    context.font = `12px ${face}`; context.fillStyle = tone("soft");
    context.fillText(wide < 520 ? short : origin, 8, HEAD / 2);
    context.save(); context.beginPath(); context.rect(label, 0, wide - label, HEAD); context.clip();
    for (const t of ticks) context.fillText(time(t, every), x(t) + 3, HEAD / 2);
    context.restore();
    context.save(); context.beginPath(); context.rect(label, HEAD, wide - label, 36); context.clip();
    context.fillStyle = tone("shade-ink");
    for (const [b, e, name] of shades) {
      const at = Math.max(label, x(b)), room = Math.min(wide, x(e)) - at;
      if (room > 24) context.fillText(fit(context, name, room - 8), at + 4, HEAD + 10);
    }
    context.fillStyle = tone("bad");
    for (const [at, name] of marks) {
      const room = context.measureText(name).width + 6, left = x(at) - room;
      left > label ? context.fillText(name, left, HEAD + 10) : context.fillText(name, x(at) + 6, HEAD + 28);
    }
    context.restore();
    overview();
  };
  const overview = () => {
    map.hidden = rows.length < 60;
    if (map.hidden) return;
    const wide = map.clientWidth, high = 48, context = sized(map, wide, high);
    const x = (ms) => ((ms - begun) / longest) * wide, y = (row) => (row / rows.length) * high;
    if (overview.drawn !== wide + tone("ok")) {
      overview.picture = document.createElement("canvas");
      const own = sized(overview.picture, wide, high);
      for (const [b, e] of shades) { own.fillStyle = tone("shade"); own.fillRect(x(b), 0, Math.max(1, x(e) - x(b)), high); }
      for (const [row, b, e, kind] of spans) { own.fillStyle = tone(kind === "lost" ? "bad" : kind); own.fillRect(x(b), y(row), Math.max(1, x(e) - x(b)), Math.max(1, high / rows.length)); }
      overview.drawn = wide + tone("ok");
    }
    context.drawImage(overview.picture, 0, 0, wide, high);
    context.strokeStyle = tone("ink"); context.lineWidth = 1.5;
    const top = scroll.scrollTop / ROW;
    context.strokeRect(Math.max(0.75, x(left)), y(top), Math.min(wide - 1.5, (width / longest) * wide), Math.max(4, y((560 - HEAD) / ROW)));
  };
  const again = () => { if (!asked) asked = requestAnimationFrame(draw); };
  const zoom = (by, at = left + width / 2) => {
    const wider = Math.min(longest * 1.02, Math.max(longest / 1e6, width * by));
    left = at - ((at - left) / width) * wider; width = wider; pan(0);
  };
  const pan = (by) => {
    const edge = longest * 0.01;
    left = Math.min(Math.max(left + by * width, begun - edge), ended + edge - width); again();
  };
  // Onto what the chosen row belongs to: of many events far apart, each is a point on the axis that they share.
  const onto = () => {
    if (chosen < 0) return;
    let begin = Infinity, end = -Infinity;
    for (let row = 0; row < rows.length; row++) if (rows[row][1] === rows[chosen][1]) {
      for (const [, b, e] of of[row]) { begin = Math.min(begin, b); end = Math.max(end, e); }
    }
    if (begin > end) return;
    width = Math.max((end - begin) * 1.04, longest / 1e6); left = (begin + end - width) / 2; pan(0);
  };
  const all = () => { left = begun - longest * 0.01; width = longest * 1.02; again(); };
  const under = (event) => {
    const place = plot.getBoundingClientRect(), px = event.clientX - place.left, py = event.clientY - place.top;
    const row = Math.floor((py - HEAD + scroll.scrollTop) / ROW), ms = left + ((px - label) / (place.width - label - 8)) * width;
    return { px, py, row: py < HEAD || !rows[row] ? -1 : row, ms };
  };
  // What a row tells, to who cannot point at its bars: each of them in words, and the faults that were active meanwhile.
  const choose = (row) => {
    chosen = Math.min(Math.max(row, 0), rows.length - 1);
    const top = chosen * ROW, least = top + HEAD + ROW - scroll.clientHeight;
    scroll.scrollTop = Math.min(top, Math.max(least, scroll.scrollTop));
    const told = [...of[chosen]].sort((a, b) => a[1] - b[1]);
    const met = shades.filter(([b, e]) => told.some((one) => one[1] <= e && one[2] >= b)).map((one) => one[2]);
    const parts = [rows[chosen][0].trim(), ...told.map((one) => one[4])];
    if (met.length) parts.push(`fault active: ${[...new Set(met)].join(", ")}`);
    says.textContent = parts.join(" · ");
    again();
  };
  const opens = (row) => setTriggerValue("event", rows[row][1]);
  const tell = (event) => {
    const { row, ms, px } = under(event), near = (6 / (plot.clientWidth - label)) * width;
    plot.style.cursor = px < label && row >= 0 ? "pointer" : "crosshair";
    if (row < 0) { says.textContent = ""; return; }
    const hit = of[row].filter(([, b, e]) => ms >= b - near && ms <= e + near).sort((a, b) => a[2] - a[1] - (b[2] - b[1]))[0];
    const active = shades.filter(([b, e]) => ms >= b && ms <= e).map((one) => one[2]);
    const mark = marks.find(([at]) => Math.abs(ms - at) < near)?.[1];
    says.textContent = `${rows[row][0]} · ${hit ? hit[4] : time(ms)}${active.length ? ` · fault active: ${active.join(", ")}` : ""}${mark ? ` · ${mark}` : ""}`;
  };

  let dragged = null;
  const down = (event) => { dragged = { x: event.clientX, left, moved: false }; };
  const move = (event) => {
    if (!dragged || !event.buttons) { tell(event); return; }
    const by = (dragged.x - event.clientX) / (plot.clientWidth - label);
    if (Math.abs(dragged.x - event.clientX) > 3) { dragged.moved = true; left = dragged.left; pan(by); }
  };
  const up = (event) => {
    const { row, px } = under(event);
    if (dragged && !dragged.moved && row >= 0) px < label ? opens(row) : choose(row);
    dragged = null;
  };
  const wheel = (event) => {
    if (!event.shiftKey && !event.ctrlKey) return;
    event.preventDefault();
    zoom((event.deltaY || event.deltaX) > 0 ? 1.25 : 0.8, under(event).ms);
  };
  const key = (event) => {
    const page = Math.max(1, Math.floor((scroll.clientHeight - HEAD) / ROW) - 1);
    const does = {
      "+": () => zoom(0.7), "=": () => zoom(0.7), "-": () => zoom(1.4), 0: all,
      ArrowLeft: () => pan(-0.15), ArrowRight: () => pan(0.15),
      ArrowDown: () => choose(chosen + 1), ArrowUp: () => choose(chosen - 1),
      PageDown: () => choose(chosen + page), PageUp: () => choose(chosen - page),
      Home: () => choose(0), End: () => choose(rows.length - 1),
      Enter: () => chosen >= 0 && opens(chosen), z: onto, Z: onto,
    }[event.key];
    if (does && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); does(); }
  };
  const jump = (event) => {
    const place = map.getBoundingClientRect();
    scroll.scrollTop = ((event.clientY - place.top) / place.height) * rows.length * ROW - 250;
    const at = begun + ((event.clientX - place.left) / place.width) * longest;
    left = at - width / 2; pan(0);
  };
  const press = (event) => {
    const what = event.target.closest("button")?.dataset.do;
    if (what) ({ in: () => zoom(0.5), out: () => zoom(2), fit: all, row: onto })[what]();
  };

  scroll.setAttribute("aria-label", data.alt);
  plot.addEventListener("pointerdown", down); plot.addEventListener("pointermove", move); plot.addEventListener("pointerup", up);
  plot.addEventListener("wheel", wheel, { passive: false }); scroll.addEventListener("scroll", again);
  scroll.addEventListener("keydown", key); map.addEventListener("click", jump);
  root.querySelector(".bar").addEventListener("click", press);
  const seen = new ResizeObserver(again);
  seen.observe(scroll);
  resolve(); again();
  box.dataset.spans = spans.length;
  stop = () => {
    seen.disconnect(); cancelAnimationFrame(asked);
    plot.removeEventListener("pointerdown", down); plot.removeEventListener("pointermove", move); plot.removeEventListener("pointerup", up);
    plot.removeEventListener("wheel", wheel); scroll.removeEventListener("scroll", again); scroll.removeEventListener("keydown", key);
    map.removeEventListener("click", jump); root.querySelector(".bar").removeEventListener("click", press); probe.remove();
  };
  return stop;
}
