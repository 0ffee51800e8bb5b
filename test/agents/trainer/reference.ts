import type { HostBatch } from '#compute/trainer/session.ts'
import type { LlamaConfig, Weights } from '#protocol/gguf/llama.ts'

/**
 * The forward pass and the loss once more, in plain TypeScript, one number at a time in double precision, with
 * reverse-mode derivatives on a tape. Slow and obvious: the oracle of the compiled graph.
 */
class Value {
  gradient = 0
  readonly value: number
  readonly #back: () => void

  constructor(tape: Value[], value: number, back: (self: Value) => void = () => undefined) {
    this.value = value
    this.#back = () => back(this)
    tape.push(this)
  }

  propagate(): void {
    this.#back()
  }
}

/** Loss (mean over weights) and, of every weight, the derivative of the loss. */
export function referenceLoss({
  config,
  base,
  adapter,
  adapterScale = 1,
  batch,
}: {
  config: LlamaConfig
  base: Weights
  adapter?: Weights | undefined
  adapterScale?: number | undefined
  batch: HostBatch
}): { loss: number; gradients: Record<string, Float64Array> } {
  const tape: Value[] = []
  const constant = (x: number): Value => new Value(tape, x)
  const add = (a: Value, b: Value): Value =>
    new Value(tape, a.value + b.value, (s) => {
      a.gradient += s.gradient
      b.gradient += s.gradient
    })
  const multiply = (a: Value, b: Value): Value =>
    new Value(tape, a.value * b.value, (s) => {
      a.gradient += s.gradient * b.value
      b.gradient += s.gradient * a.value
    })
  const scale = (a: Value, k: number): Value =>
    new Value(tape, a.value * k, (s) => {
      a.gradient += s.gradient * k
    })
  const of = (a: Value, value: number, slope: number): Value =>
    new Value(tape, value, (s) => {
      a.gradient += s.gradient * slope
    })
  const exp = (a: Value): Value => of(a, Math.exp(a.value), Math.exp(a.value))
  const log = (a: Value): Value => of(a, Math.log(a.value), 1 / a.value)
  const inverse = (a: Value): Value => of(a, 1 / a.value, -1 / a.value ** 2)
  const rsqrt = (a: Value): Value => of(a, a.value ** -0.5, -0.5 * a.value ** -1.5)
  const silu = (a: Value): Value => {
    const gate = 1 / (1 + Math.exp(-a.value))
    return of(a, a.value * gate, gate * (1 + a.value * (1 - gate)))
  }
  const sum = (values: readonly Value[]): Value =>
    new Value(
      tape,
      values.reduce((total, { value }) => total + value, 0),
      (s) => {
        for (const v of values) v.gradient += s.gradient
      },
    )
  const dot = (a: readonly Value[], b: readonly Value[]): Value =>
    new Value(
      tape,
      a.reduce((total, { value }, i) => total + value * (b[i]?.value ?? 0), 0),
      (s) => {
        for (const [i, x] of a.entries()) {
          const y = b[i]
          if (y === undefined) continue
          x.gradient += s.gradient * y.value
          y.gradient += s.gradient * x.value
        }
      },
    )

  const matrices = new Map<string, Value[][]>()
  for (const [name, { shape, data }] of [...Object.entries(base), ...Object.entries(adapter ?? {})]) {
    const columns = shape.length === 1 ? data.length : (shape[1] ?? 0)
    const rows = Array.from({ length: data.length / columns }, (_, r) =>
      Array.from(data.subarray(r * columns, (r + 1) * columns), constant),
    )
    matrices.set(name, rows)
  }
  const matrix = (name: string): Value[][] => {
    const found = matrices.get(name)
    if (found === undefined) throw new Error(`no matrix ${name}`)
    return found
  }
  const project = (name: string, x: readonly Value[]): Value[] => {
    const y = matrix(name).map((row) => dot(row, x))
    if (!matrices.has(`${name}.a`)) return y
    const low = matrix(`${name}.a`).map((row) => dot(row, x))
    return y.map((v, i) => add(v, scale(dot(matrix(`${name}.b`)[i] ?? [], low), adapterScale)))
  }
  const norm = (x: readonly Value[], name: string): Value[] => {
    const factor = rsqrt(add(scale(dot(x, x), 1 / x.length), constant(config.eps)))
    return x.map((v, i) => multiply(multiply(v, factor), matrix(name)[0]?.[i] ?? constant(0)))
  }

  const { heads, kvHeads, headDim, layers } = config
  const half = headDim / 2
  // Part-major: dimension i of part p of head h stands at (p * heads + h) * half + i.
  const rotate = (x: readonly Value[], count: number, t: number): Value[][][] =>
    Array.from({ length: count }, (_, h) => {
      const re: Value[] = []
      const im: Value[] = []
      for (let i = 0; i < half; i++) {
        const angle = t * config.ropeBase ** ((-2 * i) / headDim)
        const [a, b] = [x[h * half + i], x[(count + h) * half + i]]
        if (a === undefined || b === undefined) throw new Error('shape')
        re.push(add(scale(a, Math.cos(angle)), scale(b, -Math.sin(angle))))
        im.push(add(scale(a, Math.sin(angle)), scale(b, Math.cos(angle))))
      }
      return [re, im]
    })

  const total = batch.weights.reduce((a, b) => a + b, 0)
  const losses: Value[] = []
  for (let row = 0; row < batch.rows; row++) {
    const at = (t: number): number => row * batch.rowTokens + t
    const positions = Array.from({ length: batch.rowTokens }, (_, t) => t)
    let x = positions.map((t) => matrix('embd')[batch.ids[at(t)] ?? 0] ?? [])
    for (let layer = 0; layer < layers; layer++) {
      const h = x.map((v) => norm(v, `${layer}.attn_norm`))
      const q = h.map((v, t) => rotate(project(`${layer}.q`, v), heads, t))
      const k = h.map((v, t) => rotate(project(`${layer}.k`, v), kvHeads, t))
      const v = h.map((u) => project(`${layer}.v`, u))
      x = x.map((residual, t) => {
        const seen = positions.filter((s) => s <= t && batch.segments[at(s)] === batch.segments[at(t)])
        const mixed = Array.from({ length: heads }, (_, head) => {
          const kv = Math.floor((head * kvHeads) / heads)
          const scores = seen.map((s) => {
            const [[qRe = [], qIm = []] = [], [kRe = [], kIm = []] = []] = [q[t]?.[head], k[s]?.[kv]]
            return exp(scale(add(dot(qRe, kRe), dot(qIm, kIm)), 1 / Math.sqrt(headDim)))
          })
          const share = inverse(sum(scores))
          return Array.from({ length: headDim }, (_, d) => {
            const column = seen.map((s) => v[s]?.[kv * headDim + d] ?? constant(0))
            return multiply(dot(scores, column), share)
          })
        }).flat()
        return project(`${layer}.o`, mixed).map((o, i) => add(o, residual[i] ?? constant(0)))
      })
      x = x.map((residual) => {
        const g = norm(residual, `${layer}.ffn_norm`)
        const up = project(`${layer}.up`, g)
        const inner = project(`${layer}.gate`, g).map((gate, i) => multiply(silu(gate), up[i] ?? constant(0)))
        return project(`${layer}.down`, inner).map((d, i) => add(d, residual[i] ?? constant(0)))
      })
    }
    for (const t of positions) {
      const weight = batch.weights[at(t)] ?? 0
      if (weight === 0) continue
      const logits = project(config.tied ? 'embd' : 'output', norm(x[t] ?? [], 'out_norm'))
      const target = logits[batch.targets[at(t)] ?? 0]
      if (target === undefined) throw new Error('target outside the vocabulary')
      losses.push(scale(add(log(sum(logits.map(exp))), scale(target, -1)), weight / total))
    }
  }
  const loss = sum(losses)
  loss.gradient = 1
  for (const value of tape.toReversed()) value.propagate()
  const gradients: Record<string, Float64Array> = {}
  for (const [name, rows] of matrices) {
    gradients[name] = Float64Array.from(rows.flat(), ({ gradient }) => gradient)
  }
  return { loss: loss.value, gradients }
}
