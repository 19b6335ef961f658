// The v2 dialect, for reading only, written from docs/protocol.md (sections 5 to 7). It shares no code with p2p-comm:
// NIP-44, event ids and signatures are those of nostr-tools, the rest is node:crypto. What is not as the page says
// throws.

import assert from 'node:assert/strict'
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
} from 'node:crypto'
import * as nip44 from 'nostr-tools/nip44'
import { getEventHash, verifyEvent } from 'nostr-tools/pure'
import * as cbor from './cbor.mjs'

export const STORED = 1059,
  EPHEMERAL = 21059,
  SEAL = 13,
  SIGNAL = 25920
export const FRAME_PREFIX = '#p2p1.'
export const NOISE_NAME = 'Noise_NN_25519_ChaChaPoly_SHA256'
const PROLOGUE_NAME = 'p2p-comm v2 Noise_NN_25519_ChaChaPoly_SHA256'
const FRAME_VERSION = 1,
  FRAME_HEADER = 10,
  TAG = 16
const SMALLEST_BUCKET = 256,
  PLAINTEXT_LIMIT = 40_960
const BODY_LIMIT = 32_640,
  RANGES_LIMIT = 64
const PART_LIMIT = 32_632,
  TEXT_LIMIT = 1_048_576,
  PARTS_LIMIT = 33n
const NAME_LIMIT = 1_024,
  LABEL_LIMIT = 512,
  FINALS_LIMIT = 64
const CONTROL = 0n,
  TRANSCRIPT = 1n,
  FIRST_FILE = 2n
const RUMOR_TAGS = 128,
  SIGNAL_LIMIT = 16_384
const TYPES = [
  ,
  'text',
  'file-offer',
  'file-accept',
  'file-cancel',
  'chunk',
  'escalation',
  'escalation-answer',
  'read',
  'ping',
  'end',
  'file-done',
  'trace',
]

export const unhex = text => {
  assert.match(text, /^([0-9a-f]{2})*$/, 'lower-case hex')
  return Buffer.from(text, 'hex')
}
export const sha256 = bytes => createHash('sha256').update(bytes).digest()

// base64 as RFC 4648 writes it, section 4, and nothing else.
export function unbase64(text) {
  const bytes = Buffer.from(text, 'base64')
  assert.equal(bytes.toString('base64'), text, 'base64')
  return bytes
}

// ---- wraps (section 5) ----

export const tagValues = (event, name) => event.tags.filter(tag => tag[0] === name).map(tag => tag[1])

// Leading zero bits of an event's id, if its nonce tag says that it aimed at no fewer (NIP-13).
export function work(event) {
  const nonce = event.tags.find(tag => tag[0] === 'nonce')
  if (!nonce) return 0
  const target = Number(nonce[2])
  const bits = BigInt('0x' + event.id)
  const zeros = 256 - (bits === 0n ? 0 : bits.toString(2).length)
  return zeros >= target ? target : 0
}

export function verified(event, what) {
  assert.ok(verifyEvent(event), `the ${what} has a wrong id or signature`)
  return event
}

// Opens a wrap with the receiver's secret key, layer by layer; returns all of them.
export function openWrap(wrap, secret) {
  verified(wrap, 'wrap')
  assert.ok([STORED, EPHEMERAL].includes(wrap.kind), `kind ${wrap.kind}`)
  const decrypt = event => JSON.parse(nip44.decrypt(event.content, nip44.getConversationKey(secret, event.pubkey)))
  const seal = verified(decrypt(wrap), 'seal')
  assert.equal(seal.kind, SEAL, 'the kind of the seal')
  assert.deepEqual(seal.tags, [], 'a seal has no tags')
  const rumor = decrypt(seal)
  assert.equal(rumor.pubkey, seal.pubkey, 'the rumor is by who sealed it')
  assert.ok(rumor.tags.length <= RUMOR_TAGS, 'tags of the rumor')
  assert.equal(rumor.id, getEventHash(rumor), 'the id of the rumor')
  assert.ok(!('sig' in rumor), 'a rumor is not signed')
  return { seal, rumor }
}

const integer = limit => value => Number.isInteger(value) && value >= 0 && value < limit
const text = value => typeof value === 'string'
const perhaps = is => value => value === undefined || is(value)
const hex = bytes => value => text(value) && value.length === 2 * bytes && /^[0-9a-f]*$/.test(value)
const base64 = bytes => value => text(value) && unbase64(value).length === bytes
const list = (is, least, most) => value =>
  Array.isArray(value) && value.length >= least && value.length <= most && value.every(is)
