import { lax, numpy as np, type Array as Tensor } from '@jax-js/jax'
import type { LlamaConfig } from '#protocol/gguf/llama.ts'
import { barrier, copy, exponential, silu, softmax } from './elementwise.ts'

/** Arrays by name; see `Weights` for the names. */
export type Parameters = Record<string, Tensor>

/** One batch on the device. `rows * rowTokens` positions; a padded position has weight 0. */
export interface Batch {
  /** int32 [rows, rowTokens] */
  ids: Tensor
  /** int32 [rows * rowTokens]: the token that follows each. */
  targets: Tensor
  /** f32 [rows * rowTokens]: the share of each position in the loss. */
  weights: Tensor
  /** f32 [rows, 1, 1, rowTokens, rowTokens]: 0 where a position may look, -1e30 elsewhere. */
  mask: Tensor
}

/**
 * Rotary angles of one row length: f32 [1, 1, rowTokens, 2, headDim / 2] each. Part 0 of a head turns with -sin, part 1
 * with sin, so that both are one product with the parts and one with the parts the other way round.
 */
export interface Rotation {
  cos: Tensor
  sin: Tensor
}

/** Builds the rotation of a row length once; pass it as an argument into jitted functions, not as a closure. */
export function rotation({ config, rowTokens }: { config: LlamaConfig; rowTokens: number }): Rotation {
  const half = config.headDim / 2
  const table = (f: (angle: number, part: number) => number): Tensor => {
    const values = new Float32Array(rowTokens * 2 * half)
    for (let t = 0; t < rowTokens; t++)
      for (let part = 0; part < 2; part++)
        for (let i = 0; i < half; i++)
          values[(2 * t + part) * half + i] = f(t * config.ropeBase ** ((-2 * i) / config.headDim), part)
    return np.array(values).reshape([1, 1, rowTokens, 2, half])
  }
  return { cos: table(Math.cos), sin: table((angle, part) => (part === 0 ? -1 : 1) * Math.sin(angle)) }
}

/**
 * Logits [rows * rowTokens, vocab] of a Llama model, optionally with an adapter: y = W x + adapterScale * B (A x).
 *
 * jax-js arrays move: an operation consumes its arguments unless they are passed as `.ref`. This function refs what it
 * is given, so the caller still owns everything.
 */
export function forward({
  config,
  base,
  ids,
  mask,
  rotation: { cos, sin },
  adapter,
  adapterScale = 1,
}: {
  config: LlamaConfig
  base: Parameters
  ids: Tensor
  mask: Tensor
  rotation: Rotation
  adapter?: Parameters | undefined
  adapterScale?: number | undefined
}): Tensor {
  const [rows = 0, rowTokens = 0] = ids.shape
  const positions = rows * rowTokens
  const half = config.headDim / 2
  const groups = config.heads / config.kvHeads

  function project(name: string, x: Tensor): Tensor {
    const y = np.matmul(x.ref, take(base, name).transpose())
    if (adapter?.[`${name}.a`] === undefined) {
      x.dispose()
      return y
    }
    // Scaled where it is smallest.
    const low = np.matmul(x, take(adapter, `${name}.a`).transpose()).mul(adapterScale)
    return y.add(np.matmul(low, take(adapter, `${name}.b`).transpose()))
  }

  /** Heads that share a kv head one below the other: [rows, kvHeads, heads / kvHeads * rowTokens, headDim]. */
  function rotate(x: Tensor, heads: number): Tensor {
    const parts = copy(x).reshape([rows, rowTokens, 2, heads, half]).transpose([0, 3, 1, 2, 4])
    const turned = parts.ref.mul(cos.ref).add(np.flip(parts, 3).mul(sin.ref))
    return turned.reshape([rows, config.kvHeads, (heads / config.kvHeads) * rowTokens, config.headDim])
  }

  let x = np.take(take(base, 'embd'), ids.ref.reshape([positions]), 0)
  for (let layer = 0; layer < config.layers; layer++) {
    const h = norm(x.ref, take(base, `${layer}.attn_norm`), config.eps)
    const q = rotate(project(`${layer}.q`, h.ref), config.heads)
    const k = rotate(project(`${layer}.k`, h.ref), config.kvHeads)
    const v = project(`${layer}.v`, h).reshape([rows, rowTokens, config.kvHeads, config.headDim])
    const scores = np
      .matmul(q, k.transpose([0, 1, 3, 2]))
      .mul(1 / Math.sqrt(config.headDim))
      .reshape([rows, config.kvHeads, groups, rowTokens, rowTokens])
      .add(mask.ref)
    const shares = softmax(scores).reshape([rows, config.kvHeads, groups * rowTokens, rowTokens])
    const mixed = np
      .matmul(shares, v.transpose([0, 2, 1, 3]))
      .reshape([rows, config.heads, rowTokens, config.headDim])
      .transpose([0, 2, 1, 3])
      .reshape([positions, config.heads * config.headDim])
    x = x.add(project(`${layer}.o`, copy(mixed)))
    const g = norm(x.ref, take(base, `${layer}.ffn_norm`), config.eps)
    x = x.add(project(`${layer}.down`, silu(project(`${layer}.gate`, g.ref)).mul(project(`${layer}.up`, g))))
  }
  const output = take(base, config.tied ? 'embd' : 'output')
  return np.matmul(norm(x, take(base, 'out_norm'), config.eps), output.transpose())
}

/**
 * Cross-entropy summed with the batch's weights, and its gradient to the logits in closed form. Consumes `logits`; refs the
 * batch. To be differentiated through `logits · gradient`: derived by jax-js, the gradient is computed once more for every
 * column of the product that uses it.
 */
export function crossEntropy({ config, logits, batch }: { config: LlamaConfig; logits: Tensor; batch: Batch }): {
  loss: Tensor
  gradient: Tensor
} {
  const fixed = lax.stopGradient(logits)
  const top = np.max(fixed.ref, -1, { keepdims: true })
  const e = exponential(fixed.ref.sub(top.ref))
  const sum = e.ref.sum(-1, { keepdims: true })
  const weights = batch.weights.ref.reshape([-1, 1])
  const isTarget = np
    .arange(config.vocab)
    .astype(np.int32)
    .reshape([1, config.vocab])
    .equal(batch.targets.ref.reshape([-1, 1]))
  // A comparison inside the sum; a take would need a scatter.
  const picked = np.where(isTarget.ref, fixed, 0).sum(-1, { keepdims: true })
  const loss = np.log(sum.ref).add(top).sub(picked).mul(weights.ref).sum()
  const share = barrier(np.reciprocal(sum).mul(weights.ref))
  return { loss, gradient: e.mul(share).sub(np.where(isTarget, weights, 0)) }
}

function norm(x: Tensor, weight: Tensor, eps: number): Tensor {
  const meanSquare = barrier(np.square(x.ref).mean(-1, { keepdims: true }))
  return x.mul(np.reciprocal(np.sqrt(meanSquare.add(eps)))).mul(weight)
}

function take(parameters: Parameters, name: string): Tensor {
  const found = parameters[name]
  if (found === undefined) throw new Error(`missing parameter ${name}`)
  return found.ref
}
