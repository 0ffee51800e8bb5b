// The PoRA seal hash once more, four seals at a time.
import { blake2bCompress4 } from '../build/generated/blake2b-wide';

const PIECE: usize = 4096;
const BLOCKS: usize = 33;
/** Four states: 8 words, 32 bytes each. */
const H: usize = memory.data(256, 64);
/** Four blocks: 16 words, 32 bytes each. */
const M: usize = memory.data(512, 64);
/** Four times working words 8 to 15: 8 words, 32 bytes each. */
const K: usize = memory.data(256, 64);
/** Initial state. */
const IV: usize = memory.data<u64>([
  0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
  0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
], 16);
/** Parameters of an unkeyed 64-byte hash, xored into the first word. */
const PARAMETERS: u64 = 0x01010040;

/** The same as sealHashes of pora.ts. */
export function sealHashes(chunk: usize, pad: usize, seed: usize, out: usize): void {
  for (let i: usize = 0; i < 8; i++) splat(K + 32 * i, load<u64>(IV + 8 * i));
  for (let s: usize = 0; s < 64; s += 4) {
    for (let i: usize = 0; i < 8; i++) splat(H + 32 * i, load<u64>(IV + 8 * i));
    splat(H, load<u64>(IV) ^ PARAMETERS);
    head(s, seed);
    compress(0);
    // seals s to s + 3 take the four quarters of the pad in order
    const data = chunk + s * PIECE;
    for (let n: usize = 1; n < BLOCKS; n++) {
      mix(data + (n - 1) * 128, pad + (n - 1) * 128);
      compress(n);
    }
    take(out + 32 * s);
  }
}

/** Block n: the counter goes into working word 12, the mark of the last block into word 14. */
function compress(n: usize): void {
  splat(K + 128, load<u64>(IV, 32) ^ (n * 128 + 128));
  splat(K + 192, n == BLOCKS - 1 ? ~load<u64>(IV, 48) : load<u64>(IV, 48));
  blake2bCompress4(H, M, K);
}

/** First block: u256(seal), pad seed, zeros. */
function head(s: usize, seed: usize): void {
  memory.fill(M, 0, 512);
  for (let i: usize = 0; i < 4; i++) store<u64>(M + 96 + 8 * i, bswap<u64>(s + i));
  for (let i: usize = 0; i < 8; i++) splat(M + 128 + 32 * i, load<u64>(seed + 8 * i));
}

/** M = data ^ pad of four pieces. */
function mix(data: usize, pad: usize): void {
  for (let w: usize = 0; w < 128; w += 16) {
    const a = mixed(data + w, pad + w), b = mixed(data + w + PIECE, pad + w + PIECE);
    const c = mixed(data + w + 2 * PIECE, pad + w + 2 * PIECE), d = mixed(data + w + 3 * PIECE, pad + w + 3 * PIECE);
    const m = M + 4 * w;
    v128.store(m, v128.shuffle<i64>(a, b, 0, 2));
    v128.store(m, v128.shuffle<i64>(a, b, 1, 3), 32);
    v128.store(m, v128.shuffle<i64>(c, d, 0, 2), 16);
    v128.store(m, v128.shuffle<i64>(c, d, 1, 3), 48);
  }
}

@inline function mixed(data: usize, pad: usize): v128 {
  return v128.xor(v128.load(data), v128.load(pad));
}

/** The first 32 bytes of the four states. */
function take(out: usize): void {
  for (let i: usize = 0; i < 4; i += 2) {
    const p = v128.load(H + 32 * i), q = v128.load(H + 32 * i, 32), u = v128.load(H + 32 * i, 16), v = v128.load(H + 32 * i, 48);
    v128.store(out + 8 * i, v128.shuffle<i64>(p, q, 0, 2));
    v128.store(out + 8 * i, v128.shuffle<i64>(p, q, 1, 3), 32);
    v128.store(out + 8 * i, v128.shuffle<i64>(u, v, 0, 2), 64);
    v128.store(out + 8 * i, v128.shuffle<i64>(u, v, 1, 3), 96);
  }
}

/** The same word in four states. */
@inline function splat(at: usize, value: u64): void {
  v128.store(at, i64x2.splat(value));
  v128.store(at, i64x2.splat(value), 16);
}
