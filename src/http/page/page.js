'use strict';
const $ = id => document.getElementById(id);
const stage = $('stage'), canvas = $('live'), plain = $('plain'), pen = canvas.getContext('2d', { alpha: false });
const STREAM = new URL('stream', location.href).href;
const SNAPSHOT = new URL('snapshot.jpg', location.href).href;
const STATUS = new URL('api/v1/status', location.href).href;
const SETTINGS = new URL('api/v1/settings', location.href).href;
const CONTROLS = new URL('api/v1/controls', location.href).href;
const DIAGNOSTICS = new URL('api/v1/diagnostics', location.href).href;

const SILENCE = 8000;         // ms without a picture before the connection counts as dead
const HIDDEN = 15000;         // ms in the background before the stream is dropped
const POLL = 2000;            // ms between two looks at the status
const DIAGNOSE = 5000;        // ms between two looks at the diagnostics, while they are open
const COLLECT = 150;          // ms in which changes are collected before they are sent
const PATIENCE = 12000;       // ms an answer to a change may take: a stopped camera has to start
const BACKOFF = [300, 1000, 2000, 4000, 5000];
// WebKit gives no multipart body to fetch(): ?raw asks for the same bytes as application/octet-stream. Where reading fails
// all the same, the browser's own multipart <img> takes over.
let canRead = !!(window.ReadableStream && window.createImageBitmap), unreadable = 0;

let connection = null;        // AbortController of the running stream
let began = 0;                // when it began
let shown = [];               // times of the pictures of the last seconds
let lastPicture = 0;
let retries = 0, retryTimer = 0, hiddenTimer = 0;
let refusal = '';             // why the server refused the stream
let paused = false, away = false;
let status = null, statusOk = false, lastAnswer = Date.now();

// ---- the stream --------------------------------------------------------------------------------

function disconnect() {
  clearTimeout(retryTimer);
  if (connection) connection.abort();
  connection = null;
  waiting = null;
  if (plain.hidden) return;
  if (plain.naturalWidth) {   // keep the last picture
    size(plain.naturalWidth, plain.naturalHeight);
    pen.drawImage(plain, 0, 0);
  }
  plain.removeAttribute('src');
  plain.hidden = !(canvas.hidden = false);
}

function connect() {
  disconnect();
  if (paused || away) return;
  began = Date.now();
  const me = connection = new AbortController();
  if (canRead) {
    read(me).catch(() => {}).then(() => {
      me.abort();
      if (connection === me) { connection = null; later(); }
    });
  } else {
    plain.hidden = false;
    canvas.hidden = true;
    plain.onload = () => { lastPicture = Date.now(); retries = 0; fit(plain.naturalWidth, plain.naturalHeight); };
    plain.onerror = () => { if (connection === me) { connection = null; later(); } };
    plain.src = STREAM + '?' + began;
  }
  render();
}

function later(seconds) {
  clearTimeout(retryTimer);
  const wait = seconds ? seconds * 1000 : BACKOFF[Math.min(retries++, BACKOFF.length - 1)];
  retryTimer = setTimeout(connect, wait * (0.8 + 0.4 * Math.random()));
  render();
}

// Reads multipart parts; every part has a Content-Length.
async function read(me) {
  const response = await fetch(STREAM + '?raw=1', { cache: 'no-store', signal: me.signal });
  refusal = '';
  if (!response.ok) {
    refusal = response.status === 503 ? 'The camera has as many viewers as it can serve.' : (await answered(response)).error;
    const seconds = Math.min(30, +response.headers.get('Retry-After') || 5);
    if (connection === me) { connection = null; later(seconds); }
    return me.abort();
  }
  const reader = response.body.getReader();
  let head = '', jpeg = null, have = 0;
  for (;;) {
    const { done, value } = await reader.read().catch(e => {
      if (!lastPicture && connection === me && ++unreadable > 1) canRead = false;
      throw e;
    });
    if (done || connection !== me) return;
    let rest = value;
    while (rest.length) {
      if (jpeg) {
        const n = Math.min(jpeg.length - have, rest.length);
        jpeg.set(rest.subarray(0, n), have);
        have += n;
        rest = rest.subarray(n);
        if (have === jpeg.length) { show(jpeg); jpeg = null; }
      } else {                // boundary and header lines, up to the blank line
        const piece = rest.subarray(0, 1024), before = head.length;
        head += String.fromCharCode.apply(null, piece);
        const end = head.indexOf('\r\n\r\n');
        if (end < 0) {
          if (head.length > 8192) throw new Error('part header too long');
          rest = rest.subarray(piece.length);
        } else {
          const length = +(/^content-length:[ \t]*(\d+)/im.exec(head.slice(0, end)) || [])[1];
          if (!(length > 0 && length < 5e7)) throw new Error('part without a usable Content-Length');
          rest = rest.subarray(end + 4 - before);
          jpeg = new Uint8Array(length);
          have = 0;
          head = '';
        }
      }
    }
  }
}

