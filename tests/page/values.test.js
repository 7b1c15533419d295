'use strict';
// What the page shows and sends, as src/http/page/values.js computes it.
const { test } = require('node:test');
const assert = require('node:assert/strict');
require('./load.js');

// ---- addresses and the stream ------------------------------------------------------------------

test('addresses are beside the page', () => {
  for (const page of ['http://pinhole.local/', 'http://pinhole.local/index.html', 'http://pinhole.local/?theme=dark#settings']) {
    assert.deepEqual(addresses(page), {
      stream: 'http://pinhole.local/stream',
      snapshot: 'http://pinhole.local/snapshot.jpg',
      status: 'http://pinhole.local/api/v1/status',
      settings: 'http://pinhole.local/api/v1/settings',
      controls: 'http://pinhole.local/api/v1/controls',
      diagnostics: 'http://pinhole.local/api/v1/diagnostics',
    });
  }
  assert.equal(addresses('https://home.example:8443/camera/').stream, 'https://home.example:8443/camera/stream');
  assert.equal(addresses('http://[fe80::1]:8080/webcam/').status, 'http://[fe80::1]:8080/webcam/api/v1/status');
});

test('each failure makes the next attempt later, up to five seconds', () => {
  const waits = [0, 1, 2, 3, 4, 5, 1000].map(failures => backOff(failures, undefined, 0.5));
  assert.deepEqual(waits, [300, 1000, 2000, 4000, 5000, 5000, 5000]);
});

test('attempts are spread by a fifth to either side', () => {
  assert.equal(backOff(1, undefined, 0), 800);
  assert.equal(Math.round(backOff(1, undefined, 1)), 1200);
});

test('the server’s own wish is obeyed, whatever failed before', () => {
  assert.equal(backOff(0, 7, 0.5), 7000);
  assert.equal(backOff(9, 7, 0.5), 7000);
});

test('a refusal’s Retry-After is taken within reason', () => {
  const cases = [['2', 2], ['30', 30], ['3600', 30], [null, 5], ['', 5], ['0', 5], ['-4', 5], ['Wed, 21 Oct 2026 07:28:00 GMT', 5]];
  for (const [header, seconds] of cases) assert.equal(refusedFor(header), seconds, String(header));
});

const part = (bytes, ...more) => Buffer.concat([
  Buffer.from(`--B\r\n${['Content-Type: image/jpeg', `Content-Length: ${bytes.length}`, ...more].join('\r\n')}\r\n\r\n`, 'latin1'),
  Buffer.from(bytes), Buffer.from('\r\n'),
]);

function parts(pieces) {
  const shown = [], take = partReader(jpeg => shown.push([...jpeg]));
  for (const piece of pieces) take(piece);
  return shown;
}

test('parts are read however the body is cut', () => {
  // Pictures may hold what looks like a part's head.
  const pictures = [[255, 216, 1], [7], [...Buffer.from('\r\n\r\n--B\r\nContent-Length: 9\r\n\r\n')], Array.from({ length: 3000 }, (_, i) => i % 256)];
  const body = Buffer.concat(pictures.map(picture => part(picture, 'X-Sequence: 7')));
  for (const length of [1, 2, 3, 7, 64, 1023, 1024, 1025, body.length]) {
    const pieces = [];
    for (let at = 0; at < body.length; at += length) pieces.push(body.subarray(at, at + length));
    assert.deepEqual(parts(pieces), pictures, `cut after each ${length}`);
  }
});

test('a picture is shown as soon as its last byte is there', () => {
  const body = part([1, 2, 3]);
  assert.deepEqual(parts([body.subarray(0, body.length - 3)]), []);
  assert.deepEqual(parts([body.subarray(0, body.length - 2)]), [[1, 2, 3]]);
});

test('the length is found whatever its case and spaces', () => {
  for (const line of ['content-length:2', 'CONTENT-LENGTH: \t2', 'Content-Length: 2']) {
    assert.deepEqual(parts([Buffer.from(`--B\r\nX-A: 1\r\n${line}\r\n\r\nab`)]), [[97, 98]], line);
  }
});

test('a part without a usable length ends the stream', () => {
  for (const line of ['X-A: 1', 'Content-Length: 0', 'Content-Length: 50000000', 'Content-Length: big', 'X-Content-Length: 2']) {
    assert.throws(() => parts([Buffer.from(`--B\r\n${line}\r\n\r\n`)]), /usable Content-Length/, line);
  }
});

