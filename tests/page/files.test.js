'use strict';
// What no type tells: the scripts and the HTML fit together.
const { test } = require('node:test');
const assert = require('node:assert/strict');
const { readdirSync } = require('node:fs');
const { folder, source } = require('./load.js');

const html = source('index.html');
const scripts = readdirSync(folder).filter(name => name.endsWith('.js'));

test('each script is in the page, once, and page.js, which starts it, last', () => {
  const named = [...html.matchAll(/<script src="([^"]+)"><\/script>/g)].map(([, name]) => name);
  assert.deepEqual([...named].sort(), [...scripts].sort());
  assert.equal(named[named.length - 1], 'page.js');
});

test('ids that scripts ask for are in the HTML, once', () => {
  const ids = [...html.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id);
  assert.equal(new Set(ids).size, ids.length, 'an id is there twice');
  const asked = scripts.flatMap(name => [...source(name).matchAll(/\$\('([^']+)'\)/g)].map(([, id]) => id));
  assert.ok(asked.length > 40, `only ${asked.length} found`);
  for (const id of asked) assert.ok(ids.includes(id), `nothing has the id ${id}`);
});

test('what a script names is used', () => {
  const all = scripts.map(source).join('');
  const names = [...all.matchAll(/^(?:async )?(?:function|const|let) (\w+)/gm)].map(([, word]) => word);
  assert.ok(names.length > 60, `only ${names.length} found`);
  assert.deepEqual(names.filter(name => all.split(new RegExp(`\\b${name}\\b`)).length < 3), []);
});

test('the style has a colour for each tone', () => {
  const tones = new Set(Object.values(WORDS).map(([, tone]) => tone));
  assert.deepEqual([...tones].sort(), ['', 'bad', 'ok', 'warn']);
  for (const tone of tones) assert.ok(!tone || source('page.css').includes(`[data-tone=${tone}] { color:`), tone);
});
