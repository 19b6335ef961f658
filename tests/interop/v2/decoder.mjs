// Reads v2 with no code of p2p-comm, for two questions of the interop tests:
//
//     node decoder.mjs vectors <folder>
//
// Do the test vectors say what docs/protocol.md says? One JSON line for each vector, {"vector": "file.json/section/n",
// "ok": true} or {…, "ok": false, "why": …}; leaves with 1 unless all are ok.
//
//     node decoder.mjs try-record <record.json> <keys.json>
//
// What can somebody read who has recorded every message of a relay, and holds these secret keys? The record is a list
// of objects with the member `text`, a message of NIP-01; the keys are {"secrets": [hex]}. One JSON object: how many
// wraps and frames were tried and opened, and what they said.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as nip44 from 'nostr-tools/nip44'
import { getPublicKey } from 'nostr-tools/pure'
import * as v2 from './protocol.mjs'

const WEEK = 7 * 86_400
const readJson = path => JSON.parse(readFileSync(path, 'utf8'))
const hex = bytes => bytes.toString('hex')
const frameWords = frame => v2.unpad(frame).toString()

// ---- the vectors ----

// A member that nobody looks at is a vector that nobody checks.
function members(object, ...names) {
  assert.deepEqual(Object.keys(object).sort(), names.sort(), 'the members')
  return object
}

// Numbers of JSON are exact up to 2^53, which no vector exceeds.
const number = value => {
  assert.ok(Number.isSafeInteger(value), `${value} is no exact number`)
  return BigInt(value)
}

// What has been read, as the vectors say it: bytes in hex.
const said = value => {
  if (Buffer.isBuffer(value)) return hex(value)
  if (Array.isArray(value)) return value.map(said)
  if (value && typeof value === 'object')
    return Object.fromEntries(Object.entries(value).map(([name, of]) => [name, said(of)]))
  return value
}
// What a vector says, with its numbers as they are read.
const expected = value => {
  if (typeof value === 'number') return number(value)
  if (Array.isArray(value)) return value.map(expected)
  if (value && typeof value === 'object')
    return Object.fromEntries(Object.entries(value).map(([name, of]) => [name, expected(of)]))
  return value
}

function checkSignalling(file, check, { 'handshake.json': handshake }) {
  members(file, 'caller_secret', 'callee_secret', 'caller_session_secret', 'callee_session_secret', 'signals')
  const [caller, callee, session] = [file.caller_secret, file.callee_secret, file.caller_session_secret].map(v2.unhex)
  const peerSession = getPublicKey(v2.unhex(file.callee_session_secret))
  file.signals.forEach((vector, at) =>
    check(`signals/${at}`, () => {
      const { signal, from, rumor_id: id, wrap } = members(vector, 'signal', 'from', 'rumor_id', 'wrap')
      const answers = v2.carrier(signal.t) === v2.EPHEMERAL
      const [sender, receiver] = answers ? [callee, session] : [caller, callee]
      assert.equal(wrap.kind, v2.carrier(signal.t), 'the kind of the wrap')
      assert.ok(!wrap.content.startsWith('#'), 'a wrap is told from a frame')
      assert.equal(from, getPublicKey(sender), 'the sender')
      assert.deepEqual(v2.tagValues(wrap, 'p'), [getPublicKey(receiver)], 'the receiver')
      const { seal, rumor } = v2.openWrap(wrap, receiver)
      assert.deepEqual([seal.pubkey, rumor.id], [from, id], 'sender and id of the rumor')
      assert.deepEqual(new Set([wrap.created_at, seal.created_at, rumor.created_at]).size, 1, 'the times of the layers')
      assert.deepEqual(
        v2.tagValues(wrap, 'expiration'),
        answers ? [] : [String(wrap.created_at + WEEK)],
        'the expiration'
      )
      assert.equal(v2.work(wrap), signal.t === 'invite' ? 8 : 0, 'bits of work')
      assert.deepEqual(
        wrap.tags.map(tag => tag[0]),
        ['p', ...(answers ? [] : ['expiration']), ...(signal.t === 'invite' ? ['nonce'] : [])],
        'the tags'
      )
      assert.deepEqual(v2.readSignal(rumor), signal, 'the signal')
      if (['invite', 'resume'].includes(signal.t)) {
        assert.equal(signal.key, getPublicKey(session), 'the session key')
        assert.equal(hex(v2.unbase64(signal.noise)), handshake.message_1, 'message 1')
        assert.deepEqual(
          [signal.relays, signal.versions, signal.call, signal.gen],
          [handshake.relays, handshake.versions, handshake.call, handshake.gen],
          'the terms'
        )
      }
      if (signal.t === 'accept') {
        const offer = file.signals.find(one => one.signal.t === 'invite')
        assert.equal(signal.key, peerSession, 'the session key')
        assert.equal(signal.invite, offer.rumor_id, 'the invite')
        assert.ok(
          signal.relays.every(relay => offer.signal.relays.includes(relay)),
          'the relays are some of the offer’s'
        )
        assert.equal(hex(v2.unbase64(signal.noise)), handshake.message_2, 'message 2')
        assert.equal(signal.hash, handshake.hash, 'the hash')
      }
    })
  )
}

