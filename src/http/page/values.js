'use strict';
// What the page computes without a document or a network; tests/page runs it in Node.

const COLLECT = 150;          // ms in which changes are collected before they are sent
const BACKOFF = [300, 1000, 2000, 4000, 5000];

// Which word and colour a state has.
/** @type {Record<string, [string, string]>} */
const WORDS = {
  starting: ['Starting…', 'warn'], streaming: ['Streaming', 'ok'], idle: ['Idle', ''],
  degraded: ['Camera problem', 'bad'], stalled: ['Camera stalled', 'bad'],
  connecting: ['Connecting…', 'warn'], reconnecting: ['Reconnecting…', 'warn'], paused: ['Paused', ''],
};

// ---- addresses and the stream ------------------------------------------------------------------

/**
 * What the page asks for, beside itself: it may be at / or behind a proxy's /camera/.
 * @param {string} page
 */
function addresses(page) {
  /** @param {string} path */
  const at = path => new URL(path, page).href;
  return {
    stream: at('stream'), snapshot: at('snapshot.jpg'), status: at('api/v1/status'), settings: at('api/v1/settings'),
    controls: at('api/v1/controls'), diagnostics: at('api/v1/diagnostics'),
  };
}

/**
 * Milliseconds until the next attempt to connect: as the server asked, else longer with each failure. Spread, so that
 * pages that lost the same server do not all come back at once.
 * @param {number} failures
 * @param {number | undefined} seconds what the server asked for
 * @param {number} random from 0 to 1
 */
function backOff(failures, seconds, random) {
  const wait = seconds ? seconds * 1000 : BACKOFF[Math.min(failures, BACKOFF.length - 1)];
  return wait * (0.8 + 0.4 * random);
}

/**
 * Seconds that a refusal asks to wait.
 * @param {string | null} retryAfter the header
 */
const refusedFor = retryAfter => Math.min(30, Math.max(0, Number(retryAfter)) || 5);

/**
 * Takes a multipart body apart, however it is cut. Every part has a Content-Length.
 * @param {(jpeg: Uint8Array<ArrayBuffer>) => void} show
 * @returns {(piece: Uint8Array) => void} takes the next bytes; throws where they are no parts
 */
function partReader(show) {
  let head = '', have = 0;
  /** @type {Uint8Array<ArrayBuffer> | null} */
  let jpeg = null;
  return rest => {
    while (rest.length) {
      if (jpeg) {
        const taken = Math.min(jpeg.length - have, rest.length);
        jpeg.set(rest.subarray(0, taken), have);
        have += taken;
        rest = rest.subarray(taken);
        if (have === jpeg.length) { show(jpeg); jpeg = null; }
        continue;
      }
      // Boundary and header lines, up to the blank line.
      const piece = rest.subarray(0, 1024), before = head.length;
      head += String.fromCharCode(...piece);
      const end = head.indexOf('\r\n\r\n');
      if (end < 0) {
        if (head.length > 8192) throw new Error('part header too long');
        rest = rest.subarray(piece.length);
        continue;
      }
      const length = Number(/^content-length:[ \t]*(\d+)/im.exec(head.slice(0, end))?.[1]);
      if (!(length > 0 && length < 5e7)) throw new Error('part without a usable Content-Length');
      rest = rest.subarray(end + 4 - before);
      jpeg = new Uint8Array(length);
      have = 0;
      head = '';
    }
  };
}

/**
 * The state the page shows: what the camera says of itself, unless the page has no pictures.
 * @param {{paused: boolean, flowing: boolean, before: boolean, camera: string | undefined}} now
 *   `flowing`: pictures arrive; `before`: some have arrived
 */
function shownState({ paused, flowing, before, camera }) {
  if (paused) return 'paused';
  if (!flowing) return before ? 'reconnecting' : 'connecting';
  return camera && camera !== 'idle' ? camera : 'streaming';
}

// ---- numbers and names -------------------------------------------------------------------------

/** @param {unknown} value */
const number = value => typeof value === 'number' && Number.isFinite(value) ? value : null;

/**
 * A number of about two digits.
 * @param {number} value
 */