const label = value => text(value) && [...value].length >= 1 && [...value].length <= 128
const relay = value => text(value) && Buffer.byteLength(value) <= 256

const versions = value => list(integer(2 ** 32), 1, 16)(value) && value.includes(2)
const OFFER = {
  agentId: label,
  name: perhaps(text),
  topic: perhaps(text),
  exp: integer(2 ** 53),
  key: hex(32),
  noise: base64(32),
  versions,
  relays: list(relay, 1, 4),
}
const ACCEPT = {
  agentId: label,
  name: perhaps(text),
  key: hex(32),
  noise: base64(48),
  relays: list(relay, 1, 3),
  invite: hex(32),
  hash: hex(32),
  replaces: perhaps(hex(16)),
}
const REASON = { reason: perhaps(text) }
const SIGNALS = { invite: OFFER, resume: OFFER, accept: ACCEPT, reject: REASON, busy: {}, cancel: REASON, end: REASON }

// In which kind of wrap a signal travels.
export const carrier = type => (['accept', 'reject', 'busy'].includes(type) ? EPHEMERAL : STORED)

export function readSignal(rumor) {
  assert.equal(rumor.kind, SIGNAL, 'the kind of a signal')
  assert.deepEqual(rumor.tags, [], 'a signal has no tags')
  assert.ok(Buffer.byteLength(rumor.content) <= SIGNAL_LIMIT, 'the size of a signal')
  const signal = JSON.parse(rumor.content)
  const common = { call: hex(16), gen: integer(2 ** 32), v: value => value === 2 }
  assert.ok(Object.hasOwn(SIGNALS, signal.t), `signal ${signal.t}`)
  for (const [member, is] of Object.entries({ ...common, ...SIGNALS[signal.t] })) {
    assert.ok(is(signal[member]), `${member} of ${signal.t}: ${JSON.stringify(signal[member])}`)
  }
  return signal
}

// ---- handshake (section 6; Noise revision 34) ----

const u32 = number => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(number)
  return bytes
}
const field = bytes => Buffer.concat([u32(bytes.length), bytes])

export function prologue({ call, gen, from, to, key, relays, versions }) {
  return sha256(
    Buffer.concat([
      field(Buffer.from(PROLOGUE_NAME)),
      field(unhex(call)),
      u32(gen),
      field(unhex(from)),
      field(unhex(to)),
      field(unhex(key)),
      u32(relays.length),
      ...relays.map(relay => field(Buffer.from(relay))),
      u32(versions.length),
      ...versions.map(u32),
    ])
  )
}

// RFC 8410's wrapping of raw X25519 keys.
const privateKey = secret =>
  createPrivateKey({
    key: Buffer.concat([unhex('302e020100300506032b656e04220420'), secret]),
    format: 'der',
    type: 'pkcs8',
  })
const publicKey = bytes =>
  createPublicKey({ key: Buffer.concat([unhex('302a300506032b656e032100'), bytes]), format: 'der', type: 'spki' })
export const x25519Public = secret =>
  createPublicKey(privateKey(secret)).export({ format: 'der', type: 'spki' }).subarray(12)
export const x25519 = (secret, peer) => diffieHellman({ privateKey: privateKey(secret), publicKey: publicKey(peer) })

const hmac = (key, ...parts) => createHmac('sha256', key).update(Buffer.concat(parts)).digest()
function hkdf(chainingKey, input) {
  const key = hmac(chainingKey, input)
  const first = hmac(key, Buffer.from([1]))
  return [first, hmac(key, first, Buffer.from([2]))]
}

const MOST = 2n ** 64n - 1n
function nonce(number) {
  const bytes = Buffer.alloc(12)
  bytes.writeBigUInt64LE(number, 4)
  return bytes
}
const ALGORITHM = 'chacha20-poly1305'
export function encrypt(key, number, plaintext, data = Buffer.alloc(0)) {
  const cipher = createCipheriv(ALGORITHM, key, nonce(number), { authTagLength: TAG })
  cipher.setAAD(data, { plaintextLength: plaintext.length })
  return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()])
}
export function decrypt(key, number, ciphertext, data = Buffer.alloc(0)) {
  const sealed = ciphertext.subarray(0, ciphertext.length - TAG)
  const cipher = createDecipheriv(ALGORITHM, key, nonce(number), { authTagLength: TAG })
  cipher.setAAD(data, { plaintextLength: sealed.length })
  cipher.setAuthTag(ciphertext.subarray(ciphertext.length - TAG))
  return Buffer.concat([cipher.update(sealed), cipher.final()])
}

