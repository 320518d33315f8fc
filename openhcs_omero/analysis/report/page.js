"use strict";
// The page: it takes apart the columns of DATA, puts rows into the charts of SPECS, and fills the list of hits.

const byId = (id) => document.getElementById(id);
const PLATES_A_PAGE = 12, CURVES_A_PAGE = 12, REASONS = 10, ROWS_SHOWN = 300;
const views = {};
const state = { feature: DATA.features[0], kind: DATA.kinds[0], plates: 0, curves: 0, sort: null, down: false };

function decode(text) {
  if (text === null) return null;
  const bytes = Uint8Array.from(atob(text.slice(1)), (c) => c.charCodeAt(0));
  return text[0] === "d" ? new Float64Array(bytes.buffer) : new Float32Array(bytes.buffer);
}

const wells = Object.fromEntries(Object.entries(DATA.wells).map(([name, text]) => [name, decode(text)]));
const decoded = new Map();  // a feature may be called __proto__
const valuesOf = (column) => decoded.get(column) ?? decoded.set(column, decode(DATA.values[column])).get(column);
const columnShown = () => (state.kind === "raw" ? state.feature : `${state.feature}_${state.kind}`);
const wellsOfPlate = DATA.plates.map(() => []);
wells.plate.forEach((plate, index) => wellsOfPlate[plate].push(index));

const letters = (row) => (row < 26 ? "" : String.fromCharCode(64 + Math.floor(row / 26))) + String.fromCharCode(65 + (row % 26));
const wellName = (index) => letters(wells.row[index]) + String(wells.column[index] + 1).padStart(2, "0");
const wellIndex = new Map();
const imageOf = (index) => (wells.image && index !== undefined && wells.image[index] >= 0 ? wells.image[index] : null);
const hasLink = (index) => DATA.web && imageOf(index) !== null;
const urlOf = (index) => (hasLink(index) ? `${DATA.web}/webclient/?show=image-${imageOf(index)}` : null);
const keyOf = (index) => `${DATA.plates[wells.plate[index]]}\t${wellName(index)}`;
const thumbnailOf = (index) => DATA.thumbnails[keyOf(index)] ??
  (hasLink(index) ? `${DATA.web}/webclient/render_thumbnail/${imageOf(index)}/` : null);
wells.plate.forEach((_, index) => wellIndex.set(keyOf(index), index));
const finite = (value) => (Number.isFinite(value) ? value : null);
const plural = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
const short = (value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(3)).toString());

function rowOf(index, column) {
  return {
    plate: DATA.plates[wells.plate[index]], order: wells.plate[index], well: wellName(index), row: wells.row[index],
    column: wells.column[index] + 1, letter: letters(wells.row[index]), value: finite(valuesOf(column)[index]),
    treatment: DATA.treatments[wells.treatment[index]] ?? "", role: DATA.roles[wells.role[index]],
    hit: wells.hit[index], mark: ["", "−", "+", "", "×"][wells.role[index]], url: urlOf(index),
    image: thumbnailOf(index) ?? "",  // a tooltip asks for a picture called "undefined" otherwise
  };
}

function draw(name, rows, change = () => {}) {
  const spec = structuredClone(SPECS[name]);
  spec.datasets = { data: rows };
  spec.config = { view: { stroke: null }, axis: { gridColor: "#edf0f2" } };
  change(spec);
  return vegaEmbed(`#${name}`, spec, { actions: false, renderer: "canvas", loader: { target: "_blank" } })
    .then((result) => { views[name]?.finalize(); views[name] = result.view; });
}

// -- plates

function domainOf(column) {
  const known = Array.from(valuesOf(column)).filter(Number.isFinite).sort((a, b) => a - b);
  if (!known.length) return [0, 1];
  const at = (share) => known[Math.round(share * (known.length - 1))];
  return [at(0.005), at(0.995)];
}

const qualityOf = new Map(DATA.quality.map((row) => [`${row.plate}\t${row.feature}`, row]));

function plateTitle(plate) {
  const quality = qualityOf.get(`${plate}\t${state.feature}`);
  const gate = quality?.gate?.startsWith("stopped") ? ", stopped" : "";
  return `${plate}   Z′ ${short(quality?.z_prime)}${gate}`;
}

