'use strict';
// The panels: settings, the camera's controls, diagnostics.

// ---- what changes a value, by its type ---------------------------------------------------------

/** @param {string} id @param {Control} control @param {Put} put @returns {Editor} */
function editor(id, control, put) {
  if (control.read_only) {
    const output = make('output', { id });
    return [[output], value => tell(output, typeof value === 'object' ? JSON.stringify(value) : value)];
  }
  switch (control.type) {
    case 'boolean': return checkbox(id, put);
    case 'button': return [[make('button', { id, type: 'button', onclick: () => put(1) }, control.name)], () => {}];
    case 'enum': return choice(id, control, put);
    case 'integer': case 'float': return numberField(id, control, put);
    case 'rectangle': return rectangle(id, control, put);
    default: return textField(id, control, put);
  }
}

/** @param {string} id @param {Put} put @returns {Editor} */
function checkbox(id, put) {
  const box = make('input', { id, type: 'checkbox' });
  box.onchange = () => put(box.checked);
  return [[box], value => { box.checked = value === true; box.indeterminate = value == null; }];
}

/** @param {string} id @param {Control} control @param {Put} put @returns {Editor} */
function choice(id, control, put) {
  const select = make('select', { id }), other = make('input', { type: 'text', hidden: true, 'aria-label': `${control.label}, other` });
  const options = (control.options || []).map(option => make('option', { value: option.value }, option.name));
  /** @type {Value} */
  let current;
  if (control.other) options.push(make('option', { value: 'other' }, 'Other…'));
  select.append(...options);
  other.onchange = () => put(other.value);
  select.onchange = () => {
    other.hidden = select.value !== 'other';
    if (other.hidden) return put(typeof current === 'number' ? +select.value : select.value);
    other.value = current;
    other.select();
  };
  return [[select, other], value => {
    current = value;
    other.hidden = true;
    if (value != null && !options.some(option => option.value === String(value))) {
      const option = make('option', { value }, String(value).replace('x', ' × '));
      options.push(option);
      select.prepend(option);
    }
    select.value = value;
  }];
}

/** @param {string} id @param {Control} control @param {Put} put @returns {Editor} */
function numberField(id, control, put) {
  const { facts, slides } = numberRange(control);
  const field = make('input', { id, type: 'number', ...facts });
  /** @type {Value} */
  let last = '';
  /** @param {Value} value */
  const show = value => {
    last = value == null ? '' : value;
    field.value = last;
  };
  field.onchange = () => field.value === '' ? show(last) : put(+field.value);
  if (!slides) return [[field], show];
  // Minimum, maximum and step have to be there before the value.
  const slider = make('input', { type: 'range', 'aria-labelledby': `${id}-name`, ...facts });
  slider.oninput = () => { field.value = slider.value; put(+slider.value); };
  return [[slider, field], value => { show(value); slider.value = value == null ? control.default : value; }];
}

/** @param {string} id @param {Control} control @param {Put} put @returns {Editor} */
function rectangle(id, { min, max }, put) {
  const parts = ['x', 'y', 'width', 'height'];
  const fields = parts.map((_, index) => make('input', { type: 'number', step: 1, id: index ? '' : id }));
  const labels = fields.map((field, index) => make('label', {}, parts[index], field));
  const box = make('div', { className: 'parts', role: 'group', 'aria-labelledby': `${id}-name` }, ...labels);
  /** @param {Value} value */
  const show = value => fields.forEach((field, index) => { field.value = value ? value[index] : ''; });
  for (const field of fields) field.onchange = () => { if (fields.every(f => f.value !== '')) put(fields.map(f => +f.value)); };
  if (!(max && max[2] > 0 && max[3] > 0)) return [[box], show];
  const zoom = make('input', { type: 'range', min: 1, max: mostZoom(min, max), step: 0.1 });
  box.prepend(make('label', { className: 'zoom' }, 'Zoom', zoom));
  zoom.oninput = () => {
    const crop = cropAt(+zoom.value, min, max);
    show(crop);
    put(crop);
  };
  return [[box], value => { show(value); zoom.value = value?.[2] ? String(max[2] / value[2]) : '1'; }];
}

/** @param {string} id @param {Control} control @param {Put} put @returns {Editor} */
function textField(id, control, put) {
  const isText = control.type === 'string', field = make('input', { id, type: 'text', spellcheck: false, autocomplete: 'off' });
  field.onchange = () => {
    if (isText) return put(field.value);
    try {
      put(JSON.parse(field.value));
    } catch {
      put(undefined, `This must be a list, such as ${JSON.stringify(control.default || [1, 2])}.`);
    }
  };
  return [[field], value => { field.value = value == null ? '' : isText ? value : JSON.stringify(value); }];
}