test('a head without an end is not collected for ever', () => {
  assert.throws(() => parts(Array(9).fill(Buffer.alloc(1024, 'x'))), /too long/);
  assert.deepEqual(parts(Array(8).fill(Buffer.alloc(1024, 'x'))), []);
});

test('the state shown', () => {
  const cases = [
    [{ paused: true, flowing: true, before: true, camera: 'degraded' }, 'paused'],
    [{ paused: false, flowing: false, before: false, camera: 'streaming' }, 'connecting'],
    [{ paused: false, flowing: false, before: true, camera: 'streaming' }, 'reconnecting'],
    [{ paused: false, flowing: true, before: true, camera: undefined }, 'streaming'],
    // This page is a viewer: the status is only older than its pictures.
    [{ paused: false, flowing: true, before: true, camera: 'idle' }, 'streaming'],
    [{ paused: false, flowing: true, before: true, camera: 'stalled' }, 'stalled'],
    [{ paused: false, flowing: true, before: true, camera: 'starting' }, 'starting'],
  ];
  for (const [now, state] of cases) {
    assert.equal(shownState(now), state);
    assert.ok(WORDS[state], `no word for ${state}`);
  }
});

// ---- numbers and names -------------------------------------------------------------------------

test('rates have about two digits', () => {
  const cases = [[0, 0], [0.05, 0.05], [0.944, 0.94], [0.96, 1], [5.04, 5], [7.26, 7.3], [9.94, 9.9], [9.96, 10], [14.6, 15], [29.97, 30], [120, 120]];
  for (const [rate, shown] of cases) assert.equal(pretty(rate), shown, String(rate));
});

test('only finite numbers are numbers', () => {
  assert.deepEqual([0, -1.5, '3', null, undefined, NaN, Infinity, [1]].map(number), [0, -1.5, null, null, null, null, null, null]);
});

test('durations are told in their largest unit, from two of it', () => {
  const cases = [[0, '0 s'], [1.4, '1 s'], [119, '119 s'], [120, '2 min'], [7199, '120 min'], [7200, '2 h'], [86400, '24 h'], [172799, '48 h'], [172800, '2 days'], [864000, '10 days']];
  for (const [seconds, text] of cases) assert.equal(duration(seconds), text, String(seconds));
});

test('what is not known is not told', () => {
  assert.deepEqual([ago(90), ago(0), ago(null), ago(undefined)], [', 90 s ago', ', 0 s ago', '', '']);
  assert.deepEqual([megabytes(5347737), megabytes(536870912), megabytes(null)], ['5.1 MB', '512 MB', '–']);
  assert.deepEqual([dimensions(640, 480), dimensions(0, 480), dimensions(undefined, undefined)], ['640 × 480', '', '']);
});

test('the camera’s rate stands beside one that is clearly lower', () => {
  assert.equal(rateText(null, 30), '');
  assert.equal(rateText(29.6, 30), '30 fps');
  assert.equal(rateText(24, 30), '24 fps');
  assert.equal(rateText(14.2, 30), '14 of 30 fps');
  assert.equal(rateText(0, 30), '0 of 30 fps');
  assert.equal(rateText(14.2, null), '14 fps');
});

test('names and versions', () => {
  assert.deepEqual(['pinhole', 'Pinhole', '', undefined, 'garage'].map(titled), ['Pinhole', 'Pinhole', 'Pinhole', 'Pinhole', 'garage']);
  assert.equal(versions({}), '');
  assert.equal(versions({ version: '0.1.0', libcamera: null }), 'pinholed 0.1.0');
  assert.equal(versions({ version: '0.1.0', libcamera: '0.7.1' }), 'pinholed 0.1.0, libcamera 0.7.1');
});

test('a snapshot’s file has the visitor’s own time', () => {
  assert.equal(snapshotName('Garage', new Date(2026, 0, 5, 7, 8, 9)), 'garage-2026-01-05-07-08-09.jpg');
  const inCairo = { getTime: () => Date.UTC(2026, 0, 5, 23, 8, 9), getTimezoneOffset: () => -120 };
  assert.equal(snapshotName('a', inCairo), 'a-2026-01-06-01-08-09.jpg');
});