function drawPlates() {
  const pages = Math.ceil(DATA.plates.length / PLATES_A_PAGE), first = state.plates * PLATES_A_PAGE;
  const shown = DATA.plates.slice(first, first + PLATES_A_PAGE), column = columnShown();
  byId("plates-page").textContent = `plates ${first + 1} to ${first + shown.length} of ${DATA.plates.length}`;
  byId("plates-back").disabled = state.plates === 0;
  byId("plates-next").disabled = state.plates >= pages - 1;
  const rows = shown.flatMap((plate, n) =>
    wellsOfPlate[first + n].map((index) => ({ ...rowOf(index, column), title: plateTitle(plate) })));
  const shapes = DATA.shapes.slice(first, first + PLATES_A_PAGE);
  const shape = [0, 1].map((side) => Math.max(...shapes.map((size) => size[side])));
  byId("lost").replaceChildren(...lostOn(shown, rows, column).map(listItem));
  draw("heat", rows, (spec) => {
    spec.spec.layer[0].encoding.color.condition.scale.domain = domainOf(column);
    for (const { encoding } of spec.spec.layer) {  // wells that are missing keep their place
      encoding.x.scale = { domain: Array.from({ length: shape[1] }, (_, n) => n + 1) };
      encoding.y.scale = { domain: Array.from({ length: shape[0] }, (_, n) => letters(n)) };
      delete encoding.y.sort;
    }
    spec.spec.height = Math.round((spec.spec.width * shape[0]) / shape[1]);
  });
  const controls = rows.filter((row) => row.role === "negative" || row.role === "positive");
  controls.forEach((row, n) => { row.offset = ((n * 0.618034) % 1) - 0.5; });
  byId("controls").hidden = !controls.length;
  byId("no-controls").hidden = controls.length > 0;
  if (controls.length) draw("controls", controls, (spec) => { spec.encoding.y.title = column; });
}

function lostOn(plates, rows, column) {
  const known = new Set(rows.filter((row) => row.value !== null).map((row) => row.plate));
  return plates.filter((plate) => !known.has(plate)).slice(0, REASONS).map((plate) =>
    `${plate} has no ${column}: ${qualityOf.get(`${plate}\t${state.feature}`)?.reason || "no well has a value"}`);
}

// -- quality over plates

function drawTrend() {
  const metric = byId("metric").value;
  const rows = DATA.quality.filter((row) => row.feature === state.feature).map((row) => ({
    plate: row.plate, order: DATA.plates.indexOf(row.plate), value: row[metric], reason: row.reason,
    least: DATA.stop_below[metric] ?? null,
    gate: row.gate === "passed" ? "passed" : row.gate ? "stopped" : "no gate",
  }));
  draw("trend", rows, (spec) => {
    for (const layer of [spec.layer[0], spec.layer[2]]) {
      layer.encoding.y.title = metric;
      // a bad Z' may be -100, which would hide how the others differ
      if (metric.endsWith("z_prime")) layer.encoding.y.scale = { domain: [-1, 1], clamp: true };
    }
  });
  listReasons(rows.filter((row) => row.value === null && row.reason), metric);
}

function listReasons(rows, metric) {
  const lines = rows.slice(0, REASONS).map((row) => `${row.plate} has no ${metric}: ${row.reason}`);
  if (rows.length > REASONS) lines.push(`so it is for ${rows.length - REASONS} more plates: see quality.csv`);
  byId("reasons").replaceChildren(...lines.map(listItem));
}

function listItem(text) {
  const line = document.createElement("li");
  line.textContent = text;
  return line;
}

// -- samples over plates

function spreadRow(plate, batch, indices, column) {
  const known = indices.map((index) => valuesOf(column)[index]).filter(Number.isFinite).sort((a, b) => a - b);
  const at = (share) => {
    const place = share * (known.length - 1), low = Math.floor(place), part = place - low;
    return part ? known[low] * (1 - part) + known[low + 1] * part : known[low];
  };
  return {
    plate: DATA.plates[plate], order: plate, batch: DATA.batches[batch] ?? "none", wells: known.length,
    low: at(0.05), q1: at(0.25), median: at(0.5), q3: at(0.75), high: at(0.95),
  };
}

function drawSpread() {
  const column = columnShown();
  const rows = wellsOfPlate.flatMap((indices, plate) => {
    const samples = Map.groupBy(indices.filter((index) => wells.role[index] === 0), (index) => wells.batch[index]);
    return [...samples].map(([batch, chosen]) => spreadRow(plate, batch, chosen, column)).filter((row) => row.wells);
  });
  byId("spread-section").hidden = !rows.length;
  if (rows.length) draw("spread", rows, (spec) => { spec.layer[0].encoding.y.title = column; });
}

// -- replicates

