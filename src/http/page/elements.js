'use strict';
// The page's elements, and how it asks the camera.

/** @type {<Id extends string>(id: Id) => Id extends keyof ById ? ById[Id] : HTMLElement} */
const $ = id => /** @type {any} */ (document.getElementById(id));

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} facts its properties, and attributes where a name has a dash
 * @param {(Node | string)[]} children
 */
function make(tag, facts, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(facts)) {
    if (key.includes('-')) element.setAttribute(key, value); else Object.assign(element, { [key]: value });
  }
  element.append(...children);
  return element;
}

/** @param {Element} element @param {string} words */
function say(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

/** @param {Element} element @param {unknown} value a dash stands for none */
const tell = (element, value) => say(element, value == null || value === '' ? '–' : String(value));

/**
 * Shows a box with a list, if there is something in it.
 * @param {HTMLElement} box @param {string[]} items
 */
function list(box, items) {
  const seen = items.join('\n');
  if (box.dataset.seen === seen) return;
  box.dataset.seen = seen;
  box.hidden = !items.length;
  box.querySelector('ul')?.replaceChildren(...items.map(item => make('li', {}, item)));
}

/**
 * Shows names and values.
 * @param {HTMLElement} box @param {Fact[]} facts
 */
function terms(box, facts) {
  const shown = facts.filter(fact => fact[1]), seen = shown.join('\n');
  if (box.dataset.seen === seen) return;
  box.dataset.seen = seen;
  box.replaceChildren(...shown.flatMap(([name, value]) => [make('dt', {}, name), make('dd', {}, String(value))]));
}

const PATIENCE = 12000;       // ms an answer to a change may take: a stopped camera has to start

/** @param {Response} response */
async function answered(response) {
  return readAnswer({ ok: response.ok, status: response.status, type: response.headers.get('Content-Type'), words: await response.text() });
}

/**
 * Asks or changes something; what went wrong is in the answer's `error`.
 * @param {string} url
 * @param {string} [method]
 * @param {Record<string, Value>} [values]
 * @returns {Promise<Answer<any>>}
 */
async function ask(url, method = 'GET', values) {
  const stop = new AbortController(), timer = setTimeout(() => stop.abort(), PATIENCE);
  try {
    const change = values && { headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(values) };
    return await answered(await fetch(url, { method, ...change, cache: 'no-store', signal: stop.signal }));
  } catch {
    return { error: 'No answer; the value may not have been set' };
  } finally {
    clearTimeout(timer);
  }
}
