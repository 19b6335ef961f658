#!/usr/bin/env node
// Runs p2p-comm with the same words, exit code and signals: for prompts that still call the p2p.js of openclaw-p2p.
// No dependencies; `import()` works whether a package.json above this file says "type": "module" or not.

// Written by `p2p-comm skill install`: how p2p-comm was started then.
const INSTALLED = null

async function main() {
  const { spawn } = await import('node:child_process')
  const { existsSync } = await import('node:fs')
  const [program, ...before] = INSTALLED && existsSync(INSTALLED[0]) ? INSTALLED : ['p2p-comm']
  const child = spawn(program, [...before, ...process.argv.slice(2)], { stdio: 'inherit' })
  const signals = ['SIGHUP', 'SIGINT', 'SIGTERM']
  const pass = signal => child.kill(signal)
  for (const signal of signals) process.on(signal, pass)
  child.on('error', error => {
    console.error(`error: p2p-comm cannot be run: ${error.message}`)
    console.error('hint: install it with: uv tool install p2p-comm; then run: p2p-comm skill install')
    process.exit(1)
  })
  child.on('exit', (code, signal) => {
    for (const name of signals) process.off(name, pass)
    if (signal) process.kill(process.pid, signal)
    else process.exit(code)
  })
}

main()
