'use strict';
// The status, what the visitor sees of it, buttons and events. Last of the scripts: it starts the page.

const SILENCE = 8000;         // ms without a picture before the connection counts as dead
const HIDDEN = 15000;         // ms in the background before the stream is dropped
const POLL = 2000;            // ms between two looks at the status

// ---- the status --------------------------------------------------------------------------------

/** @type {Status | null} */
let latest = null;            // the last status
let statusOk = false, lastAnswer = Date.now();

async function poll() {
  const stop = new AbortController(), timer = setTimeout(() => stop.abort(), 2 * POLL);
  const wasOk = statusOk, asked = Date.now();
  try {
    const response = await fetch(AT.status, { cache: 'no-store', signal: stop.signal });
    if (!response.ok) throw new Error(String(response.status));
    latest = /** @type {Status} */ (await response.json()) || {};
    statusOk = true;
    lastAnswer = Date.now();
    if (asked > changedAt) showSettings(latest.settings || {});
  } catch { statusOk = false; }
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

function render() {
  const now = Date.now(), status = latest || {}, health = status.health || {};
  const flowing = !!connection && (canRead ? lastPicture >= began && now - lastPicture < SILENCE : statusOk);
  const state = shownState({ paused, flowing, before: lastPicture > 0, camera: health.state });
  const [word, tone] = WORDS[state] || [state, ''];
  Object.assign($('state').dataset, { state, tone });
  tell($('state'), word);

  stage.classList.toggle('stale', !paused && !flowing && lastPicture > 0);
  $('over').hidden = paused || flowing;
  tell($('over-state'), word);
  const silent = now - lastAnswer > 10000 && !statusOk;
  say($('over-reason'), refusal || (silent ? `No answer since ${new Date(lastAnswer).toLocaleTimeString()}. The picture will return by itself.` : ''));

  const faulty = statusOk && (state === 'degraded' || state === 'stalled' || (!!health.reason && state !== 'streaming' && state !== 'idle'));
  if (faulty) tell($('fault-reason'), health.reason || 'No reason was given.');
  $('fault').hidden = !faulty;

  const problems = status.config?.problems || [];
  list($('problems'), problems);
  say($('problems-title'), problems.length === 1 ? 'A setting is invalid; its default is used instead' : 'Some settings are invalid; their defaults are used instead');
  list($('notes'), status.camera?.notes || []);
  $('main').classList.toggle('noted', faulty || problems.length > 0);

  renderFacts(status, now, flowing, state);

  const name = titled(status.name), title = (faulty ? '⚠ ' : '') + name;
  tell($('name'), name);
  $('name').title = versions(status);
  if (document.title !== title) document.title = title;
}

// The bar below the picture, and the panel that tells more.
/** @param {Status} status @param {number} now @param {boolean} flowing @param {string} state */
function renderFacts(status, now, flowing, state) {
  const { camera, encoder, frame, rates, viewers } = status;
  if (camera?.width && camera.height && !lastPicture) fit(camera.width, camera.height);
  const picture = camera && frame && !frame.placeholder ? frame : camera;   // what the camera delivers may be turned
  tell($('size'), dimensions(picture?.width, picture?.height));
  tell($('camera'), camera?.model || camera?.id || camera?.source || (latest ? 'none' : ''));
  tell($('encoder'), encoder?.kind);
  $('encoder').title = encoder?.reason || '';
  terms($('about'), aboutFacts(latest));
  say($('settings-note'), statusOk || camera ? settingsNote(status) : '');
  tell($('viewers'), statusOk ? viewers?.count : '');
  $('viewers').title = viewers?.max ? `at most ${viewers.max}` : '';

  const captured = number(rates?.captured_fps), here = !canRead ? captured : flowing ? arriving(now) : null;
  tell($('rate'), paused ? '' : rateText(here, state === 'streaming' ? captured : null));
}

// ---- buttons and events ------------------------------------------------------------------------

const fullElement = () => document.fullscreenElement || document.webkitFullscreenElement;
function full() {
  if (fullElement()) return (document.exitFullscreen || document.webkitExitFullscreen).call(document);
  const enter = stage.requestFullscreen || stage.webkitRequestFullscreen;
  /** @param {boolean} on */
  const fill = on => stage.classList.toggle('fill', on);   // phones without full screen: fill the window
  if (!enter || stage.classList.contains('fill')) return fill(!stage.classList.contains('fill'));
  Promise.resolve(enter.call(stage)).catch(() => fill(true));
}
$('full').onclick = full;
stage.ondblclick = full;
$('leave').onclick = full;
addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || /INPUT|SELECT|TEXTAREA/.test(/** @type {Element} */ (event.target).tagName)) return;
  if (event.key === 'f' || event.key === 'F') { event.preventDefault(); full(); }
  if (event.key === 'Escape') stage.classList.remove('fill');
});

let paused = false;
$('pause').onclick = () => {
  paused = !paused;
  $('pause').textContent = paused ? 'Resume' : 'Pause';
  if (paused) disconnect(); else connect();
  render();
};

$('snapshot').onclick = () => { $('snapshot').download = snapshotName(titled(latest?.name), new Date()); };

$('stream-url').value = AT.stream;
$('snapshot-url').value = AT.snapshot;
for (const button of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('[data-copy]'))) {
  button.onclick = async () => {
    const field = /** @type {HTMLInputElement} */ ($(button.dataset.copy || ''));
    field.select();
    try {                     // the clipboard API exists only on https and localhost
      if (navigator.clipboard) await navigator.clipboard.writeText(field.value);
      else if (!document.execCommand('copy')) return;
    } catch { return; }
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  };
}

let hiddenTimer = 0, away = false;
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
addEventListener('pageshow', event => { if (event.persisted) visibility(); });

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
