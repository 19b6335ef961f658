// Two deployed agents (openclaw-p2p 0.1 to 0.3) as a contender of `table.py`, written from the legacy dialect in
// docs/protocol.md on nostr-tools: a message is NIP-04 JSON in a signed event of kind 4, and its sender waits for the
// relay's OK. Nothing is on a disk but what the relay keeps.
//
//     node benches/legacy.mjs FOLDER URL      FOLDER has node_modules with nostr-tools and ws

import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath, pathToFileURL } from 'node:url'

const [folder, url, role] = process.argv.slice(2)
const require = createRequire(pathToFileURL(`${resolve(folder)}/`))
const nip04 = require('nostr-tools/nip04')
const { finalizeEvent, generateSecretKey, getPublicKey } = require('nostr-tools/pure')
const { Relay, useWebSocketImplementation } = require('nostr-tools/relay')
useWebSocketImplementation(require('ws'))

const TEXT_BYTES = 200
const PAUSE_MS = 5
const clock = () => process.hrtime.bigint()
const write = line => process.stdout.write(line + '\n')
const sleep = ms => new Promise(done => setTimeout(done, ms))
const text = begin => begin + 'x'.repeat(TEXT_BYTES - 1)

const secretKey = generateSecretKey()
const publicKey = getPublicKey(secretKey)
const room = crypto.randomUUID()

const relay = await Relay.connect(url)
// Its 4.4 s are short for a burst on a busy machine.
relay.publishTimeout = 60_000

async function receive() {
  await new Promise(oneose =>
    relay.subscribe([{ kinds: [4], '#p': [publicKey], since: Math.floor(Date.now() / 1000) - 10 }], {
      onevent(event) {
        const payload = JSON.parse(nip04.decrypt(secretKey, event.pubkey, event.content))
        if (payload.type === 'room_message' && payload.content.startsWith('!')) write(`${clock()}`)
      },
      oneose,
    })
  )
  write(publicKey)
  for await (const _ of createInterface({ input: process.stdin }));
  process.exit(0)
}

async function main() {
  const receiver = spawn(process.execPath, [fileURLToPath(import.meta.url), folder, url, 'receive'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const lines = createInterface({ input: receiver.stdout })[Symbol.asyncIterator]()
  const line = async () => (await lines.next()).value
  const peer = await line()

  function send(content) {
    const payload = { type: 'room_message', roomId: room, sender: 'alice', content, origin: 'alice' }
    const event = {
      kind: 4,
      created_at: Math.floor(Date.now() / 1000),
      tags: [['p', peer]],
      content: nip04.encrypt(secretKey, peer, JSON.stringify(payload)),
    }
    return relay.publish(finalizeEvent(event, secretKey))
  }

  const commands = {
    async alone(count) {
      const [returned, arrived] = [[], []]
      for (let i = 0; i < count; i++) {
        const begun = clock()
        await send(text('!'))
        returned.push(Number(clock() - begun))
        arrived.push(Number(BigInt(await line()) - begun))
        await sleep(PAUSE_MS)
      }
      return { returned, arrived }
    },
    async burst(count) {
      const begun = clock()
      const sends = []
      for (let i = 1; i <= count; i++) sends.push(send(text(i === count ? '!' : '.')))
      await Promise.all(sends)
      const taken = Number(clock() - begun)
      const arrived = Number(BigInt(await line()) - begun)
      return { taken_per_s: (count / taken) * 1e9, arrived_per_s: (count / arrived) * 1e9 }
    },
  }

  write(JSON.stringify({ ready: true }))
  for await (const command of createInterface({ input: process.stdin })) {
    const [verb, ...numbers] = command.split(' ')
    write(JSON.stringify(await commands[verb](...numbers.map(Number))))
  }
  receiver.stdin.end()
  process.exit(0)
}

await (role === 'receive' ? receive() : main())