function means(plate, column) {
  const sums = new Map();
  for (const index of wellsOfPlate[plate]) {
    const value = valuesOf(column)[index], treatment = wells.treatment[index];
    if (treatment < 0 || wells.role[index] !== 0 || !Number.isFinite(value)) continue;
    const sum = sums.get(treatment) ?? [0, 0];
    sums.set(treatment, [sum[0] + value, sum[1] + 1]);
  }
  return new Map([...sums].map(([treatment, [sum, n]]) => [treatment, sum / n]));
}

function drawReplicates() {
  const pair = DATA.pairs[byId("pair").value];
  const [one, other] = [pair.plate_1, pair.plate_2].map((plate) => means(DATA.plates.indexOf(plate), pair.feature));
  const rows = [...one].filter(([treatment]) => other.has(treatment))
    .map(([treatment, x]) => ({ treatment: DATA.treatments[treatment], x, y: other.get(treatment) }));
  byId("agreement").textContent = `Spearman ${short(pair.spearman)}, ${pair.n} treatments ${pair.reason}`;
  draw("replicates", rows, (spec) => {
    spec.encoding.x.title = `${pair.feature}, plate ${pair.plate_1}`;
    spec.encoding.y.title = `${pair.feature}, plate ${pair.plate_2}`;
  });
}

// -- dose response

function hill(dose, fit) {
  const [start, end] = fit.slope > 0 ? [fit.bottom, fit.top] : [fit.top, fit.bottom];
  return start + (end - start) / (1 + (fit.ec50 / dose) ** Math.abs(fit.slope));
}

// the wells that a curve is fitted to: those of a compound, and of a cell line where there are several
const fitted = (compound, line) => `${compound}\t${line ?? ""}`;
const stopped = new Set(DATA.stopped);
const wellsOfCompound = new Map();
wells.compound.forEach((compound, index) => {
  if (compound < 0 || wells.role[index] !== 0 || stopped.has(DATA.plates[wells.plate[index]])) return;
  const name = fitted(DATA.compounds[compound], DATA.lines[wells.line[index]]);
  if (!wellsOfCompound.has(name)) wellsOfCompound.set(name, []);
  wellsOfCompound.get(name).push(index);
});

function curveRows(fit, order) {
  const name = fit.cell_line ? `${fit.compound}, ${fit.cell_line}` : fit.compound;
  const title = fit.ec50 === null ? `${name}: ${fit.reason}`
    : `${name}   EC50 ${short(fit.ec50)} ${fit.unit} ` +
      (fit.ec50_low === null ? "(no interval)" : `(${short(fit.ec50_low)} to ${short(fit.ec50_high)})`);
  const points = (wellsOfCompound.get(fitted(fit.compound, fit.cell_line)) ?? []).filter((index) => wells.dose[index] > 0)
    .map((index) => ({ ...rowOf(index, DATA.dose_column), dose: wells.dose[index], kind: "well" }));
  const doses = points.map((row) => row.dose), [low, high] = [Math.min(...doses), Math.max(...doses)];
  const rows = [...points];
  if (fit.ec50 !== null) {
    for (let n = 0; n <= 60; n += 1) {
      const dose = low * (high / low) ** (n / 60);
      rows.push({ kind: "curve", dose, value: hill(dose, fit) });
    }
    rows.push({ kind: "ec50", dose: fit.ec50 });
    if (fit.ec50_low !== null) {
      rows.push({ kind: "interval", dose: Math.max(fit.ec50_low, low), dose2: Math.min(fit.ec50_high, high) });
    }
  }
  return rows.map((row) => ({ ...row, title, order }));
}

function drawCurves() {
  const asked = byId("curves-search").value.toLowerCase();
  const found = DATA.dose_response.filter((fit) =>
    `${fit.compound} ${fit.cell_line ?? ""}`.toLowerCase().includes(asked));
  const pages = Math.max(Math.ceil(found.length / CURVES_A_PAGE), 1);
  state.curves = Math.min(state.curves, pages - 1);
  const first = state.curves * CURVES_A_PAGE, shown = found.slice(first, first + CURVES_A_PAGE);
  byId("curves-page").textContent = found.length
    ? `compounds ${first + 1} to ${first + shown.length} of ${found.length}; ${DATA.dose_column} over ${DATA.dose_name}`
    : "no compound";
  byId("curves-back").disabled = state.curves === 0;
  byId("curves-next").disabled = state.curves >= pages - 1;
  const rows = shown.flatMap(curveRows);
  byId("curves").hidden = !rows.length;
  if (rows.length) draw("curves", rows);
}

// -- hits

function cell(text, number) {
  const made = document.createElement("td");
  made.textContent = text;
  if (number) made.className = "number";
  return made;
}