// Decodes one picture at a time; while that is busy only the newest is kept.
let busy = false, waiting = null;
async function show(jpeg) {
  waiting = jpeg;
  if (busy) return;
  busy = true;
  while (waiting) {
    const blob = new Blob([waiting], { type: 'image/jpeg' });
    waiting = null;
    try {
      const picture = await createImageBitmap(blob);
      if (connection) draw(picture);
      picture.close();
    } catch (e) { /* a damaged picture: the next one comes soon */ }
  }
  busy = false;
}

function draw(picture) {
  size(picture.width, picture.height);
  pen.drawImage(picture, 0, 0);
  const first = lastPicture < began;
  lastPicture = Date.now();
  shown.push(lastPicture);
  retries = 0;
  if (first) { render(); poll(); }
}

function size(width, height) {
  fit(width, height);
  if (canvas.width === width && canvas.height === height) return;
  canvas.width = width;
  canvas.height = height;
}

function fit(width, height) {
  if (width > 0 && height > 0) stage.style.setProperty('--ratio', (width / height).toFixed(4));
}

// ---- the status --------------------------------------------------------------------------------

async function poll() {
  const stop = new AbortController(), timer = setTimeout(() => stop.abort(), 2 * POLL);
  const wasOk = statusOk, asked = Date.now();
  try {
    const response = await fetch(STATUS, { cache: 'no-store', signal: stop.signal });
    if (!response.ok) throw new Error(response.status);
    status = (await response.json()) || {};
    statusOk = true;
    lastAnswer = Date.now();
    if (asked > changedAt) settings.show(status.settings || {});
  } catch (e) { statusOk = false; }
  clearTimeout(timer);
  // The server is back: no need to sit out the back-off. An <img> cannot tell that its server died.
  if (statusOk && !wasOk && !refusal && (!connection || !canRead)) connect();
  render();
  if (!wasOk) cameraSeen = '';
  if (statusOk) followCamera();
}

let polling = false;
async function pollLoop() {
  if (polling) return;
  polling = true;
  while (!document.hidden) {
    await poll();
    await new Promise(wake => setTimeout(wake, POLL));
  }
  polling = false;
}

// ---- what the visitor sees ---------------------------------------------------------------------

const WORDS = {
  starting: ['Starting…', 'warn'], streaming: ['Streaming', 'ok'], idle: ['Idle', ''],
  degraded: ['Camera problem', 'bad'], stalled: ['Camera stalled', 'bad'],
  connecting: ['Connecting…', 'warn'], reconnecting: ['Reconnecting…', 'warn'], paused: ['Paused', ''],
};

function text(element, value) {
  value = value == null || value === '' ? '–' : String(value);
  if (element.textContent !== value) element.textContent = value;
}

const number = value => typeof value === 'number' && isFinite(value) ? value : null;
const pretty = fps => fps >= 9.95 ? Math.round(fps) : +fps.toFixed(fps < 0.95 ? 2 : 1);

// Shows a box with a list, if there is something in it.
function list(box, items) {
  items = (items || []).filter(item => item != null).map(String);
  if (box.dataset.seen !== items.join('\n')) {
    box.dataset.seen = items.join('\n');
    box.hidden = !items.length;
    box.lastChild.replaceChildren(...items.map(item => make('li', {}, item)));
  }
  return items.length;
}

// Shows names and values; those without a value are left out.
function terms(box, facts) {
  facts = facts.filter(fact => fact[1]);
  const seen = facts.join('\n');
  if (box.dataset.seen === seen) return;
  box.dataset.seen = seen;
  box.replaceChildren(...[].concat(...facts.map(([name, value]) => [make('dt', {}, name), make('dd', {}, value)])));
}

