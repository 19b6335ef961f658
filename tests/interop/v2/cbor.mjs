// CBOR in its deterministic encoding (RFC 8949, 4.2.1), as docs/protocol.md, section 7, allows it: unsigned integers,
// byte strings, text strings, arrays and null. Anything else throws, and so does anything that could be said shorter.

const UNSIGNED = 0,
  BYTES = 2,
  TEXT = 3,
  ARRAY = 4,
  SIMPLE = 7
const NULL = 22
const WIDTHS = { 24: 1, 25: 2, 26: 4, 27: 8 }

// The one item that these bytes are: BigInt, Buffer, string, array, null.
export function decode(bytes) {
  const [item, end] = read(bytes, 0)
  if (end !== bytes.length) throw new Error(`${bytes.length - end} bytes after the end`)
  return item
}

function read(bytes, at) {
  const [major, value, start] = head(bytes, at)
  if (major === UNSIGNED) return [value, start]
  if (major === BYTES || major === TEXT) {
    const end = start + Number(value)
    if (value > BigInt(bytes.length - start)) throw new Error('a string beyond the end')
    const content = bytes.subarray(start, end)
    return [major === BYTES ? content : new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(content), end]
  }
  if (major === ARRAY) {
    const items = []
    let end = start
    for (let left = value; left > 0n; left--) {
      let item
      ;[item, end] = read(bytes, end)
      items.push(item)
    }
    return [items, end]
  }
  if (major === SIMPLE && value === BigInt(NULL)) return [null, start]
  throw new Error(`major type ${major} does not belong here`)
}

// What an item is, the number in its head, and where it goes on.
function head(bytes, at) {
  if (at >= bytes.length) throw new Error('the end is missing')
  const major = bytes[at] >> 5
  const low = bytes[at] & 0x1f
  if (low < 24) return [major, BigInt(low), at + 1]
  const width = WIDTHS[low]
  if (!width || major === SIMPLE) throw new Error('a head of a kind that does not belong here')
  if (at + 1 + width > bytes.length) throw new Error('a head beyond the end')
  const value = BigInt('0x' + bytes.toString('hex', at + 1, at + 1 + width))
  const least = width === 1 ? 24n : 1n << BigInt(4 * width)
  if (value < least) throw new Error('a head that is not the shortest')
  return [major, value, at + 1 + width]
}