function wellCell(plate, well) {
  const made = cell("", false), index = wellIndex.get(`${plate}\t${well}`);
  const link = document.createElement(hasLink(index) ? "a" : "span"), picture = thumbnailOf(index);
  link.textContent = well;
  if (hasLink(index)) [link.href, link.target, link.rel] = [urlOf(index), "_blank", "noopener"];
  made.append(link);
  if (picture) {
    const thumbnail = document.createElement("img");
    [thumbnail.loading, thumbnail.src, thumbnail.alt] = ["lazy", picture, `thumbnail of ${well}`];
    made.append(thumbnail);
  }
  return made;
}

function fillHits() {
  const { columns, rows } = DATA.hits, asked = byId("hits-search").value.toLowerCase();
  const found = rows.filter((row) => row.some((value) => String(value ?? "").toLowerCase().includes(asked)));
  if (state.sort !== null) {
    const sign = state.down ? -1 : 1, at = state.sort;
    const missing = (row) => row[at] === null;
    found.sort((a, b) => missing(a) - missing(b) || (missing(a) ? 0 : sign * (typeof a[at] === "number"
      ? a[at] - b[at] : String(a[at]).localeCompare(String(b[at]), "en", { numeric: true }))));
  }
  const plate = columns.indexOf("plate"), well = columns.indexOf("well");
  byId("hits").tBodies[0].replaceChildren(...found.slice(0, ROWS_SHOWN).map((row) => {
    const line = document.createElement("tr");
    line.append(...row.map((value, n) => (n === well ? wellCell(row[plate], value)
      : cell(value === null ? "" : typeof value === "number" ? String(Number(value.toPrecision(5))) : value,
        typeof value === "number"))));
    return line;
  }));
  const more = found.length > ROWS_SHOWN ? `, the first ${ROWS_SHOWN} are shown: search for others` : "";
  const rest = DATA.n_hits > rows.length ? `; hits.csv has all ${DATA.n_hits}` : "";
  byId("hits-count").textContent = `${found.length} of ${rows.length} hits${more}${rest}`;
}

function headHits() {
  const line = byId("hits").tHead.insertRow();
  DATA.hits.columns.forEach((name, n) => {
    const head = document.createElement("th");
    head.textContent = name;
    head.onclick = () => { [state.down, state.sort] = [state.sort === n && !state.down, n]; fillHits(); };
    line.append(head);
  });
}

// -- the page

function fillSelect(id, entries, change) {
  entries.forEach(([value, text]) => byId(id).add(new Option(text, value)));
  byId(id).onchange = () => change(byId(id).value);
}

function turn(key, redraw) {
  byId(`${key}-back`).onclick = () => { state[key] -= 1; redraw(); };
  byId(`${key}-next`).onclick = () => { state[key] += 1; redraw(); };
}

const same = (names) => names.map((name) => [name, name]);
fillSelect("feature", same(DATA.features), (value) => { state.feature = value; drawPlates(); drawTrend(); drawSpread(); });
fillSelect("kind", same(DATA.kinds), (value) => { state.kind = value; drawPlates(); drawSpread(); });
fillSelect("metric", same(DATA.metrics), drawTrend);
fillSelect("pair", DATA.pairs.map((pair, n) =>
  [n, `${pair.plate_1} and ${pair.plate_2}, ${pair.feature}`]), drawReplicates);
turn("plates", drawPlates);
byId("summary").textContent = `${plural(DATA.plates.length, "plate")}, ${plural(wells.plate.length, "well")}` +
  (DATA.n_hits === null ? "" : `, ${plural(DATA.n_hits, "hit")}`);
byId("notes").replaceChildren(...DATA.notes.map(listItem));
byId("linked").hidden = !DATA.web;
drawPlates();
drawTrend();
drawSpread();
for (const [plate, picture] of Object.entries(DATA.outlines)) {
  const shown = document.createElement("img");
  [shown.loading, shown.src, shown.alt] = ["lazy", picture, `outlines of objects of ${plate}`];
  byId("outlines").append(shown);
}
byId("outlines-section").hidden = !Object.keys(DATA.outlines).length;
if (DATA.pairs.length) drawReplicates(); else byId("replicates-section").hidden = true;
if (DATA.dose_response) {
  byId("curves-rest").replaceChildren(...DATA.dose_rest.map(([reason, count]) =>
    listItem(`${plural(count, "compound")} not shown: ${reason}`)));
  turn("curves", drawCurves);
  byId("curves-search").oninput = () => { state.curves = 0; drawCurves(); };
  drawCurves();
} else byId("curves-section").hidden = true;
if (DATA.hits) { headHits(); byId("hits-search").oninput = fillHits; fillHits(); } else byId("hits-section").hidden = true;
window.report = { views, state };