function about(s, cam, encoder) {
  const reason = (s.health || {}).reason, asked = s.settings || {};
  const facts = [
    ['Camera', cam.source ? [...new Set([cam.model, cam.id, cam.source])].filter(Boolean).join(', ') : status && 'none' + (reason ? ': ' + reason : '')],
    ['State', cam.running === false && 'stopped while nobody watches'],
    ['Delivers', cam.width && [cam.pixel_format, cam.width + ' × ' + cam.height, cam.frame_rate && 'at ' + pretty(cam.frame_rate) + ' fps'].filter(Boolean).join(' ')],
    ['Turned by', { camera: 'the camera', encoder: 'the encoder', jpeg: 'the program, losslessly in the JPEG' }[cam.turned_by] || cam.turned_by],
    ['Encoder', encoder.kind],
    ['Why this encoder', encoder.reason],
    ['Device', encoder.device && encoder.device + (encoder.memory ? ', ' + encoder.memory : '')],
    ['Limit', encoder.rate_limit && 'at most ' + pretty(encoder.rate_limit) + ' fps'],
    ['Program', s.version && 'pinholed ' + s.version + (s.libcamera ? ', libcamera ' + s.libcamera : '')],
  ];
  terms($('about'), facts);
  const note = [];
  if (statusOk && !s.camera) note.push('There is no camera' + (reason ? ': ' + reason : '') + '. What you change here waits for it.');
  if (cam.width && asked.resolution && (asked.resolution !== cam.width + 'x' + cam.height || cam.frame_rate && Math.abs(asked.frame_rate / cam.frame_rate - 1) > 0.05)) {
    note.push('This camera delivers ' + cam.width + ' × ' + cam.height + (cam.frame_rate ? ' at ' + pretty(cam.frame_rate) + ' fps' : '') + '.');
  }
  if (encoder.kind === 'passthrough') note.push('The camera makes the JPEGs itself: the quality set here has no effect.');
  say($('settings-note'), note.join(' '));
}

function render() {
  const now = Date.now(), s = status || {}, health = s.health || {}, cam = s.camera || {}, encoder = s.encoder || {};
  const flowing = connection && (canRead ? lastPicture >= began && now - lastPicture < SILENCE : statusOk);

  let state = health.state || 'streaming';
  if (state === 'idle' && flowing) state = 'streaming';
  if (paused) state = 'paused';
  else if (!flowing) state = lastPicture ? 'reconnecting' : 'connecting';
  const [word, tone] = WORDS[state] || [state, ''];
  $('state').dataset.state = state;
  $('state').dataset.tone = tone;
  text($('state'), word);

  const over = $('over');
  stage.classList.toggle('stale', !paused && !flowing && lastPicture > 0);
  over.hidden = paused || flowing;
  text(over.firstChild, word);
  const long = now - lastAnswer > 10000 && !statusOk;
  over.lastChild.textContent = refusal || (long ? 'No answer since ' + new Date(lastAnswer).toLocaleTimeString() + '. The picture comes back by itself.' : '');

  const faulty = statusOk && (state === 'degraded' || state === 'stalled' || (health.reason && state !== 'streaming' && state !== 'idle'));
  if (faulty) text($('fault').lastChild, health.reason || 'No reason was given.');
  $('fault').hidden = !faulty;

  const problems = list($('problems'), (s.config || {}).problems);
  text($('problems').firstChild, problems === 1 ? 'A setting was not understood; its default is in use' : 'Some settings were not understood; their defaults are in use');
  list($('notes'), cam.notes);

  $('main').classList.toggle('noted', faulty || problems > 0);

  if (cam.width && !lastPicture) fit(cam.width, cam.height);
  const picture = s.camera && s.frame && !s.frame.placeholder ? s.frame : cam;   // what the camera delivers may be turned
  text($('size'), picture.width && picture.height ? picture.width + ' × ' + picture.height : '');
  text($('camera'), cam.model || cam.id || cam.source || (status ? 'none' : ''));
  text($('encoder'), encoder.kind);
  $('encoder').title = encoder.reason || '';
  about(s, cam, encoder);
  const viewers = s.viewers || {};
  text($('viewers'), statusOk ? number(viewers.count) : '');
  $('viewers').title = viewers.max ? 'at most ' + viewers.max : '';

  // What arrives here; beside it what the camera makes, where that is clearly more.
  shown = shown.filter(t => now - t < 3000);
  const made = number((s.rates || {}).captured_fps);
  const span = Math.min(3000, now - began) / 1000;
  const here = canRead ? (flowing && span > 1 ? shown.length / span : null) : made;
  text($('rate'), here == null || paused ? '' : made && state === 'streaming' && here < 0.8 * made ? pretty(here) + ' of ' + pretty(made) + ' fps' : pretty(here) + ' fps');

  const name = !s.name || /^pinhole$/i.test(s.name) ? 'Pinhole' : String(s.name);
  text($('name'), name);
  $('name').title = s.version ? 'pinholed ' + s.version + (s.libcamera ? ', libcamera ' + s.libcamera : '') : '';
  const title = (faulty ? '⚠ ' : '') + name;
  if (document.title !== title) document.title = title;
}