let lineCount = 0;
/**
 * One line of a panel: name, editor, reset, and what is wrong.
 * @param {Control} control @param {Changes} changes @returns {Line}
 */
function line(control, changes) {
  const id = `line${++lineCount}`, { name } = control, label = control.label || name;
  const wrong = make('p', { id: `${id}-wrong`, className: 'wrong', role: 'alert' });
  /** @type {Put} */
  const put = (value, mistake) => {
    say(wrong, mistake || '');
    if (!mistake) changes.put(name, value);
  };
  const [elements, display] = editor(id, { ...control, label }, put);
  for (const element of elements) element.setAttribute('aria-describedby', wrong.id);
  const reset = make('button', { type: 'button', className: 'reset', title: 'Reset', 'aria-label': `Reset ${label}`, onclick: () => put(null) }, '↺');
  const can = control.default != null && !control.read_only && control.type !== 'button';
  const parts = control.type === 'button' ? [] : nameParts(label);
  const title = make('label', { id: `${id}-name`, htmlFor: id, title: control.hint || '' }, ...parts.flatMap(part => [make('wbr', {}), part]));
  const short = control.type === 'boolean' || control.read_only ? ' short' : '';
  const element = make('div', { className: `field${short}` }, title, make('div', { className: 'edit' }, ...elements), reset, wrong);
  /** @type {string | null | undefined} */
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
      display(value);
    },
  };
}

// ---- settings ----------------------------------------------------------------------------------

let settingsKept = '';        // YAML from the server
/** @type {Map<string, Value>} */
const kept = new Map();       // controls set from this page, and their values
const keepBoxes = ['settings', 'controls'].map(panel => {
  const yaml = make('textarea', { id: `${panel}-yaml`, readOnly: true, spellcheck: false });
  const copy = make('button', { type: 'button', 'data-copy': yaml.id }, 'Copy');
  const box = make('div', { hidden: true }, make('label', { htmlFor: yaml.id }, 'To keep them, add this to pinhole.yaml:'), yaml, copy);
  $(`${panel}-keep`).append(make('p', {}, 'Changes apply at once, for all viewers, and last until restart.'), box);
  return { box, yaml };
});

// The same text in both panels: either of them has all there is to keep.
function keep() {
  const text = linesToKeep(settingsKept, kept);
  for (const { box, yaml } of keepBoxes) {
    yaml.value = text;
    yaml.rows = text.split('\n').length;
    box.hidden = !text;
  }
}

let changedAt = 0;            // when the settings last changed: an older status knows nothing of it

// One by one: a refusal does not say which of several it means.
const settingChanges = collect(async batch => {
  for (const [name, value] of batch) {
    const answer = await ask(AT.settings, 'PATCH', { [name]: value });
    const now = answer.error ? await ask(AT.settings) : answer;
    settingLines.get(name)?.fail(answer.error || '');
    showSettings(now, name);
    settingsKept = answer.to_keep || settingsKept;
    keep();
    changedAt = Date.now();
  }
  poll();
});

/** @type {Map<string, Line>} */
const settingLines = new Map();
for (const setting of settingFields($('settings-fields').dataset.table)) {
  const made = line(setting, settingChanges);
  settingLines.set(setting.name, made);
  $('settings-fields').append(made.element);
}

/** @param {Settings} values @param {string} [answered] whose change they answer */
function showSettings(values, answered) {
  for (const [name, value] of Object.entries(values)) {
    if (value != null) settingLines.get(name)?.show(value, name === answered);
  }
}

// ---- controls ----------------------------------------------------------------------------------

let cameraSeen = '', controlsFailed = false, loading = false;
/** @type {Map<string, Line & {shape: string}>} */
const controlLines = new Map();

const controlChanges = collect(async batch => {
  const names = [...batch.keys()];
  const answer = await sendControls(batch, values => ask(AT.controls, 'PATCH', values), (name, words) => controlLines.get(name)?.fail(words));
  for (const [name, value] of batch) if (value === null) kept.delete(name); else kept.set(name, value);
  showControls(answer.error ? await ask(AT.controls) : answer, names);
});

