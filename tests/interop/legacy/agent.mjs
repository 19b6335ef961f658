// A look-alike of the agents that are already deployed (openclaw-p2p 0.1 to 0.3), written only from the legacy dialect
// in docs/protocol.md, on nostr-tools. The interop tests drive it:
//
//     node agent.mjs <relay url> <agent id> [secret key in hex]
//
// One JSON object a line. On stdin commands, {"n": 1, "do": "call", …}; on stdout their replies, {"n": 1, "ok": …} or
// {"n": 1, "error": …}, and between them events, {"event": "payload", …}. It leaves when stdin ends.
//
// Its habits are the deployed agents', weaknesses included, because they are what we must live with:
//
// * It subscribes once, with `since` ten seconds ago, never connects again and answers no authentication.
// * It holds one call. A second `call_request` overwrites the first one waiting.
// * `call_accepted` and `call_rejected` are tied to nothing: any key, any room, however late.
// * `end_call` checks the sender, not the room.
// * The bytes of a received file are dropped.
// * As a caller it gives up after a minute, as a callee never.
//
// Everything that it decrypts is printed, whether or not it acts on it.

import { createInterface } from 'node:readline'
import * as nip04 from 'nostr-tools/nip04'
import { finalizeEvent, generateSecretKey, getPublicKey } from 'nostr-tools/pure'
import { Relay, useWebSocketImplementation } from 'nostr-tools/relay'
import WebSocket from 'ws'

useWebSocketImplementation(WebSocket)

const KIND_DIRECT_MESSAGE = 4
const KIND_PRESENCE = 30078
const LOOK_BACK_SECONDS = 10
const RING_MILLISECONDS = 60_000

const [url, agentId, secretHex] = process.argv.slice(2)
const secretKey = secretHex ? Uint8Array.from(Buffer.from(secretHex, 'hex')) : generateSecretKey()
const publicKey = getPublicKey(secretKey)
const name = `${agentId} (legacy)`

let relay
let call = null // the one call: {room, peer}
let waiting = null // the call request that has not been answered: {room, peer, topic}
let ringing = null // our own request without an answer: {room, peer, timer}
let announcedAt = 0 // `created_at` of our newest announcement
const online = new Map() // agent id → its newest announcement, whoever signed it

const now = () => Math.floor(Date.now() / 1000)
const print = object => process.stdout.write(JSON.stringify(object) + '\n')

async function publish(template) {
  const event = finalizeEvent({ created_at: now(), tags: [], content: '', ...template }, secretKey)
  await relay.publish(event)
  return event.id
}

function tell(peer, payload) {
  const content = nip04.encrypt(secretKey, peer, JSON.stringify({ ...payload, origin: agentId }))
  return publish({ kind: KIND_DIRECT_MESSAGE, tags: [['p', peer]], content })
}

function tellInCall(type, fields) {
  if (!call) throw new Error('no call')
  return tell(call.peer, { type, roomId: call.room, ...fields })
}

function onAnnouncement(event) {
  let announced
  try {
    announced = JSON.parse(event.content)
  } catch {
    return // the deployed ones fall over here; a test part must not
  }
  if (!announced || !Array.isArray(announced.capabilities)) return
  const known = online.get(announced.agentId)
  if (!known || event.created_at >= known.createdAt) {
    online.set(announced.agentId, { ...announced, pubkey: event.pubkey, createdAt: event.created_at, tags: event.tags })
  }
}

function onDirectMessage(event) {
  let payload
  try {
    payload = JSON.parse(nip04.decrypt(secretKey, event.pubkey, event.content))
  } catch (error) {
    print({ event: 'unreadable', from: event.pubkey, why: String(error) })
    return
  }
  const { type, roomId: room } = payload
  if (type === 'call_request') {
    waiting = { room, peer: event.pubkey, topic: payload.topic }
  } else if (type === 'call_accepted') {
    stopRinging()
    call = { room, peer: event.pubkey }
  } else if (type === 'call_rejected') {
    stopRinging()
  } else if (type === 'end_call' && call?.peer === event.pubkey) {
    call = null
  }
  print({ event: 'payload', from: event.pubkey, id: event.id, created_at: event.created_at, payload })
}

