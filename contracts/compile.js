// node compile.js: compile the contracts with the pinned compiler and write artifacts/HearthTask.json, and the contracts
// that tests set beside it (../tests/contracts/*.sol), which are not shipped, beside their sources.
// The same sources give the same bytes on every machine: no path, no date, no metadata hash enters the bytecode.
'use strict';
const fs = require('fs');
const path = require('path');
const { createHash } = require('crypto');
const solc = require('solc');

const CONTRACTS = ['HearthTask']; // what is deployed; the rest is part of it
const TESTS = path.join(__dirname, '..', 'tests', 'contracts');
const SETTINGS = {
  evmVersion: 'prague',
  optimizer: { enabled: true, runs: 200 },
  metadata: { bytecodeHash: 'none', appendCBOR: false },
};
const OUTPUT = ['abi', 'evm.bytecode.object', 'evm.deployedBytecode.object', 'evm.deployedBytecode.immutableReferences'];

const read = (...parts) => fs.readFileSync(path.resolve(__dirname, ...parts), 'utf8');
const solidity = (folder) => fs.readdirSync(folder).filter((file) => file.endsWith('.sol')).sort();
const sha256 = (text) => createHash('sha256').update(text).digest('hex');

function findImport(name) {
  const file = path.join('node_modules', name);
  return fs.existsSync(path.join(__dirname, file)) ? { contents: read(file) } : { error: `not installed: ${name}` };
}

function compile(folder, files) {
  const sources = Object.fromEntries(files.map((file) => [file, { content: read(folder, file) }]));
  const settings = { ...SETTINGS, outputSelection: { '*': { '*': OUTPUT } } };
  const input = JSON.stringify({ language: 'Solidity', sources, settings });
  const output = JSON.parse(solc.compile(input, { import: findImport }));
  for (const error of output.errors || []) console.error(error.formattedMessage);
  if ((output.errors || []).length > 0) throw new Error('the compiler complained; artifacts left as they were');
  return output.contracts;
}

// Where the constructor writes immutable values into the deployed code: [{start, length}], in order.
function immutables(deployed) {
  return Object.values(deployed.immutableReferences).flat().sort((a, b) => a.start - b.start);
}

function build(folder, names, target) {
  const files = solidity(folder);
  const compiled = compile(folder, files);
  const libraries = JSON.parse(read('package.json')).devDependencies;
  fs.mkdirSync(target, { recursive: true });
  for (const name of names) {
    const { abi, evm } = compiled[`${name}.sol`][name];
    const artifact = {
      contract: name,
      compiler: solc.version(),
      libraries: { '@openzeppelin/contracts': libraries['@openzeppelin/contracts'] },
      settings: SETTINGS,
      sources: Object.fromEntries(files.map((file) => [file, sha256(read(folder, file))])),
      abi,
      bytecode: '0x' + evm.bytecode.object,
      deployedBytecode: '0x' + evm.deployedBytecode.object,
      immutables: immutables(evm.deployedBytecode),
    };
    fs.writeFileSync(path.join(target, `${name}.json`), JSON.stringify(artifact, null, 1) + '\n');
    console.log(`${name}: ${evm.deployedBytecode.object.length / 2} bytes deployed`);
  }
}

const [artifacts, tests] = process.argv.slice(2);
build(__dirname, CONTRACTS, artifacts || path.join(__dirname, 'artifacts'));
if (fs.existsSync(TESTS)) build(TESTS, solidity(TESTS).map((file) => path.parse(file).name), tests || TESTS);