test('long names break before capitals', () => {
  assert.deepEqual(nameParts('AnalogueGainMode'), ['Analogue', 'Gain', 'Mode']);
  assert.deepEqual(nameParts('HDR'), ['HDR']);
  assert.equal(nameParts('White Balance, Automatic').join(''), 'White Balance, Automatic');
});

test('a line’s time is the visitor’s, less its age', () => {
  assert.equal(logTime(40, 100, Date.UTC(2026, 0, 1, 0, 1)).toISOString(), '2026-01-01T00:00:00.000Z');
});

// ---- what the daemon tells of itself -----------------------------------------------------------

const told = facts => Object.fromEntries(facts.filter(([, value]) => value));

test('camera and encoder in words', () => {
  const status = {
    version: '0.1.0', libcamera: '0.7.1',
    camera: { source: 'libcamera', id: 'cam0', model: 'imx219', pixel_format: 'YUV420', width: 1280, height: 720, frame_rate: 29.97, running: true, turned_by: null },
    encoder: { kind: 'v4l2-m2m', reason: '/dev/video31 reads the camera’s buffers', device: '/dev/video31', memory: 'dma-buf', rate_limit: null },
  };
  assert.deepEqual(told(aboutFacts(status)), {
    Camera: 'imx219, cam0, libcamera', Format: 'YUV420 1280 × 720 at 30 fps',
    Encoder: 'v4l2-m2m', 'Why this encoder': '/dev/video31 reads the camera’s buffers', Device: '/dev/video31, dma-buf',
    Program: 'pinholed 0.1.0, libcamera 0.7.1',
  });
  const camera = { source: 'v4l2', id: '/dev/video0', model: '/dev/video0', width: 640, height: 480, frame_rate: null, running: false, turned_by: 'jpeg' };
  assert.deepEqual(told(aboutFacts({ camera, encoder: { kind: 'software', rate_limit: 4.8 } })), {
    Camera: '/dev/video0, v4l2', State: 'stopped while nobody watches', Format: '640 × 480',
    'Turned by': 'the program, losslessly in the JPEG', Encoder: 'software', 'Rate limit': 'at most 4.8 fps',
  });
  // What this page does not know yet is told in the daemon's own word.
  const turned = by => told(aboutFacts({ camera: { ...camera, turned_by: by } }))['Turned by'];
  assert.deepEqual(['camera', 'encoder', 'isp'].map(turned), ['the camera', 'the encoder', 'isp']);
});

test('no camera is not the same as no answer yet', () => {
  assert.deepEqual(told(aboutFacts(null)), {});
  assert.deepEqual(told(aboutFacts({ camera: null })), { Camera: 'none' });
  assert.deepEqual(told(aboutFacts({ camera: null, health: { reason: 'no camera found' } })), { Camera: 'none: no camera found' });
});

test('what to know before settings are changed', () => {
  const camera = { width: 1280, height: 720, frame_rate: 30 }, settings = { resolution: '1280x720', frame_rate: 30 };
  const note = (status, change) => settingsNote({ camera, settings: { ...settings, ...change }, ...status });
  assert.equal(note(), '');
  assert.equal(note({}, { frame_rate: 31 }), '');
  assert.equal(note({}, { frame_rate: 60 }), 'This camera delivers 1280 × 720 at 30 fps.');
  assert.equal(note({}, { resolution: '1920x1080' }), 'This camera delivers 1280 × 720 at 30 fps.');
  assert.equal(note({ camera: { ...camera, frame_rate: null } }, { frame_rate: 60 }), '');
  assert.match(note({ encoder: { kind: 'passthrough' } }, { frame_rate: 60 }), /^This camera delivers .* fps\. This camera encodes .* has no effect\.$/);
  assert.equal(note({ camera: null, health: { reason: 'unplugged' } }), 'There is no camera: unplugged. Changes take effect when one appears.');
  assert.equal(settingsNote({}), 'There is no camera. Changes take effect when one appears.');
});

