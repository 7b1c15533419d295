'use strict';
// The stream: connected, read, drawn, connected again. Without fetch()'s streams an <img> shows it.

const AT = addresses(location.href);
const stage = $('stage'), canvas = $('live'), plain = $('plain');
const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d', { alpha: false }));

// WebKit gives no multipart body to fetch(): ?raw asks for the same bytes as application/octet-stream. Where reading fails
// all the same, the browser's own multipart <img> takes over.
let canRead = 'ReadableStream' in window && 'createImageBitmap' in window, unreadable = 0;

/** @type {AbortController | null} */
let connection = null;        // the running stream
let began = 0;                // when it began
/** @type {number[]} */
let shown = [];               // times of the pictures of the last seconds
let lastPicture = 0;
let retries = 0, retryTimer = 0;
let refusal = '';             // why the server refused the stream

function disconnect() {
  clearTimeout(retryTimer);
  connection?.abort();
  connection = null;
  waiting = null;
  if (plain.hidden) return;
  if (plain.naturalWidth) {   // keep the last picture
    resize(plain.naturalWidth, plain.naturalHeight);
    pen.drawImage(plain, 0, 0);
  }
  plain.removeAttribute('src');
  plain.hidden = true;
  canvas.hidden = false;
}

function connect() {
  disconnect();
  if (paused || away) return;
  began = Date.now();
  const me = new AbortController();
  connection = me;
  if (canRead) {
    read(me).catch(() => {}).then(() => {
      me.abort();
      ended(me);
    });
  } else {
    plain.hidden = false;
    canvas.hidden = true;
    plain.onload = () => { lastPicture = Date.now(); retries = 0; fit(plain.naturalWidth, plain.naturalHeight); };
    plain.onerror = () => ended(me);
    plain.src = `${AT.stream}?${began}`;
  }
  render();
}

/** @param {AbortController} me @param {number} [seconds] what the server asked to wait */
function ended(me, seconds) {
  if (connection !== me) return;
  connection = null;
  clearTimeout(retryTimer);
  retryTimer = setTimeout(connect, backOff(retries, seconds, Math.random()));
  if (!seconds) retries++;
  render();
}

/** @param {AbortController} me */
async function read(me) {
  const response = await fetch(`${AT.stream}?raw=1`, { cache: 'no-store', signal: me.signal });
  refusal = '';
  if (!response.ok || !response.body) {
    refusal = response.status === 503 ? 'The camera is already serving as many viewers as it can.' : (await answered(response)).error || '';
    return ended(me, refusedFor(response.headers.get('Retry-After')));
  }
  const reader = response.body.getReader(), take = partReader(show);
  for (;;) {
    const { done, value } = await reader.read().catch(error => {
      if (!lastPicture && connection === me && ++unreadable > 1) canRead = false;
      throw error;
    });
    if (done || connection !== me) return;
    take(value);
  }
}

/** @type {Uint8Array<ArrayBuffer> | null} */
let waiting = null;
let busy = false;
/**
 * Decodes one picture at a time; while that is busy only the newest is kept.
 * @param {Uint8Array<ArrayBuffer>} jpeg
 */
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
    } catch { /* a damaged picture: the next one comes soon */ }
  }
  busy = false;
}

/** @param {ImageBitmap} picture */
function draw(picture) {
  resize(picture.width, picture.height);
  pen.drawImage(picture, 0, 0);
  const first = lastPicture < began;
  lastPicture = Date.now();
  shown.push(lastPicture);
  retries = 0;
  if (first) { render(); poll(); }
}

/**
 * Pictures a second that arrived lately; null while that is too short a time to tell.
 * @param {number} now
 */
function arriving(now) {
  shown = shown.filter(time => now - time < 3000);
  const span = Math.min(3000, now - began) / 1000;
  return span > 1 ? shown.length / span : null;
}

/** @param {number} width @param {number} height */
function resize(width, height) {
  fit(width, height);
  if (canvas.width === width && canvas.height === height) return;
  canvas.width = width;
  canvas.height = height;
}

/** @param {number} width @param {number} height */
function fit(width, height) {
  if (width > 0 && height > 0) stage.style.setProperty('--ratio', (width / height).toFixed(4));
}
