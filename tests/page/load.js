'use strict';
// Loads what the page computes as a browser does: a script whose names all other scripts see.
const { readFileSync } = require('node:fs');
const { join } = require('node:path');
const vm = require('node:vm');

const folder = join(__dirname, '../../src/http/page');
const source = name => readFileSync(join(folder, name), 'utf8');

vm.runInThisContext(source('values.js'), { filename: join(folder, 'values.js') });

module.exports = { folder, source };