function checkHandshake(file, check) {
  check('handshake', () => {
    members(
      file,
      'noise',
      'name',
      'call',
      'gen',
      'caller',
      'callee',
      'caller_session',
      'relays',
      'versions',
      'prologue',
      'message_1',
      'message_2',
      'caller_ephemeral_secret',
      'callee_ephemeral_secret',
      'hash',
      'caller_to_callee',
      'callee_to_caller'
    )
    assert.deepEqual([file.noise, file.name], [v2.NOISE_NAME, `p2p-comm v2 ${v2.NOISE_NAME}`], 'the names')
    const { call, gen, relays, versions } = file
    const prologue = v2.prologue({
      call,
      gen,
      from: file.caller,
      to: file.callee,
      key: file.caller_session,
      relays,
      versions,
    })
    assert.equal(hex(prologue), file.prologue, 'the prologue')
    const [ours, theirs] = [file.caller_ephemeral_secret, file.callee_ephemeral_secret].map(v2.unhex)
    const [initiator, responder] = [ours, theirs].map(v2.x25519Public)
    assert.equal(hex(initiator), file.message_1, 'message 1')
    const shared = v2.x25519(ours, responder)
    assert.deepEqual(v2.x25519(theirs, initiator), shared, 'the shared secret')
    const done = v2.handshake(prologue, initiator, responder, shared)
    assert.equal(hex(Buffer.concat([responder, done.tag])), file.message_2, 'message 2')
    assert.equal(hex(done.hash), file.hash, 'the hash')
    checkEpochs(file.caller_to_callee, done.keys[0])
    checkEpochs(file.callee_to_caller, done.keys[1])
  })
}

// Each epoch's key follows from the one before.
function checkEpochs(keys, first) {
  assert.ok(keys.length >= 2, 'epochs')
  keys.reduce((key, expected) => {
    assert.equal(hex(key), expected, 'the key of an epoch')
    return v2.rekey(key)
  }, first)
}

function checkSession(file, check, { 'handshake.json': handshake }) {
  check('keys', () => {
    members(file, 'caller_session_secret', 'callee_session_secret', 'caller_to_callee', 'callee_to_caller', 'frames')
    for (const direction of ['caller_to_callee', 'callee_to_caller']) {
      checkEpochs(file[direction], v2.unhex(file[direction][0]))
      assert.deepEqual(file[direction], handshake[direction], 'the keys of the handshake')
    }
  })
  const [caller, callee] = [file.caller_session_secret, file.callee_session_secret].map(secret =>
    getPublicKey(v2.unhex(secret))
  )
  file.frames.forEach((vector, at) =>
    check(`frames/${at}`, () => {
      const { event, sender, epoch, plaintext } = members(
        vector,
        'event',
        'sender',
        'epoch',
        'number',
        'ciphertext',
        'plaintext',
        'text'
      )
      const [from, to, keys] =
        sender === 'caller' ? [caller, callee, file.caller_to_callee] : [callee, caller, file.callee_to_caller]
      assert.ok(['caller', 'callee'].includes(sender), 'the sender')
      v2.verified(event, 'event')
      assert.deepEqual(
        [event.kind, event.pubkey, event.tags],
        [v2.EPHEMERAL, from, [['p', to]]],
        'kind, author and tags'
      )
      const frame = v2.readFrame(event.content)
      assert.deepEqual(
        [frame.epoch, frame.number, hex(frame.ciphertext)],
        [epoch, number(vector.number), vector.ciphertext],
        'the header'
      )
      const opened = v2.decrypt(v2.unhex(keys[epoch]), frame.number, frame.ciphertext)
      assert.equal(hex(opened), plaintext, 'the plaintext')
      assert.equal(frameWords(opened), vector.text, 'the text')
    })
  )
}