const pretty = value => value >= 9.95 ? Math.round(value) : +value.toFixed(value < 0.95 ? 2 : 1);

/** @param {number | undefined} width @param {number | undefined} height */
const dimensions = (width, height) => width && height ? `${width} × ${height}` : '';

/** @param {number} seconds */
function duration(seconds) {
  for (const [unit, size] of /** @type {[string, number][]} */ ([['days', 86400], ['h', 3600], ['min', 60]])) {
    if (seconds >= 2 * size) return `${Math.round(seconds / size)} ${unit}`;
  }
  return `${Math.round(seconds)} s`;
}

/** @param {Maybe<number>} seconds */
const ago = seconds => seconds == null ? '' : `, ${duration(seconds)} ago`;

/** @param {Maybe<number>} bytes */
const megabytes = bytes => bytes == null ? '–' : `${pretty(bytes / 1048576)} MB`;

/**
 * What arrives here; beside it what the camera delivers, where that is clearly more.
 * @param {number | null} here @param {number | null} captured
 */
function rateText(here, captured) {
  if (here == null) return '';
  return captured && here < 0.8 * captured ? `${pretty(here)} of ${pretty(captured)} fps` : `${pretty(here)} fps`;
}

/** @param {Status} status */
const versions = status => status.version ? `pinholed ${status.version}${status.libcamera ? `, libcamera ${status.libcamera}` : ''}` : '';

/** @param {Maybe<string>} name the daemon's own name is written as a title */
const titled = name => !name || /^pinhole$/i.test(name) ? 'Pinhole' : name;

/**
 * A file's name for a snapshot, with the visitor's time.
 * @param {string} name @param {Date} now
 */
function snapshotName(name, now) {
  const local = new Date(now.getTime() - now.getTimezoneOffset() * 60000);
  return `${name.toLowerCase()}-${local.toISOString().slice(0, 19).replace(/[T:]/g, '-')}.jpg`;
}

/**
 * Where a long name may break: before capitals.
 * @param {string} label
 */
const nameParts = label => label.split(/(?=[A-Z][a-z])/);

/**
 * When a line was logged, by its age: the daemon's clock may have been wrong then, or still be.
 * @param {number} monotonic the line's, s @param {number} now the daemon's @param {number} heard the visitor's clock then, ms
 */
const logTime = (monotonic, now, heard) => new Date(heard - (now - monotonic) * 1000);

// ---- what the daemon tells of itself -----------------------------------------------------------

/** @type {Record<string, string>} */
const TURNED_BY = { camera: 'the camera', encoder: 'the encoder', jpeg: 'the program, losslessly in the JPEG' };

/**
 * The panel “Camera and encoder”.
 * @param {Status | null} status
 * @returns {Fact[]}
 */
function aboutFacts(status) {
  const s = status || {}, camera = s.camera || {}, encoder = s.encoder || {}, reason = s.health?.reason;
  const names = [...new Set([camera.model, camera.id, camera.source])].filter(Boolean).join(', ');
  const rate = camera.frame_rate && `at ${pretty(camera.frame_rate)} fps`;
  return [
    ['Camera', camera.source ? names : status && `none${reason ? `: ${reason}` : ''}`],
    ['State', camera.running === false && 'stopped while nobody watches'],
    ['Format', camera.width && [camera.pixel_format, dimensions(camera.width, camera.height), rate].filter(Boolean).join(' ')],
    ['Turned by', camera.turned_by && (TURNED_BY[camera.turned_by] || camera.turned_by)],
    ['Encoder', encoder.kind],
    ['Why this encoder', encoder.reason],
    ['Device', encoder.device && encoder.device + (encoder.memory ? `, ${encoder.memory}` : '')],
    ['Rate limit', encoder.rate_limit && `at most ${pretty(encoder.rate_limit)} fps`],
    ['Program', versions(s)],
  ];
}

/**
 * What to know before changing settings.
 * @param {Status} status
 */