// The key of the next epoch (Noise's REKEY).
export const rekey = key => encrypt(key, MOST, Buffer.alloc(32)).subarray(0, 32)

// The whole NN handshake with empty payloads: both ephemeral public keys, and their shared secret. Returns the tag that
// ends message 2, the hash, and the keys that `Split()` gives, the initiator's first.
export function handshake(prologue, initiator, responder, shared) {
  let hash = Buffer.from(NOISE_NAME)
  let chainingKey = hash
  const mix = bytes => (hash = sha256(Buffer.concat([hash, bytes])))
  mix(prologue)
  mix(initiator)
  mix(Buffer.alloc(0)) // the payload of message 1, which no key encrypts yet
  mix(responder)
  let key
  ;[chainingKey, key] = hkdf(chainingKey, shared)
  const tag = encrypt(key, 0n, Buffer.alloc(0), hash)
  mix(tag)
  return { tag, hash, keys: hkdf(chainingKey, Buffer.alloc(0)) }
}

// ---- frames and plaintexts (sections 6 and 7) ----

export function readFrame(content) {
  assert.ok(content.startsWith(FRAME_PREFIX), 'not a frame')
  const bytes = unbase64(content.slice(FRAME_PREFIX.length))
  assert.ok(bytes.length >= FRAME_HEADER, 'a header beyond the end')
  assert.equal(bytes[0], FRAME_VERSION, 'the version of the frame')
  const ciphertext = bytes.subarray(FRAME_HEADER)
  const plaintext = ciphertext.length - TAG
  assert.ok(
    plaintext > 0 && plaintext <= PLAINTEXT_LIMIT && bucket(plaintext) === plaintext,
    `a ciphertext of ${ciphertext.length} bytes`
  )
  return { epoch: bytes[1], number: bytes.readBigUInt64BE(2), ciphertext }
}

export function bucket(length) {
  if (length <= SMALLEST_BUCKET) return SMALLEST_BUCKET
  let power = SMALLEST_BUCKET
  while (power < length) power *= 2
  return Math.ceil(length / (power / 8)) * (power / 8)
}

// The size of the plaintext of a batch of so many bytes.
export function paddedSize(length) {
  const size = bucket(2 + length)
  assert.ok(size <= PLAINTEXT_LIMIT, `a batch of ${length} bytes`)
  return size
}

export function unpad(plaintext) {
  assert.ok(plaintext.length >= 2, 'a plaintext without a length')
  const end = 2 + plaintext.readUInt16BE()
  assert.equal(plaintext.length, paddedSize(end - 2), 'the size of the plaintext')
  assert.ok(
    plaintext.subarray(end).every(byte => byte === 0),
    'the padding'
  )
  return plaintext.subarray(2, end)
}

// ---- batches and bodies (section 7) ----

const arrayOf = (value, items, what) => {
  assert.ok(Array.isArray(value) && (items === undefined || value.length === items), what)
  return value
}
const uint = (value, bits, what) => {
  assert.ok(typeof value === 'bigint' && value < 1n << BigInt(bits), what)
  return value
}
const byteString = (value, least, most, what) => {
  assert.ok(Buffer.isBuffer(value) && value.length >= least && value.length <= most, what)
  return value
}
const textString = (value, most, what) => {
  assert.ok(text(value) && Buffer.byteLength(value) <= most, what)
  return value
}

export function readBatch(bytes) {
  const [ack, entries] = arrayOf(cbor.decode(bytes), 2, 'a batch is an array of two')
  return {
    ack: ack === null ? null : readAck(arrayOf(ack, undefined, 'an ack')),
    entries: arrayOf(entries, undefined, 'entries').map(readEntry),
  }
}