const mustThrow = (why, read) => {
  assert.ok(why, 'a reason')
  try {
    read()
  } catch {
    return
  }
  throw new Error(`was read: ${why}`)
}

// One function for each section of frames.json, and the members of its vectors.
const FRAME_SECTIONS = {
  padding([length, size]) {
    assert.equal(v2.paddedSize(length), size)
    const plaintext = Buffer.alloc(size)
    plaintext.writeUInt16BE(length)
    assert.equal(v2.unpad(plaintext).length, length)
  },
  plaintexts(vector) {
    const { batch, plaintext } = members(vector, 'batch', 'plaintext')
    assert.equal(hex(v2.unpad(v2.unhex(plaintext))), batch)
    v2.readBatch(v2.unhex(batch))
  },
  invalid_plaintexts(vector) {
    const bytes = v2.unhex(members(vector, 'why', 'hex').hex)
    mustThrow(vector.why, () => v2.unpad(bytes))
  },
  batches(vector) {
    const { ack, entries } = members(vector, 'name', 'hex', 'ack', 'entries')
    assert.deepEqual(said(v2.readBatch(v2.unhex(vector.hex))), expected({ ack, entries }))
  },
  invalid_batches(vector) {
    const bytes = v2.unhex(members(vector, 'why', 'hex').hex)
    mustThrow(vector.why, () => v2.readBatch(bytes))
  },
  bodies(vector) {
    const { type, stream, says, bodies } = members(vector, 'type', 'stream', 'says', 'bodies')
    assert.deepEqual(said(v2.readBodies(type, number(stream), bodies.map(v2.unhex))), expected(says))
  },
  long_texts(vector) {
    const { unit, times, parts } = members(vector, 'unit', 'times', 'parts')
    const words = unit.repeat(times)
    assert.deepEqual(
      v2.partSizes(words),
      parts.map(([size]) => size),
      'the sizes of the parts'
    )
    const bytes = Buffer.from(words)
    let at = 0
    const bodies = parts.map(([size, head]) => Buffer.concat([v2.unhex(head), bytes.subarray(at, (at += size))]))
    assert.equal(v2.readBodies('text', 1n, bodies).text, words, 'the joined parts')
  },
  frames(vector) {
    const { epoch, ciphertext, content } = members(vector, 'epoch', 'number', 'ciphertext', 'content')
    assert.deepEqual(said(v2.readFrame(content)), { epoch, number: number(vector.number), ciphertext })
  },
  invalid_frames(vector) {
    const { why, content } = members(vector, 'why', 'content')
    mustThrow(why, () => v2.readFrame(content))
  },
}
function checkFrames(file, check) {
  const { about, ...sections } = file
  assert.equal(typeof about, 'string')
  for (const [section, vectors] of Object.entries(sections)) {
    vectors.forEach((vector, at) =>
      check(`${section}/${at}`, () => {
        assert.ok(FRAME_SECTIONS[section], `nobody reads ${section}`)
        FRAME_SECTIONS[section](vector)
      })
    )
  }
}

const FILES = {
  'signalling.json': checkSignalling,
  'handshake.json': checkHandshake,
  'session.json': checkSession,
  'frames.json': checkFrames,
}

function checkVectors(folder) {
  const files = Object.fromEntries(Object.keys(FILES).map(name => [name, readJson(join(folder, name))]))
  let allOk = true
  for (const [name, checkFile] of Object.entries(FILES)) {
    checkFile(
      files[name],
      (vector, test) => {
        let verdict = { ok: true }
        try {
          test()
        } catch (error) {
          verdict = { ok: false, why: String(error.message) }
          allOk = false
        }
        process.stdout.write(JSON.stringify({ vector: `${name}/${vector}`, ...verdict }) + '\n')
      },
      files
    )
  }
  return allOk
}

// ---- a record ----

const attempt = read => {
  try {
    return read()
  } catch {
    return undefined
  }
}