/** @param {Answer<Controls>} answer @param {string[]} [answered] whose changes it answers */
function showControls(answer, answered = []) {
  controlsFailed = !!answer.error;
  const controls = answer.controls || [];
  say($('controls-note'), answer.error ? answer.error.replace(/\.?$/, '.') : controls.length ? '' : 'This camera has no controls.');
  $('controls-body').hidden = !controls.length;
  if (controlsFailed) return;
  for (const control of controls) {
    const shape = JSON.stringify({ ...control, value: null });
    let known = controlLines.get(control.name);
    if (known?.shape !== shape) {
      const made = { ...line(control, controlChanges), shape };
      if (known) known.element.replaceWith(made.element); else $('controls-fields').append(made.element);
      controlLines.set(control.name, made);
      known = made;
    }
    known.show(control.value, answered.includes(control.name));
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
  showControls(await ask(AT.controls));
  loading = false;
}

// Another camera, or the same with other settings, has other controls.
function followCamera() {
  const { camera, settings } = latest || {};
  const now = JSON.stringify(camera ? [camera.id, camera.width, camera.height, camera.frame_rate, settings?.orientation] : 0);
  if (!$('controls').open || (now === cameraSeen && !controlsFailed)) return;
  cameraSeen = now;
  loadControls();
}

$('reset-all').onclick = async () => {
  const answer = await ask(AT.controls, 'DELETE');
  for (const { fail } of controlLines.values()) fail('');
  if (!answer.error) kept.clear();
  showControls(answer.error ? await ask(AT.controls) : answer, [...controlLines.keys()]);
  if (answer.error) say($('controls-note'), answer.error);
};

for (const panel of [$('settings'), $('controls')]) {
  panel.ontoggle = () => {
    $('main').classList.toggle('adjusting', $('settings').open || $('controls').open);
    if (panel.open && panel.id === 'controls') { cameraSeen = ''; followCamera(); }
  };
}
if ('IntersectionObserver' in window) {
  new IntersectionObserver(entries => {
    stage.classList.toggle('mini', entries[entries.length - 1].intersectionRatio < 0.4);
  }, { threshold: 0.4 }).observe(stage);
}

// ---- diagnostics -------------------------------------------------------------------------------

const DIAGNOSE = 5000;        // ms between two looks at the diagnostics, while they are open

/** @param {Diagnostics} diagnostics */
function showDiagnostics(diagnostics) {
  const heard = Date.now(), { log = [], monotonic_s: now = 0, machine, machine_log: machineLog } = diagnostics;
  terms($('diagnostics-facts'), diagnosticFacts(diagnostics));
  say($('diagnostics-note'), machine ? '' : 'The machine’s figures are not available; the messages below may say why.');
  $('diagnostics-body').hidden = false;
  showLog($('log'), log, now, heard);
  $('machine-log-part').hidden = !machineLog?.length;
  showLog($('machine-log'), machineLog || [], now, heard);
}

/** @param {HTMLElement} box @param {LogLine[]} lines @param {number} now @param {number} heard */
function showLog(box, lines, now, heard) {
  const last = lines[lines.length - 1], seen = `${lines.length} ${last?.monotonic_s} ${last?.text}`;
  if (box.dataset.seen === seen) return;
  const atEnd = !box.dataset.seen || box.scrollHeight - box.scrollTop - box.clientHeight < 8;
  box.dataset.seen = seen;
  const today = new Date(heard).toDateString();
  box.querySelector('ol')?.replaceChildren(...lines.map(({ monotonic_s, level = '', text }) => {
    const when = logTime(monotonic_s, now, heard);
    const clock = when.toDateString() === today ? when.toLocaleTimeString() : when.toLocaleString();
    const mark = { error: 'error: ', warn: 'warning: ' }[level];
    return make('li', { 'data-level': level }, make('time', { dateTime: when.toISOString() }, clock),
      make('span', {}, ...(mark ? [make('b', {}, mark)] : []), text));
  }));
  if (atEnd) box.scrollTop = box.scrollHeight;
}

let diagnosing = false;
async function diagnose() {
  if (diagnosing) return;
  diagnosing = true;
  while ($('diagnostics').open && !document.hidden) {
    const answer = await ask(AT.diagnostics);
    if (answer.error) say($('diagnostics-note'), 'The camera does not answer.'); else showDiagnostics(answer);
    await new Promise(wake => setTimeout(wake, DIAGNOSE));
  }
  diagnosing = false;
}
$('diagnostics').ontoggle = diagnose;