function readAck([delay, ...numbers]) {
  uint(delay, 64, 'the delay')
  assert.ok(
    numbers.length >= 2 && numbers.length % 2 === 0 && numbers.length <= 2 * RANGES_LIMIT,
    'the number of ranges'
  )
  const ranges = []
  for (let at = 0; at < numbers.length; at += 2) {
    const [down, length] = [uint(numbers[at], 64, 'a gap'), uint(numbers[at + 1], 64, 'a length')]
    assert.ok(at === 0 || down >= 2n, 'ranges that touch')
    const last = at === 0 ? down : ranges.at(-1)[1] - down
    const first = last - length
    assert.ok(first >= 0n, 'a range below zero')
    ranges.push([last, first])
  }
  return { delay, ranges }
}

function readEntry(entry) {
  const [stream, seq, code, id, body] = arrayOf(entry, 5, 'an entry is an array of five')
  uint(stream, 32, 'the stream')
  uint(seq, 64, 'the seq')
  uint(code, 8, 'the type')
  byteString(id, 16, 16, 'the id')
  byteString(body, 0, BODY_LIMIT, 'the body')
  const type = TYPES[code] ?? code
  assert.ok(seq > 0n || (type === 'ping' && stream === CONTROL), 'only a ping stands outside of the order')
  return { stream, seq, type, id, body }
}

// What the bodies of one message say. `stream` is where its entries stand.
export function readBodies(type, stream, bodies) {
  const place =
    { text: TRANSCRIPT, escalation: TRANSCRIPT, 'escalation-answer': TRANSCRIPT, 'file-offer': TRANSCRIPT, trace: TRANSCRIPT }[type] ??
    CONTROL
  if (type === 'chunk') assert.ok(stream >= FIRST_FILE, 'a chunk stands on the stream of a file')
  else assert.equal(stream, place, `the stream of ${type}`)
  if (['text', 'escalation', 'escalation-answer'].includes(type)) return { text: joinParts(bodies) }
  assert.equal(bodies.length, 1, `${type} is one entry`)
  const [body] = bodies
  if (['file-accept', 'file-done', 'read', 'ping'].includes(type)) {
    assert.equal(body.length, 0, `${type} has no body`)
    return {}
  }
  if (type === 'chunk') return { bytes: byteString(body, 1, BODY_LIMIT, 'a chunk') }
  const said = cbor.decode(body)
  if (type === 'file-cancel') return { reason: textString(said, LABEL_LIMIT, 'the reason') }
  if (type === 'file-offer') {
    const [file, name, size, mime, hash] = arrayOf(said, 5, 'an offer is an array of five')
    assert.ok(uint(file, 32, 'the stream') >= FIRST_FILE, 'the stream of a file')
    return {
      stream: file,
      name: textString(name, NAME_LIMIT, 'the name'),
      size: uint(size, 64, 'the size'),
      mime: textString(mime, LABEL_LIMIT, 'the type'),
      sha256: byteString(hash, 32, 32, 'the hash'),
    }
  }
  if (type === 'trace') {
    const [message, traceparent] = arrayOf(said, 2, 'a trace is an array of two')
    assert.match(traceparent, /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/, 'a traceparent')
    return { message: byteString(message, 16, 16, 'the message'), traceparent }
  }
  assert.equal(type, 'end')
  assert.ok(arrayOf(said, undefined, 'an end').length <= FINALS_LIMIT, 'the streams of an end')
  const last = final =>
    arrayOf(final, 2, 'a stream and its last seq') && [uint(final[0], 32, 'a stream'), uint(final[1], 64, 'a seq')]
  return { finals: said.map(last) }
}

function joinParts(bodies) {
  assert.ok(bodies.length > 0, 'a message without entries')
  const words = bodies.map((body, at) => {
    const [part, total, words] = arrayOf(cbor.decode(body), 3, 'a part is an array of three')
    assert.deepEqual([part, total], [BigInt(at), BigInt(bodies.length)], 'the parts follow each other')
    assert.ok(total <= PARTS_LIMIT, 'the number of parts')
    return textString(words, BODY_LIMIT, 'words')
  })
  return textString(words.join(''), TEXT_LIMIT, 'the size of a text')
}

// The bytes of words in each part of a text: as many as fit without cutting a character.
export function partSizes(words) {
  const bytes = Buffer.from(words)
  const sizes = []
  let at = 0
  while (bytes.length - at > PART_LIMIT) {
    let end = at + PART_LIMIT
    while ((bytes[end] & 0xc0) === 0x80) end--
    sizes.push(end - at)
    at = end
  }
  return [...sizes, bytes.length - at]
}