test('power and heat', () => {
  const blind = ' (low voltage is not measured on this board)';
  assert.equal(heat(null), '');
  assert.equal(heat({ now: [], recent: [], sees_under_voltage: true }), 'no problem');
  assert.equal(heat({}), 'no problem');
  assert.equal(heat({ now: ['under-voltage', 'throttled'], recent: ['under-voltage', 'frequency capped'], sees_under_voltage: true }), 'now under-voltage, throttled; before frequency capped');
  assert.equal(heat({ now: [], recent: ['temperature limit'], sees_under_voltage: false }), `before temperature limit${blind}`);
  assert.equal(heat({ now: ['under-voltage'], recent: [], sees_under_voltage: false }), 'now under-voltage');
});

test('the processor’s clock and the sensors', () => {
  assert.deepEqual([pace(null), pace({}), pace({ mhz: 700 })], ['', '', '700 MHz']);
  assert.equal(pace({ mhz: 700, max_mhz: 1000, governor: 'powersave' }), '700 of 1000 MHz (powersave)');
  assert.equal(sensorText({ name: 'imx219', supported: true, driver: true }), 'imx219');
  assert.equal(sensorText({ name: 'imx500', supported: false, driver: false }), 'imx500 (not supported)');
  assert.equal(sensorText({ name: 'imx219', supported: true, driver: false }), 'imx219 (does not answer: check its cable)');
});

test('diagnostics in words', () => {
  const facts = told(diagnosticFacts({
    program: { resident_bytes: 5347737, uptime_s: 130 },
    machine: {
      model: 'Raspberry Pi Zero W Rev 1.1', unique_name: 'pinhole-1a2b', kernel: '6.12.1', uptime_s: 7300, load: [0.1, 0.25, 0],
      memory: { total_bytes: 536870912, free_bytes: 268435456 }, clock: { mhz: 700 }, temperature_c: 48.312,
      throttling: { now: [], recent: [], sees_under_voltage: false }, sensors: [{ name: 'imx500' }, { name: 'ov5647', supported: true, driver: true }],
    },
    restarts: {
      boots: 12, why_booted: 'power on', last: { of: 'program', why: 'a call to the camera did not return', ago_s: 125 },
      failures: [{ cause: 'watchdog', count: 2, ago_s: 125 }, { cause: 'server', count: 1, ago_s: null }],
    },
  }));
  assert.deepEqual(facts, {
    Board: 'Raspberry Pi Zero W Rev 1.1', 'Unique name': 'pinhole-1a2b.local', Temperature: '48.3 °C',
    Heat: 'no problem (low voltage is not measured on this board)', 'Clock speed': '700 MHz',
    'Sensor on the camera cable': 'imx500 (not supported), ov5647', Memory: '256 MB of 512 MB free; the program has 5.1 MB',
    Load: '0.1, 0.25, 0 (over 1, 5 and 15 minutes)', Uptime: 'machine 2 h, program 2 min',
    'Last restart': 'the program, 2 min ago: a call to the camera did not return',
    'Consecutive failures': 'watchdog: 2, 2 min ago; server: 1', Boots: '12; the last: power on', Kernel: '6.12.1',
  });
});

test('diagnostics of a machine that tells nothing', () => {
  assert.deepEqual(told(diagnosticFacts({})), {});
  assert.deepEqual(told(diagnosticFacts({ machine: { throttling: {} } })), { 'Power and heat': 'no problem' });
  assert.deepEqual(told(diagnosticFacts({ program: { uptime_s: 5 }, machine: null, restarts: null })), { Uptime: 'program 5 s' });
  // Cold is a temperature, and a first start a count.
  const cold = told(diagnosticFacts({ machine: { temperature_c: 0 }, restarts: { boots: 0, why_booted: 'power on', last: { of: 'machine', why: 'power on' } } }));
  // Why it booted is said once.
  assert.deepEqual(cold, { Temperature: '0.0 °C', Boots: '0', 'Last restart': 'the machine: power on' });
});

// ---- changes -----------------------------------------------------------------------------------