function tryRecord(recordPath, keysPath) {
  const secrets = readJson(keysPath).secrets.map(v2.unhex)
  const events = new Map()
  for (const { text } of readJson(recordPath)) {
    const message = attempt(() => JSON.parse(text))
    const event = Array.isArray(message) && message[0] === 'EVENT' ? message.at(-1) : undefined
    if (event?.id && [v2.STORED, v2.EPHEMERAL].includes(event.kind)) events.set(event.id, event)
  }
  const isFrame = event => event.kind === v2.EPHEMERAL && event.content.startsWith(v2.FRAME_PREFIX)
  const all = [...events.values()]
  const open = wraps =>
    wraps
      .map(wrap => secrets.map(secret => attempt(() => v2.openWrap(wrap, secret))).find(opened => opened))
      .filter(opened => opened)

  const stored = all.filter(event => event.kind === v2.STORED)
  const owned = new Set(secrets.map(secret => getPublicKey(secret)))
  const toOwned = stored.filter(event => v2.tagValues(event, 'p').some(key => owned.has(key)))
  // What begins with `#` and is no frame is an echo, which says nothing.
  const ephemeral = all.filter(event => event.kind === v2.EPHEMERAL && !event.content.startsWith('#'))
  const [openedStored, openedEphemeral] = [open(stored), open(ephemeral)]
  const rumors = [...openedStored, ...openedEphemeral].map(opened => opened.rumor)
  const signals = rumors
    .map(rumor => attempt(() => ({ from: rumor.pubkey, id: rumor.id, ...v2.readSignal(rumor) })))
    .filter(signal => signal)

  const frames = all.filter(isFrame)
  const keys = candidates(secrets, signals, frames)
  const read = frames
    .map(event => attempt(() => v2.readFrame(v2.verified(event, 'event').content)))
    .filter(frame => frame)
  const openedFrames = read.map(frame => openFrame(frame, keys)).filter(plaintext => plaintext)
  return {
    stored: { recorded: stored.length, tried: toOwned.length, opened: openedStored.length },
    ephemeral: { tried: ephemeral.length, opened: openedEphemeral.length },
    frames: { recorded: frames.length, tried: read.length, opened: openedFrames.length, keys: keys.length },
    signals,
    rumors: rumors.filter(rumor => rumor.kind !== v2.SIGNAL).map(({ kind, content }) => ({ kind, content })),
    plaintexts: openedFrames.map(hex),
  }
}

// Every key that these secrets could lead to: the handshakes of all offers that could be read, with each secret in the
// place of an ephemeral one, on either side; and the secrets, NIP-44's keys and the prologues as they are.
function candidates(secrets, signals, frames) {
  const keys = new Map()
  const add = key => keys.set(hex(Buffer.from(key)), Buffer.from(key))
  const sessionKeys = new Set(frames.flatMap(event => [event.pubkey, ...v2.tagValues(event, 'p')]))
  for (const secret of secrets) {
    add(secret)
    add(v2.sha256(secret))
    for (const key of sessionKeys) attempt(() => add(nip44.getConversationKey(secret, key)))
  }
  const publics = secrets.map(secret => v2.x25519Public(secret))
  for (const offer of signals.filter(signal => ['invite', 'resume'].includes(signal.t))) {
    const initiator = v2.unbase64(offer.noise)
    const accepts = signals.filter(
      signal => signal.t === 'accept' && signal.call === offer.call && signal.gen === offer.gen
    )
    const responders = [...publics, ...accepts.map(accept => v2.unbase64(accept.noise).subarray(0, 32))]
    for (const to of [
      ...new Set([...secrets.map(secret => getPublicKey(secret)), ...accepts.map(accept => accept.from)]),
    ]) {
      const { call, gen, key, relays, versions } = offer
      const prologue = v2.prologue({ call, gen, from: offer.from, to, key, relays, versions })
      add(prologue)
      for (const responder of responders) {
        for (const secret of secrets) {
          const secretsShared = [initiator, responder]
            .map(key => attempt(() => v2.x25519(secret, key)))
            .filter(shared => shared)
          secretsShared.forEach(shared => v2.handshake(prologue, initiator, responder, shared).keys.forEach(add))
        }
      }
    }
  }
  return [...keys.values()]
}

// What a frame carries, padding and all, if one of the keys opens it.
function openFrame(frame, keys) {
  for (const first of keys) {
    let key = first
    for (let epoch = 0; epoch < frame.epoch; epoch++) key = v2.rekey(key)
    const plaintext = attempt(() => v2.decrypt(key, frame.number, frame.ciphertext))
    if (plaintext) return plaintext
  }
  return undefined
}

const [mode, ...paths] = process.argv.slice(2)
if (mode === 'vectors') {
  process.exitCode = checkVectors(...paths) ? 0 : 1
} else if (mode === 'try-record') {
  process.stdout.write(JSON.stringify(tryRecord(...paths)) + '\n')
} else {
  process.stderr.write('usage: decoder.mjs vectors <folder> | try-record <record.json> <keys.json>\n')
  process.exitCode = 2
}
