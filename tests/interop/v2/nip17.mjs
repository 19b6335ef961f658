// A client of private direct messages (NIP-17) on nostr-tools: no code of p2p-comm, and nothing that it knows of us.
//
//     node nip17.mjs <relay url>…
//
// One JSON object a line. On stdin commands, {"n": 1, "do": "send", "to": <hex>, "text": …, "replyTo": <id>?}; on stdout their replies,
// {"n": 1, "ok": …} or {"n": 1, "error": …}, and between them events, {"event": "message", "from", "kind", "text",
// "tags", "id"}. Files are encrypted with the WebCrypto of Node.js, and brought by the Blossom client of nostr-tools.
// It leaves when stdin ends. The relays are its inbox (kind 10050), and where it looks up that of others.

import { createInterface } from 'node:readline'
import { readFile, writeFile } from 'node:fs/promises'
import * as nip17 from 'nostr-tools/nip17'
import { npubEncode } from 'nostr-tools/nip19'
import { SimplePool, useWebSocketImplementation } from 'nostr-tools/pool'
import * as nip59 from 'nostr-tools/nip59'
import { BlossomClient } from 'nostr-tools/nipb7'
import { finalizeEvent, generateSecretKey, getPublicKey, verifyEvent } from 'nostr-tools/pure'
import WebSocket from 'ws'

useWebSocketImplementation(WebSocket)

const KIND_INBOX = 10050
const KIND_WRAP = 1059

const relays = process.argv.slice(2)
const secretKey = generateSecretKey()
const publicKey = getPublicKey(secretKey)
const pool = new SimplePool()
const seen = new Set()

const now = () => Math.floor(Date.now() / 1000)
const print = object => process.stdout.write(JSON.stringify(object) + '\n')
const tags = (event, name) => event.tags.filter(tag => tag[0] === name).map(tag => tag[1])

// Some relays hand wraps out only to who they are for (NIP-42).
const onauth = async template => finalizeEvent(template, secretKey)

// Each relay says OK, or this fails.
const publish = (event, to) => Promise.all(pool.publish(to, event))

async function inboxOf(pubkey) {
  const list = await pool.get(relays, { kinds: [KIND_INBOX], authors: [pubkey] })
  return list ? tags(list, 'relay') : []
}

function onWrap(wrap) {
  if (seen.has(wrap.id)) return
  seen.add(wrap.id)
  try {
    if (!verifyEvent(wrap)) throw new Error('the wrap is not signed')
    const { id, pubkey, kind, content, tags } = nip17.unwrapEvent(wrap, secretKey)
    print({ event: 'message', from: pubkey, kind, text: content, tags, id })
  } catch (error) {
    print({ event: 'unreadable', id: wrap.id, why: String(error?.message ?? error) })
  }
}

const commands = {
  inbox: ({ of }) => inboxOf(of),
  async send({ to, text, replyTo }) {
    const inbox = await inboxOf(to)
    if (!inbox.length) throw new Error('no inbox')
    await publish(nip17.wrapEvent(secretKey, { publicKey: to }, text, undefined, replyTo && { eventId: replyTo }), inbox)
    return inbox
  },
}

const hex = bytes => Buffer.from(bytes).toString('hex')
const bytes = text => new Uint8Array(Buffer.from(text, 'hex'))
const sha256 = async data => hex(await crypto.subtle.digest('SHA-256', data))
const aes = (key, use) => crypto.subtle.importKey('raw', key, 'AES-GCM', false, [use])

Object.assign(commands, {
  verify: ({ event }) => verifyEvent(event),

  // Fetches what a file message names, and opens it.
  async open({ url, tags: all, path }) {
    const tag = name => all.find(([first]) => first === name)?.[1]
    const sealed = new Uint8Array(await (await fetch(url)).arrayBuffer())
    if (tag('encryption-algorithm') !== 'aes-gcm') throw new Error('another algorithm')
    if ((await sha256(sealed)) !== tag('x') || String(sealed.length) !== tag('size')) throw new Error('another blob')
    const key = await aes(bytes(tag('decryption-key')), 'decrypt')
    const plain = await crypto.subtle.decrypt({ name: 'AES-GCM', iv: bytes(tag('decryption-nonce')) }, key, sealed)
    if ((await sha256(plain)) !== tag('ox')) throw new Error('another file')
    await writeFile(path, new Uint8Array(plain))
    return { name: tag('name'), mime: tag('file-type') }
  },

  // Encrypts a file, brings it to a server, and tells its receiver.
  async sendFile({ to, path, server, mime, nonce }) {
    const inbox = await inboxOf(to)
    const plain = await readFile(path)
    const [secret, iv] = [32, nonce].map(length => crypto.getRandomValues(new Uint8Array(length)))
    const sealed = await crypto.subtle.encrypt({ name: 'AES-GCM', iv }, await aes(secret, 'encrypt'), plain)
    const signer = { getPublicKey: async () => publicKey, signEvent: async it => finalizeEvent(it, secretKey) }
    const client = new BlossomClient(server, signer)
    const { sha256: name } = await client.uploadBlob(new Blob([sealed]), 'application/octet-stream')
    const rumor = {
      kind: 15,
      content: `${server}/${name}`,
      created_at: now(),
      tags: [
        ['p', to],
        ['file-type', mime],
        ['encryption-algorithm', 'aes-gcm'],
        ['decryption-key', hex(secret)],
        ['decryption-nonce', hex(iv)],
        ['x', name],
        ['ox', await sha256(plain)],
        ['size', String(sealed.byteLength)],
      ],
    }
    await publish(nip59.wrapEvent(rumor, secretKey, to), inbox)
    return name
  },
})

async function obey(line) {
  const { n, do: verb, ...fields } = JSON.parse(line)
  try {
    if (!commands[verb]) throw new Error(`unknown command ${verb}`)
    print({ n, ok: await commands[verb](fields) })
  } catch (error) {
    print({ n, error: String(error?.message ?? error) })
  }
}

const list = { kind: KIND_INBOX, created_at: now(), tags: relays.map(url => ['relay', url]), content: '' }
await publish(finalizeEvent(list, secretKey), relays)
await new Promise(oneose =>
  pool.subscribeMany(relays, { kinds: [KIND_WRAP], '#p': [publicKey] }, { onevent: onWrap, oneose, onauth })
)
print({ event: 'ready', pubkey: publicKey, npub: npubEncode(publicKey) })

for await (const line of createInterface({ input: process.stdin })) await obey(line)
process.exit(0)
