#!/usr/bin/env node
// A `solc` command line over the pinned wasm compiler, as much of one as slither needs. slither-analyzer is installed in
// an environment of its own; then, in this folder, after `npm ci --ignore-scripts`:
//
//     slither HearthTask.sol --solc ./solc-shim.js
//
// as .ci/run does. slither.config.json leaves two detectors out, because they follow the block's time from one member of
// the struct `Progress` into all others and so mark every comparison of a phase or a counter. timestamp: what does compare
// times is `_notBefore` and a claim's deadline, with windows of minutes to hours (Phases.sol says who can shift what).
// incorrect-equality: what is compared for equality are phases, counters and "nothing to pay", never a balance that a
// stranger could change by sending ether. Single lines that are argued for carry their reason where they stand.
'use strict';
const fs = require('fs');
const path = require('path');
const solc = require('solc');

const options = process.argv.slice(2);
const files = options.filter((option) => option.endsWith('.sol') && !option.includes('='));
const OUTPUT = ['abi', 'devdoc', 'userdoc', 'evm.bytecode', 'evm.deployedBytecode', 'evm.methodIdentifiers'];

// process.exit after a long write to a pipe would cut it off: write it all, then let the process end by itself.
function print(text) {
  const bytes = Buffer.from(text);
  for (let done = 0; done < bytes.length; ) {
    try {
      done += fs.writeSync(1, bytes, done);
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
    }
  }
}

function findImport(name) {
  const file = [path.resolve(name), path.resolve('node_modules', name)].find((place) => fs.existsSync(place));
  return file ? { contents: fs.readFileSync(file, 'utf8') } : { error: `not found: ${name}` };
}

function compile() {
  const sources = Object.fromEntries(files.map((file) => [file, { content: fs.readFileSync(file, 'utf8') }]));
  const settings = {
    evmVersion: 'prague',
    remappings: options.filter((option) => /^@[^=]*=/.test(option)),
    outputSelection: { '*': { '': ['ast'], '*': OUTPUT } },
  };
  const output = JSON.parse(solc.compile(JSON.stringify({ language: 'Solidity', sources, settings }), { import: findImport }));
  for (const error of output.errors || []) {
    process.stderr.write(error.formattedMessage + '\n');
    if (error.severity === 'error') throw new Error('the compiler refused');
  }
  return output;
}

// The form of `solc --combined-json`.
function combined(output) {
  const contracts = {};
  for (const [file, found] of Object.entries(output.contracts)) {
    for (const [name, { abi, devdoc, userdoc, evm }] of Object.entries(found)) {
      contracts[`${file}:${name}`] = {
        abi,
        devdoc,
        userdoc,
        bin: evm.bytecode.object,
        srcmap: evm.bytecode.sourceMap,
        'bin-runtime': evm.deployedBytecode.object,
        'srcmap-runtime': evm.deployedBytecode.sourceMap,
        hashes: evm.methodIdentifiers,
      };
    }
  }
  const sources = Object.fromEntries(Object.entries(output.sources).map(([file, { ast }]) => [file, { AST: ast }]));
  return { contracts, sources, sourceList: Object.keys(output.sources), version: solc.version() };
}

if (options.includes('--version')) print(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}\n`);
else print(JSON.stringify(combined(compile())));