test('answers, and what went wrong', () => {
  const read = (status, type, words) => readAnswer({ ok: status < 300, status, type, words });
  assert.deepEqual(read(200, 'application/json', '{"quality": 80}'), { quality: 80 });
  assert.deepEqual(read(422, 'application/json', '{"error": "quality must be 1 to 100", "control": "q"}'), { error: 'Quality must be 1 to 100', control: 'q' });
  assert.deepEqual(read(421, 'text/plain; charset=utf-8', ' open the camera’s own page \n'), { error: 'Open the camera’s own page' });
  // A proxy's own page is not for reading.
  assert.deepEqual(read(502, 'text/html', '<h1>Bad gateway</h1>'), { error: 'The camera answered 502.' });
  for (const words of ['', 'null', '5', '"text"']) assert.deepEqual(read(503, null, words), { error: 'The camera answered 503.' }, words);
  assert.equal(read(500, 'text/plain', 'x'.repeat(5000)).error.length, 1000);
  assert.deepEqual(read(200, 'application/json', ''), {});
});

// A collection whose moments end when the test says so.
function collection(send) {
  const moments = [];
  return { moments, changes: collect(send, flush => moments.push(flush)) };
}

test('changes of one moment are sent together, the last of each name', async () => {
  const sent = [], { moments, changes } = collection(async batch => { sent.push([...batch]); });
  changes.put('quality', 10);
  changes.put('frame_rate', 5);
  changes.put('quality', 20);
  assert.equal(moments.length, 1);
  assert.ok(changes.has('quality') && !changes.has('orientation'));
  await moments[0]();
  assert.deepEqual(sent, [[['quality', 20], ['frame_rate', 5]]]);
  assert.ok(!changes.has('quality'));
  changes.put('quality', 30);
  await moments[1]();
  assert.deepEqual(sent[1], [['quality', 30]]);
});

test('one request at a time; what comes meanwhile follows', async () => {
  const sent = [], answers = [];
  const { moments, changes } = collection(batch => new Promise(answer => { sent.push([...batch]); answers.push(answer); }));
  changes.put('a', 1);
  const all = moments[0]();
  changes.put('a', 2);
  changes.put('b', 3);
  await moments[1]();
  assert.deepEqual(sent, [[['a', 1]]], 'sent before the first was answered');
  answers[0]();
  await new Promise(setImmediate);
  assert.deepEqual(sent[1], [['a', 2], ['b', 3]]);
  answers[1]();
  await all;
  assert.equal(sent.length, 2);
});

test('a moment is COLLECT long', async () => {
  const began = performance.now();
  await new Promise(sent => collect(async () => sent()).put('a', 1));
  assert.ok(performance.now() - began >= COLLECT - 5);
});

async function settled(values, answer) {
  const sent = [], refused = [], batch = new Map(Object.entries(values));
  const last = await sendControls(batch, async values => { sent.push(values); return answer(values); }, (name, words) => refused.push([name, words]));
  return { sent, refused, left: Object.fromEntries(batch), last };
}

test('controls are sent together', async () => {
  const { sent, refused, left, last } = await settled({ a: 1, b: null }, () => ({ controls: [] }));
  assert.deepEqual({ sent, refused, left, last }, { sent: [{ a: 1, b: null }], refused: [], left: { a: 1, b: null }, last: { controls: [] } });
});

test('a refused control costs only itself', async () => {
  const { sent, refused, left, last } = await settled({ a: 1, b: 9, c: 3, d: 9 }, values => {
    const wrong = Object.keys(values).find(name => values[name] === 9);
    return wrong ? { error: `${wrong} is wrong`, control: wrong } : { controls: [] };
  });
  assert.deepEqual(sent, [{ a: 1, b: 9, c: 3, d: 9 }, { a: 1, c: 3, d: 9 }, { a: 1, c: 3 }]);
  assert.deepEqual(refused, [['b', 'b is wrong'], ['d', 'd is wrong']]);
  assert.deepEqual([left, last.error], [{ a: 1, c: 3 }, undefined]);
});

test('a refusal that names none of them is of all, and ends it', async () => {
  for (const control of [undefined, 'other']) {
    const { sent, refused, left, last } = await settled({ a: 1, b: 2 }, () => ({ error: 'no camera', control }));
    assert.equal(sent.length, 1);
    assert.deepEqual([refused, left, last.error], [[['a', 'no camera'], ['b', 'no camera']], {}, 'no camera']);
  }
});