function settingsNote({ camera, encoder, settings = {}, health }) {
  const notes = [];
  if (!camera) notes.push(`There is no camera${health?.reason ? `: ${health.reason}` : ''}. Changes take effect when one appears.`);
  if (camera?.width && settings.resolution) {
    const rate = camera.frame_rate, otherRate = rate && settings.frame_rate && Math.abs(settings.frame_rate / rate - 1) > 0.05;
    if (settings.resolution !== `${camera.width}x${camera.height}` || otherRate) {
      notes.push(`This camera delivers ${dimensions(camera.width, camera.height)}${rate ? ` at ${pretty(rate)} fps` : ''}.`);
    }
  }
  if (encoder?.kind === 'passthrough') notes.push('This camera encodes its pictures itself, so the quality set here has no effect.');
  return notes.join(' ');
}

/** @param {Maybe<Throttling>} throttling */
function heat(throttling) {
  if (!throttling) return '';
  const { now = [], recent = [], sees_under_voltage } = throttling;
  const before = recent.filter(word => !now.includes(word));
  const words = [now.length ? `now ${now.join(', ')}` : '', before.length ? `before ${before.join(', ')}` : ''].filter(Boolean);
  const blind = sees_under_voltage === false && !words.some(word => word.includes('under-voltage'));
  return (words.join('; ') || 'no problem') + (blind ? ' (low voltage is not measured on this board)' : '');
}

/** @param {Maybe<Clock>} clock */
function pace(clock) {
  if (clock?.mhz == null) return '';
  const most = clock.max_mhz == null ? '' : ` of ${clock.max_mhz}`;
  return `${clock.mhz}${most} MHz${clock.governor ? ` (${clock.governor})` : ''}`;
}

/** @param {Sensor} sensor */
const sensorText = sensor => sensor.name + (!sensor.supported ? ' (not supported)' : sensor.driver ? '' : ' (does not answer: check its cable)');

/**
 * The panel “Diagnostics”, above its log.
 * @param {Diagnostics} diagnostics
 * @returns {Fact[]}
 */
function diagnosticFacts({ machine, program, restarts }) {
  const m = machine || {}, { last, boots, why_booted, failures = [] } = restarts || {}, memory = m.memory || {};
  const uptimes = [m.uptime_s && `machine ${duration(m.uptime_s)}`, program?.uptime_s && `program ${duration(program.uptime_s)}`];
  return [
    ['Board', m.model],
    ['Unique name', m.unique_name && `${m.unique_name}.local`],
    ['Temperature', m.temperature_c != null && `${m.temperature_c.toFixed(1)} °C`],
    [m.throttling?.sees_under_voltage === false ? 'Heat' : 'Power and heat', heat(m.throttling)],
    ['Clock speed', pace(m.clock)],
    ['Sensor on the camera cable', (m.sensors || []).map(sensorText).join(', ')],
    ['Memory', memory.total_bytes && `${megabytes(memory.free_bytes)} of ${megabytes(memory.total_bytes)} free; the program has ${megabytes(program?.resident_bytes)}`],
    ['Load', m.load && `${m.load.join(', ')} (over 1, 5 and 15 minutes)`],
    ['Uptime', uptimes.filter(Boolean).join(', ')],
    ['Last restart', last && `the ${last.of}${ago(last.ago_s)}: ${last.why}`],
    ['Consecutive failures', failures.map(failure => `${failure.cause}: ${failure.count}${ago(failure.ago_s)}`).join('; ')],
    ['Boots', boots != null && boots + (last?.of === 'program' && why_booted ? `; the last: ${why_booted}` : '')],
    ['Kernel', m.kernel],
  ];
}

// ---- changes -----------------------------------------------------------------------------------

/**
 * What an answer says. What went wrong is in `error`; the words of a refusal may also be text, and not even be ours.
 * @param {{ok: boolean, status: number, type: string | null, words: string}} answer
 */
function readAnswer({ ok, status, type, words }) {
  /** @type {Answer<any>} */
  let answer = {};
  try {
    const parsed = JSON.parse(words);
    if (parsed && typeof parsed === 'object') answer = parsed;
  } catch { /* no JSON */ }
  if (!ok && !answer.error) {
    const text = type?.startsWith('text/plain') ? words.trim().slice(0, 1000) : '';
    answer.error = text || `The camera answered ${status}.`;
  }
  if (answer.error) answer.error = sentence(answer.error);
  return answer;
}

