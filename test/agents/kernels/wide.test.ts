import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { describe, it } from 'node:test'
import { bindKernels } from '#kernels/bind.ts'
import { FIRST_FREE_ADDRESS, kernelMemory } from '#kernels/memory.ts'
import { poraModules } from '#kernels/wasm.ts'
import { compileWide, mayBeWide } from '#kernels/wide.ts'
import { KECCAK_TRIAL, PORA_TRIAL } from '#kernels/wide-trials.ts'
import { seededBytes } from '../protocol/vectors.ts'

/** A module whose leafHashes and the like do nothing: (module (func (export ...) (param i32 ...))), made by hand. */
function emptyKernels(): Uint8Array<ArrayBuffer> {
  const text = (name: string) => [name.length, ...Buffer.from(name)]
  const arity = { leafHashes: 3, nodeHashes: 3, foldLevel: 2, fold: 2, segmentRoots: 5, scratchpads: 4, seal: 5 }
  const entries = Object.entries(arity)
  const section = (id: number, body: number[]) => [
    id,
    ...(body.length < 128 ? [body.length] : [(body.length & 127) | 128, body.length >> 7]),
    ...body,
  ]
  const types = entries.flatMap(([, n]) => [0x60, n, ...Array<number>(n).fill(0x7f), 0])
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [entries.length, ...types]),
    ...section(3, [entries.length, ...entries.keys()]),
    ...section(7, [entries.length, ...entries.flatMap(([name], i) => [...text(name), 0, i])]),
    ...section(10, [entries.length, ...entries.flatMap(() => [2, 0, 0x0b])]),
  ])
}

describe('wide kernels', () => {
  const [portable, ...wide] = poraModules()

  // Wide or portable is a question of speed alone: over any data both leave the same bytes behind.
  it('leave the same bytes as the portable ones', () => {
    assert.ok(portable)
    for (const [i, trial] of [KECCAK_TRIAL, PORA_TRIAL].entries()) {
      for (let seed = 0; seed < 5; seed++) {
        const [first, second] = [[portable], [portable, ...wide]].map((modules) => {
          const memory = kernelMemory({ freeBytes: trial.bytes })
          const bytes = new Uint8Array(memory.buffer, FIRST_FREE_ADDRESS)
          bytes.set(seededBytes(bytes.length, seed + 10 * i))
          const kernels = bindKernels({ modules, memory })
          trial.timed(kernels)
          trial.rest(kernels)
          return Buffer.from(bytes)
        })
        assert.ok(first && second?.equals(first), `trial ${i}, seed ${seed}`)
      }
    }
  })

  // A compiler that gets it wrong costs speed, never correctness: fast kernels with other results are not taken.
  it('are not taken when they give other results', { skip: !mayBeWide() }, () => {
    assert.ok(portable)
    assert.equal(compileWide({ bytes: emptyKernels(), portable, trial: KECCAK_TRIAL }), undefined)
  })

  it('are not tried when the environment says portable', () => {
    const wasm = new URL('../../../agents/kernels/wasm.ts', import.meta.url).href
    const script = `import { poraModules } from ${JSON.stringify(wasm)}; console.log(poraModules().length)`
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
      env: { ...process.env, WEIGHTLESS_KERNELS: 'portable' },
      timeout: 30_000,
    })
    assert.equal(stdout.trim(), '1', stderr)
  })
})