test('the lines to keep are one camera section', () => {
  const settings = 'camera:\n  resolution: 640x480\n  orientation: normal\nencoder:\n  quality: 80\n';
  const controls = new Map([['Brightness', 0.4], ['Focus, Absolute', 30], ['Gains', [1.5, 2]]]);
  const block = '  controls:\n    "Brightness": 0.4\n    "Focus, Absolute": 30\n    "Gains": [1.5,2]\n';
  assert.equal(linesToKeep('', new Map()), '');
  assert.equal(linesToKeep(settings, new Map()), settings.trim());
  assert.equal(linesToKeep('', controls), `camera:\n${block}`.trim());
  assert.equal(linesToKeep(settings, controls), settings.replace('encoder:', `${block}encoder:`).trim());
  // A value is no pattern for a replacement.
  assert.match(linesToKeep(settings, new Map([['Text', '$& $1']])), /"Text": "\$& \$1"\nencoder:/);
});

test('a number’s editor has a slider where it can reach each step', () => {
  const cases = [
    [{ type: 'integer', min: 1, max: 100 }, { facts: { min: 1, max: 100, step: 1 }, slides: true }],
    [{ type: 'integer', min: 0, max: 255, step: 5 }, { facts: { min: 0, max: 255, step: 5 }, slides: true }],
    [{ type: 'integer', min: 0, max: 10000 }, { facts: { min: 0, max: 10000, step: 1 }, slides: true }],
    [{ type: 'integer', min: 0, max: 10001 }, { facts: { min: 0, max: 10001, step: 1 }, slides: false }],
    [{ type: 'integer', min: 1, max: 66666 }, { facts: { min: 1, max: 66666, step: 1 }, slides: false }],
    [{ type: 'float', min: -1, max: 1 }, { facts: { min: -1, max: 1, step: 0.01 }, slides: true }],
    [{ type: 'float', min: 1, max: 16 }, { facts: { min: 1, max: 16, step: 0.1 }, slides: true }],
    [{ type: 'integer' }, { facts: { step: 1 }, slides: false }],
    [{ type: 'float', min: 0 }, { facts: { step: 'any' }, slides: false }],
    [{ type: 'integer', min: 3, max: 3 }, { facts: { step: 1 }, slides: false }],
    [{ type: 'float', min: null, max: 'big' }, { facts: { step: 'any' }, slides: false }],
  ];
  for (const [control, range] of cases) assert.deepEqual(numberRange(control), range, JSON.stringify(control));
});

test('zoom crops around the middle, within the smallest and the whole', () => {
  const max = [0, 0, 640, 480], min = [0, 0, 64, 64];
  assert.equal(mostZoom(min, max), 7.5);
  assert.equal(mostZoom(undefined, max), 10);
  assert.equal(mostZoom([0, 0, 900, 900], max), 1);
  assert.deepEqual([mostZoom(undefined, [0, 0, 5, 5]), mostZoom([0, 0, 0, 0], [0, 0, 5, 5])], [5, 5]);
  assert.deepEqual(cropAt(1, min, max), [0, 0, 640, 480]);
  assert.deepEqual(cropAt(2, min, max), [160, 120, 320, 240]);
  assert.deepEqual(cropAt(7.5, min, max), [277, 208, 86, 64]);
  assert.deepEqual(cropAt(100, min, max), [288, 208, 64, 64]);
  assert.deepEqual(cropAt(100, undefined, max), [317, 238, 6, 4]);
  // The whole need not begin at 0.
  assert.deepEqual(cropAt(2, min, [8, 4, 640, 480]), [168, 124, 320, 240]);
});

test('settings become lines by what the daemon says of them', () => {
  const table = [
    { name: 'resolution', label: 'Resolution', type: 'size' },
    { name: 'frame_rate', label: 'Frame rate', type: 'float', min: 0.05, max: 120 },
    { name: 'quality', label: 'Quality', type: 'integer', min: 1, max: 100 },
    { name: 'orientation', label: 'Orientation', type: 'enum', options: [{ value: 'normal', name: 'Normal' }] },
  ];
  const [resolution, frameRate, quality, orientation] = settingFields(JSON.stringify(table));
  assert.equal(resolution.type, 'enum');
  assert.ok(resolution.other && resolution.options.some(({ value, name }) => value === '640x480' && name === '640 × 480'));
  assert.deepEqual([frameRate.min, frameRate.max], [undefined, undefined]);
  assert.deepEqual([quality.min, quality.max], [1, 100]);
  assert.deepEqual(orientation.options, table[3].options);
  assert.deepEqual(settingFields(undefined), []);
});