/** @param {unknown} words */
const sentence = words => String(words).charAt(0).toUpperCase() + String(words).slice(1);

/**
 * Collects changes by name for a moment and sends them together, one request at a time.
 * @param {(batch: Map<string, Value>) => Promise<void>} send
 * @param {(flush: () => void) => void} later calls back after a moment
 * @returns {Changes}
 */
function collect(send, later = flush => { setTimeout(flush, COLLECT); }) {
  /** @type {Map<string, Value>} */
  let changes = new Map();
  let due = false, busy = false;
  const flush = async () => {
    due = false;
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
      if (due) return;
      due = true;
      later(flush);
    },
  };
}

/**
 * Sends controls together. One that is refused keeps all others from being set: those are sent once more without it.
 * @param {Map<string, Value>} batch what was refused is taken out
 * @param {(values: Record<string, Value>) => Promise<Answer<Controls>>} patch
 * @param {(name: string, words: string) => void} refused
 * @returns {Promise<Answer<Controls>>} the last answer
 */
async function sendControls(batch, patch, refused) {
  /** @type {Answer<Controls>} */
  let answer = {};
  while (batch.size) {
    answer = await patch(Object.fromEntries(batch));
    if (!answer.error) break;
    for (const name of batch.has(answer.control || '') ? [answer.control || ''] : [...batch.keys()]) {
      refused(name, answer.error);
      batch.delete(name);
    }
  }
  return answer;
}

/**
 * The lines for pinhole.yaml: the settings' as the daemon writes them, with the controls among them. A file with two
 * “camera:” would be wrong.
 * @param {string} settings YAML @param {Map<string, Value>} controls set from this page
 */
function linesToKeep(settings, controls) {
  const lines = [...controls].map(([name, value]) => `    ${JSON.stringify(name)}: ${JSON.stringify(value)}\n`).join('');
  const block = lines && `  controls:\n${lines}`;
  return (settings ? settings.replace(/^(?=encoder:)/m, () => block) : block && `camera:\n${block}`).trim();
}

/**
 * The bounds of a number's editor, and whether a slider can reach each step between them.
 * @param {Control} control
 */
function numberRange({ type, min, max, step }) {
  const known = number(min) != null && number(max) != null && min < max;
  const steps = type === 'integer' ? step || 1 : known ? 10 ** Math.floor(Math.log10((max - min) / 100)) : 'any';
  return { facts: known ? { min, max, step: steps } : { step: steps }, slides: known && (max - min) / Number(steps) <= 10000 };
}

/**
 * How far one can zoom into a rectangle's whole area.
 * @param {number[] | undefined} min the smallest rectangle @param {number[]} max the whole
 */
const mostZoom = (min, max) => Math.max(1, Math.min(10, ...[2, 3].map(side => max[side] / Math.max(1, min ? min[side] : 1))));

/**
 * The rectangle of a zoom, around the middle; width and height are even.
 * @param {number} zoom @param {number[] | undefined} min @param {number[]} max
 */
function cropAt(zoom, min, max) {
  const size = [2, 3].map(side => Math.min(max[side], Math.max(min ? min[side] : 1, Math.round(max[side] / zoom / 2) * 2)));
  return [0, 1].map(side => max[side] + Math.floor((max[side + 2] - size[side]) / 2)).concat(size);
}

// ---- settings ----------------------------------------------------------------------------------

const sizes = ['320x240', '640x480', '800x600', '1024x768', '1280x720', '1280x960', '1640x1232', '1920x1080', '2592x1944'];

/**
 * What the daemon's table of settings says of those that can be changed here, as lines of the panel.
 * @param {string | undefined} table as JSON; the file by itself has none
 * @returns {Control[]}
 */
function settingFields(table) {
  /** @type {Control[]} */
  const settings = JSON.parse(table || '[]');
  return settings.map(({ min, max, ...setting }) => {
    if (setting.type === 'size') {
      return { ...setting, type: 'enum', other: true, options: sizes.map(size => ({ value: size, name: size.replace('x', ' × ') })) };
    }
    // A slider over all of a range that begins with 0.05 would be too coarse.
    return setting.type === 'float' ? setting : { ...setting, min, max };
  });
}