// ---- settings and controls ---------------------------------------------------------------------

function make(tag, facts, ...children) {
  const element = document.createElement(tag);
  for (const key of Object.keys(facts)) {
    if (key.includes('-')) element.setAttribute(key, facts[key]); else element[key] = facts[key];
  }
  element.append(...children);
  return element;
}

function say(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

// What an answer says. What went wrong is in `error`; the words of a refusal may also be text, and not even be ours.
async function answered(response) {
  const words = await response.text(), isText = /^text\/plain/.test(response.headers.get('Content-Type'));
  let answer = {};
  try { answer = JSON.parse(words) || {}; } catch (e) { /* no JSON */ }
  if (!response.ok && !answer.error) answer.error = isText && words.trim().slice(0, 1000) || 'The camera answered ' + response.status + '.';
  return answer;
}

// Asks or changes something; what went wrong is in the answer's `error`.
async function ask(url, method, body) {
  const stop = new AbortController(), timer = setTimeout(() => stop.abort(), PATIENCE);
  let answer;
  try {
    const headers = body ? { 'Content-Type': 'application/json' } : {};
    const response = await fetch(url, { method: method || 'GET', headers, body: body && JSON.stringify(body), cache: 'no-store', signal: stop.signal });
    answer = await answered(response);
  } catch (e) { answer = { error: 'no answer; the value is not known to be set' }; }
  clearTimeout(timer);
  if (answer.error) {
    const words = String(answer.error).replace(/^the body cannot be used: /, '').replace(/ at line \d+ column \d+$/, '');
    answer.error = words.charAt(0).toUpperCase() + words.slice(1);
  }
  return answer;
}

// Collects changes by name for a moment and sends them together, one request at a time.
function collect(send) {
  let changes = new Map(), timer = 0, busy = false;
  const flush = async () => {
    timer = 0;
    if (busy) return;
    busy = true;
    while (changes.size) {
      const batch = changes;
      changes = new Map();
      await send(batch);
    }
    busy = false;
  };
  return {
    has: name => changes.has(name),
    put(name, value) {
      changes.set(name, value);
      timer = timer || setTimeout(flush, COLLECT);
    },
  };
}

// What changes a value, by its type: the elements, and what shows a value in them.
function editor(control, id, put) {
  const { type, min, max } = control, input = facts => make('input', Object.assign({ id }, facts));
  if (control.read_only) {
    const shown = make('output', { id });
    return [[shown], value => text(shown, typeof value === 'object' ? JSON.stringify(value) : value)];
  }
  if (type === 'boolean') {
    const box = input({ type: 'checkbox' });
    box.onchange = () => put(box.checked);
    return [[box], value => { box.checked = value === true; box.indeterminate = value == null; }];
  }
  if (type === 'button') return [[make('button', { id, type: 'button', onclick: () => put(1) }, control.name)], () => {}];
  if (type === 'enum') {
    const choice = make('select', { id }), other = make('input', { type: 'text', hidden: true, 'aria-label': control.label + ', other' });
    const options = (control.options || []).map(option => make('option', { value: option.value }, option.name));
    let current;
    if (control.other) options.push(make('option', { value: 'other' }, 'Other…'));
    choice.append(...options);
    other.onchange = () => put(other.value);
    choice.onchange = () => {
      other.hidden = choice.value !== 'other';
      if (other.hidden) return put(typeof current === 'number' ? +choice.value : choice.value);
      other.value = current;
      other.select();
    };
    return [[choice, other], value => {
      current = value;
      other.hidden = true;
      if (value != null && !options.some(option => option.value === String(value))) {
        options.push(make('option', { value }, String(value).replace('x', ' × ')));
        choice.prepend(options[options.length - 1]);
      }
      choice.value = value;
    }];
  }
  if (type === 'integer' || type === 'float') {
    const known = number(min) != null && number(max) != null && min < max;
    const step = type === 'integer' ? control.step || 1 : known ? Math.pow(10, Math.floor(Math.log10((max - min) / 100))) : 'any';
    const facts = known ? { min, max, step } : { step };
    const field = input(Object.assign({ type: 'number' }, facts));
    let last = null;
    const show = value => { field.value = last = value == null ? '' : value; };
    field.onchange = () => field.value === '' ? show(last) : put(+field.value);
    if (!known || (max - min) / step > 10000) return [[field], show];
    // Minimum, maximum and step have to be there before the value.
    const slider = make('input', Object.assign({ type: 'range', 'aria-labelledby': id + '-name' }, facts));
    slider.oninput = () => { field.value = slider.value; put(+slider.value); };
    return [[slider, field], value => { show(value); slider.value = value == null ? control.default : value; }];
  }
  if (type === 'rectangle') {
    const fields = ['x', 'y', 'width', 'height'].map((part, index) => make('input', { type: 'number', step: 1, id: index ? '' : id }));
    const labels = fields.map((field, index) => make('label', {}, ['x', 'y', 'width', 'height'][index], field));
    const box = make('div', { className: 'parts', role: 'group', 'aria-labelledby': id + '-name' }, ...labels);
    const show = value => fields.forEach((field, index) => { field.value = value ? value[index] : ''; });
    for (const field of fields) field.onchange = () => { if (fields.every(f => f.value !== '')) put(fields.map(f => +f.value)); };
    if (!(max && max[2] > 0 && max[3] > 0)) return [[box], show];
    const most = Math.max(1, Math.min(10, ...[2, 3].map(part => max[part] / Math.max(1, min ? min[part] : 1))));
    const zoom = make('input', { type: 'range', min: 1, max: most, step: 0.1 });
    box.prepend(make('label', { className: 'zoom' }, 'Zoom', zoom));
    zoom.oninput = () => {      // around the middle
      const size = [2, 3].map(part => Math.min(max[part], Math.max(min ? min[part] : 1, Math.round(max[part] / zoom.value / 2) * 2)));
      const crop = [0, 1].map(part => max[part] + Math.floor((max[part + 2] - size[part]) / 2)).concat(size);
      show(crop);
      put(crop);
    };
    return [[box], value => { show(value); zoom.value = value && value[2] ? max[2] / value[2] : 1; }];
  }
  const words = input({ type: 'text', spellcheck: false, autocomplete: 'off' });
  words.onchange = () => {
    if (type === 'string') return put(words.value);
    try { put(JSON.parse(words.value)); } catch (e) { put(undefined, 'This must be a list, such as ' + JSON.stringify(control.default || [1, 2]) + '.'); }
  };
  return [[words], value => { words.value = value == null ? '' : type === 'string' ? value : JSON.stringify(value); }];
}

let lineCount = 0;
// One line of a panel: name, editor, reset, and what is wrong.
function line(control, changes) {
  const id = 'line' + ++lineCount, { name } = control, label = control.label || name;
  const wrong = make('p', { id: id + '-wrong', className: 'wrong', role: 'alert' });
  const put = (value, mistake) => {
    say(wrong, mistake || '');
    if (!mistake) changes.put(name, value);
  };
  const [elements, show] = editor(Object.assign({}, control, { label }), id, put);
  for (const element of elements) element.setAttribute('aria-describedby', wrong.id);
  const reset = make('button', { type: 'button', className: 'reset', title: 'Reset', 'aria-label': 'Reset ' + label, onclick: () => put(null) }, '↺');
  const can = control.default != null && !control.read_only && control.type !== 'button';
  const words = control.type === 'button' ? [] : label.split(/(?=[A-Z][a-z])/);   // a long name breaks before capitals
  const title = make('label', { id: id + '-name', htmlFor: id }, ...[].concat(...words.map(word => [make('wbr', {}), word])));
  const element = make('div', { className: control.type === 'boolean' || control.read_only ? 'field short' : 'field' }, title, make('div', { className: 'edit' }, ...elements), reset, wrong);
  let seen = null;            // the value shown last, as JSON
  return {
    element,
    fail(words) {
      say(wrong, words);
      seen = null;            // the editor holds what was wished: whatever is told next replaces it
    },
    // Shows the value in force; what the visitor is just typing is left alone, unless it is the answer to that.
    show(value, answered) {
      const now = JSON.stringify(value);
      reset.disabled = !can || now === JSON.stringify(control.default);
      if (changes.has(name) || (now === seen && !answered)) return;
      seen = now;
      show(value);
    },
  };
}

let settingsKept = '';        // YAML from the server
const kept = new Map();       // controls set from this page, and their values
const keepBoxes = ['settings', 'controls'].map(panel => {
  const yaml = make('textarea', { id: panel + '-yaml', readOnly: true, spellcheck: false });
  const copy = make('button', { type: 'button', 'data-copy': yaml.id }, 'Copy');
  const box = make('div', { hidden: true }, make('label', { htmlFor: yaml.id }, 'To keep them, write this into pinhole.yaml:'), yaml, copy);
  $(panel + '-keep').append(make('p', {}, 'Changes apply at once, for all viewers, and last until restart.'), box);
  return { box, yaml };
});
// The same text in both panels: a file with two “camera:” would be wrong.
function keep() {
  const lines = [...kept].map(([name, value]) => '    ' + JSON.stringify(name) + ': ' + JSON.stringify(value) + '\n').join('');
  const controls = lines && '  controls:\n' + lines;
  const text = settingsKept ? settingsKept.replace(/^(?=encoder:)/m, () => controls) : controls && 'camera:\n' + controls;
  for (const { box, yaml } of keepBoxes) {
    yaml.value = text.trim();
    yaml.rows = yaml.value.split('\n').length;
    box.hidden = !text;
  }
}

let changedAt = 0;            // when the settings last changed: an older status knows nothing of it
const settings = (() => {
  // One by one: a refusal does not say which of several it means.
  const changes = collect(async batch => {
    for (const [name, value] of batch) {
      const answer = await ask(SETTINGS, 'PATCH', { [name]: value });
      const now = answer.error ? await ask(SETTINGS) : answer;
      lines[name].fail(answer.error || '');
      show(now, name);
      settingsKept = answer.to_keep || settingsKept;
      keep();
      changedAt = Date.now();
    }
    poll();
  });
  const sizes = ['320x240', '640x480', '800x600', '1024x768', '1280x720', '1280x960', '1640x1232', '1920x1080', '2592x1944'];
  const turns = {
    normal: 'Normal', 'rotate-180': 'Upside down (180°)', 'flip-horizontal': 'Mirrored left to right', 'flip-vertical': 'Mirrored top to bottom',
    'rotate-90': 'Quarter turn clockwise (90°)', 'rotate-270': 'Quarter turn anticlockwise (270°)',
  };
  const lines = {};
  for (const setting of [
    { name: 'resolution', label: 'Resolution', type: 'enum', other: true, options: sizes.map(size => ({ value: size, name: size.replace('x', ' × ') })) },
    { name: 'frame_rate', label: 'Frame rate', type: 'float' },
    { name: 'quality', label: 'Quality', type: 'integer', min: 1, max: 100 },
    { name: 'orientation', label: 'Orientation', type: 'enum', options: Object.keys(turns).map(turn => ({ value: turn, name: turns[turn] })) },
  ]) {
    lines[setting.name] = line(setting, changes);
    $('settings-fields').append(lines[setting.name].element);
  }
  const show = (values, answered) => {
    for (const name of Object.keys(lines)) if (values[name] != null) lines[name].show(values[name], name === answered);
  };
  return { show };
})();

let cameraSeen = '', controlsFailed = false, loading = false;
const controlLines = new Map();   // by name

// One that cannot be set keeps all others from being set: those are sent once more without it.
const controlChanges = collect(async batch => {
  const names = [...batch.keys()];
  let answer;
  while (batch.size) {
    answer = await ask(CONTROLS, 'PATCH', [...batch].reduce((all, [name, value]) => Object.assign(all, { [name]: value }), {}));
    if (!answer.error) break;
    for (const name of batch.has(answer.control) ? [answer.control] : [...batch.keys()]) {
      if (controlLines.has(name)) controlLines.get(name).fail(answer.error);
      batch.delete(name);
    }
  }
  for (const [name, value] of batch) if (value === null) kept.delete(name); else kept.set(name);
  showControls(answer.error ? await ask(CONTROLS) : answer, names);
});

function showControls(answer, answered) {
  controlsFailed = !!answer.error;
  const controls = answer.controls || [];
  say($('controls-note'), answer.error ? answer.error.replace(/\.?$/, '.') : controls.length ? '' : 'This camera has no controls.');
  $('controls-body').hidden = !controls.length;
  if (controlsFailed) return;
  for (const control of controls) {
    const shape = JSON.stringify(Object.assign({}, control, { value: null }));
    let known = controlLines.get(control.name);
    if (!known || known.shape !== shape) {
      const made = Object.assign(line(control, controlChanges), { shape });
      if (known) known.element.replaceWith(made.element); else $('controls-fields').append(made.element);
      controlLines.set(control.name, known = made);
    }
    known.show(control.value, answered && answered.includes(control.name));
    if (control.value == null) kept.delete(control.name);
    else if (kept.has(control.name)) kept.set(control.name, control.value);
  }
  for (const [name, { element }] of controlLines) {
    if (controls.some(control => control.name === name)) continue;
    element.remove();
    controlLines.delete(name);
    kept.delete(name);
  }
  keep();
}

async function loadControls() {
  if (loading) return;
  loading = true;
  showControls(await ask(CONTROLS));
  loading = false;
}

// Another camera, or the same with other settings, has other controls.
function followCamera() {
  const { camera, settings } = status || {};
  const now = JSON.stringify(camera ? [camera.id, camera.width, camera.height, camera.frame_rate, (settings || {}).orientation] : 0);
  if (!$('controls').open || (now === cameraSeen && !controlsFailed)) return;
  cameraSeen = now;
  loadControls();
}

$('reset-all').onclick = async () => {
  const answer = await ask(CONTROLS, 'DELETE');
  for (const { fail } of controlLines.values()) fail('');
  if (!answer.error) kept.clear();
  showControls(answer.error ? await ask(CONTROLS) : answer, [...controlLines.keys()]);
  if (answer.error) say($('controls-note'), answer.error);
};

for (const panel of [$('settings'), $('controls')]) panel.ontoggle = () => {
  $('main').classList.toggle('adjusting', $('settings').open || $('controls').open);
  if (panel.open && panel.id === 'controls') { cameraSeen = ''; followCamera(); }
};
if (window.IntersectionObserver) {
  new IntersectionObserver(entries => stage.classList.toggle('mini', entries[entries.length - 1].intersectionRatio < 0.4), { threshold: 0.4 }).observe(stage);
}

// ---- diagnostics -------------------------------------------------------------------------------

function duration(seconds) {
  for (const [unit, size] of [['days', 86400], ['h', 3600], ['min', 60]]) {
    if (seconds >= 2 * size) return Math.round(seconds / size) + ' ' + unit;
  }
  return Math.round(seconds) + ' s';
}
const ago = seconds => number(seconds) == null ? '' : ', ' + duration(seconds) + ' ago';
const megabytes = bytes => number(bytes) == null ? '–' : pretty(bytes / 1048576) + ' MB';

function heat(throttling) {
  if (!throttling) return '';
  const { now = [], recent = [], sees_under_voltage } = throttling;
  const before = recent.filter(word => !now.includes(word));
  const words = [now.length ? 'now ' + now.join(', ') : '', before.length ? 'before ' + before.join(', ') : ''].filter(Boolean);
  const blind = sees_under_voltage === false && !words.some(word => word.includes('under-voltage'));
  return (words.join('; ') || 'nothing wrong') + (blind ? ' (low voltage is not measured on this board)' : '');
}

function pace(clock) {
  if (!clock || number(clock.mhz) == null) return '';
  const most = number(clock.max_mhz) == null ? '' : ' of ' + clock.max_mhz;
  return clock.mhz + most + ' MHz' + (clock.governor ? ' (' + clock.governor + ')' : '');
}

const sensor = s => s.name + (!s.supported ? ' (not supported)' : s.driver ? '' : ' (does not answer: check its cable)');

function showDiagnostics(d) {
  const machine = d.machine || {}, program = d.program || {}, memory = machine.memory || {}, restarts = d.restarts || {};
  const last = restarts.last, heard = Date.now();
  terms($('diagnostics-facts'), [
    ['Board', machine.model],
    ['Its own name', machine.unique_name && machine.unique_name + '.local'],
    ['Temperature', number(machine.temperature_c) != null && machine.temperature_c.toFixed(1) + ' °C'],
    [machine.throttling && machine.throttling.sees_under_voltage === false ? 'Heat' : 'Power and heat', heat(machine.throttling)],
    ['Clock', pace(machine.clock)],
    ['Sensor on the camera’s cable', (machine.sensors || []).map(sensor).join(', ')],
    ['Memory', memory.total_bytes && megabytes(memory.free_bytes) + ' of ' + megabytes(memory.total_bytes) + ' free; the program has ' + megabytes(program.resident_bytes)],
    ['Load', machine.load && machine.load.join(', ') + ' (over 1, 5 and 15 minutes)'],
    ['Running', [machine.uptime_s && 'the machine for ' + duration(machine.uptime_s), program.uptime_s && 'the program for ' + duration(program.uptime_s)].filter(Boolean).join(', ')],
    ['Last restart', last && 'the ' + last.of + ago(last.ago_s) + ': ' + last.why],
    ['Failures in a row', (restarts.failures || []).map(f => f.cause + ': ' + f.count + ago(f.ago_s)).join('; ')],
    ['Starts of the machine', number(restarts.boots) != null && restarts.boots + (last && last.of === 'program' && restarts.why_booted ? '; the last: ' + restarts.why_booted : '')],
    ['Kernel', machine.kernel],
  ]);
  say($('diagnostics-note'), d.machine ? '' : 'The machine does not answer; the messages may tell why.');
  $('diagnostics-body').hidden = false;

  showLog($('log'), d.log || [], d.monotonic_s, heard);
  $('machine-log-part').hidden = !(d.machine_log || []).length;
  showLog($('machine-log'), d.machine_log || [], d.monotonic_s, heard);
}

function showLog(box, lines, now, heard) {
  const last = lines[lines.length - 1] || {}, seen = lines.length + ' ' + last.monotonic_s + ' ' + last.text;
  if (box.dataset.seen === seen) return;
  const atEnd = !box.dataset.seen || box.scrollHeight - box.scrollTop - box.clientHeight < 8;
  box.dataset.seen = seen;
  box.firstElementChild.replaceChildren(...lines.map(line => {
    // Not by the camera's clock: it may have been wrong then, or still be.
    const when = new Date(heard - (now - line.monotonic_s) * 1000);
    const today = when.toDateString() === new Date(heard).toDateString();
    const time = make('time', { dateTime: when.toISOString() }, today ? when.toLocaleTimeString() : when.toLocaleString());
    const level = { error: 'error: ', warn: 'warning: ' }[line.level];
    return make('li', { 'data-level': line.level || '' }, time, make('span', {}, ...(level ? [make('b', {}, level)] : []), line.text));
  }));
  if (atEnd) box.scrollTop = box.scrollHeight;
}

let diagnosing = false;
async function diagnose() {
  if (diagnosing) return;
  diagnosing = true;
  while ($('diagnostics').open && !document.hidden) {
    const answer = await ask(DIAGNOSTICS);
    if (answer.error) say($('diagnostics-note'), 'The camera does not answer.'); else showDiagnostics(answer);
    await new Promise(wake => setTimeout(wake, DIAGNOSE));
  }
  diagnosing = false;
}
$('diagnostics').ontoggle = diagnose;

// ---- buttons and events ------------------------------------------------------------------------

const fullElement = () => document.fullscreenElement || document.webkitFullscreenElement;
function full() {
  if (fullElement()) return (document.exitFullscreen || document.webkitExitFullscreen).call(document);
  const enter = stage.requestFullscreen || stage.webkitRequestFullscreen;
  const fill = on => stage.classList.toggle('fill', on);   // phones without full screen: fill the window
  if (!enter || stage.classList.contains('fill')) return fill(!stage.classList.contains('fill'));
  Promise.resolve(enter.call(stage)).catch(() => fill(true));
}
$('full').onclick = stage.ondblclick = $('leave').onclick = full;
addEventListener('keydown', e => {
  if (e.ctrlKey || e.metaKey || e.altKey || /INPUT|SELECT|TEXTAREA/.test(e.target.tagName)) return;
  if (e.key === 'f' || e.key === 'F') { e.preventDefault(); full(); }
  if (e.key === 'Escape') stage.classList.remove('fill');
});

$('pause').onclick = () => {
  paused = !paused;
  $('pause').textContent = paused ? 'Resume' : 'Pause';
  if (paused) disconnect(); else connect();
  render();
};

$('snapshot').onclick = e => {
  const time = new Date(Date.now() - new Date().getTimezoneOffset() * 60000).toISOString().slice(0, 19).replace(/[T:]/g, '-');
  e.currentTarget.download = $('name').textContent.toLowerCase() + '-' + time + '.jpg';
};

$('stream-url').value = STREAM;
$('snapshot-url').value = SNAPSHOT;
for (const button of document.querySelectorAll('[data-copy]')) button.onclick = async () => {
  const field = $(button.dataset.copy);
  field.select();
  try {                       // the clipboard API exists only on https and localhost
    if (navigator.clipboard) await navigator.clipboard.writeText(field.value);
    else if (!document.execCommand('copy')) return;
  } catch (e) { return; }
  button.textContent = 'Copied';
  setTimeout(() => { button.textContent = 'Copy'; }, 1500);
};

function visibility() {
  clearTimeout(hiddenTimer);
  if (document.hidden) {
    hiddenTimer = setTimeout(() => { away = true; disconnect(); render(); }, HIDDEN);
    return;
  }
  const gone = away;
  away = false;
  pollLoop();
  diagnose();
  if (gone || !connection || Date.now() - lastPicture > 3000) { retries = 0; connect(); }
}
document.addEventListener('visibilitychange', visibility);
addEventListener('online', () => { retries = 0; connect(); });
addEventListener('pagehide', disconnect);
addEventListener('pageshow', e => { if (e.persisted) visibility(); });

let tick = Date.now();
setInterval(() => {
  const now = Date.now(), slept = now - tick > 10000;   // the machine slept: the old connection is dead
  tick = now;
  if (connection && !document.hidden && (slept || (canRead && now - Math.max(lastPicture, began) > SILENCE))) connect();
  render();
}, 1000);

connect();
if (document.hidden) visibility();
else pollLoop();