function stopRinging() {
  if (ringing) clearTimeout(ringing.timer)
  ringing = null
}

const commands = {
  // Announces this agent; `fields` and `tags` are added to the announcement as the deployed agents write it. Each one
  // is newer than the last, for of two of the same second the relay keeps either.
  async presence({ capabilities = ['chat'], fields = {}, tags = [] }) {
    const content = JSON.stringify({ agentId, name, capabilities, timestamp: Date.now(), ...fields })
    announcedAt = Math.max(now(), announcedAt + 1)
    const template = { tags: [['d', agentId], ['t', 'openclaw-p2p'], ...tags], content, created_at: announcedAt }
    return publish({ kind: KIND_PRESENCE, ...template })
  },
  async list() {
    return [...online.values()]
  },
  async call({ to, topic = '' }) {
    const room = crypto.randomUUID()
    stopRinging()
    const timer = setTimeout(() => {
      ringing = null
      print({ event: 'gave-up', room })
    }, RING_MILLISECONDS)
    ringing = { room, peer: to, timer }
    await tell(to, { type: 'call_request', roomId: room, agentId, agentName: name, topic })
    return room
  },
  async accept() {
    if (!waiting) throw new Error('no call request')
    const { room, peer } = waiting
    waiting = null
    call = { room, peer }
    // An `end_call` that answers this can be here before the relay's OK: the call may be over then.
    await tellInCall('call_accepted', { agentId, agentName: name })
    return room
  },
  async reject({ reason }) {
    if (!waiting) throw new Error('no call request')
    const { room, peer } = waiting
    waiting = null
    return tell(peer, { type: 'call_rejected', roomId: room, agentId, agentName: name, reason })
  },
  message: ({ text }) => tellInCall('room_message', { sender: name, content: text }),
  file: ({ filename, content, mimeType }) => tellInCall('room_file', { sender: name, filename, content, mimeType }),
  escalate: ({ message }) => tellInCall('escalate', { fromAgent: agentId, message }),
  async end() {
    const id = await tellInCall('end_call', { reason: 'ended_by_peer' })
    call = null
    return id
  },
  async state() {
    return { call, waiting, ringing: ringing && { room: ringing.room, peer: ringing.peer } }
  },
  // For forgers: any payload to anybody, and any event at all.
  tell: ({ to, payload }) => tell(to, payload),
  publish: ({ template }) => publish(template),
  // What the relay has stored.
  stored: ({ filter }) =>
    new Promise(resolve => {
      const events = []
      const ask = () => {
        const subscription = relay.subscribe([filter], {
          onevent: event => events.push(event),
          oneose: () => {
            subscription.close()
            resolve(events)
          },
          // The agent itself never answers this; what looks at the relay for a test does.
          onclose: reason => {
            if (!reason.startsWith('auth-required: ')) return
            relay.auth(async template => finalizeEvent(template, secretKey)).then(ask)
          },
        })
      }
      ask()
    }),
}

async function obey(line) {
  const { n, do: verb, ...fields } = JSON.parse(line)
  try {
    if (!commands[verb]) throw new Error(`unknown command ${verb}`)
    print({ n, ok: await commands[verb](fields) })
  } catch (error) {
    print({ n, error: String(error?.message ?? error) })
  }
}

relay = await Relay.connect(url)
relay.onclose = () => print({ event: 'closed' })
await Promise.all(
  [
    [{ kinds: [KIND_DIRECT_MESSAGE], '#p': [publicKey], since: now() - LOOK_BACK_SECONDS }, onDirectMessage],
    [{ kinds: [KIND_PRESENCE], '#t': ['openclaw-p2p'] }, onAnnouncement],
  ].map(([filter, onevent]) => new Promise(oneose => relay.subscribe([filter], { onevent, oneose })))
)
print({ event: 'ready', pubkey: publicKey, name })

for await (const line of createInterface({ input: process.stdin })) await obey(line)
process.exit(0)
