import { nn, numpy as np, type Array as Tensor } from '@jax-js/jax'
import type { LlamaConfig } from '#protocol/gguf/llama.ts'

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

/** Rotary angles of one row length: f32 [1, rowTokens, 1, headDim / 2] each. */
export interface Rotation {
  cos: Tensor
  sin: Tensor
}

/** Builds the rotation of a row length once; pass it as an argument into jitted functions, not as a closure. */
export function rotation({ config, rowTokens }: { config: LlamaConfig; rowTokens: number }): Rotation {
  const half = config.headDim / 2
  const table = (f: (angle: number) => number): Tensor => {
    const values = new Float32Array(rowTokens * half)
    for (let t = 0; t < rowTokens; t++)
      for (let i = 0; i < half; i++) values[t * half + i] = f(t * config.ropeBase ** ((-2 * i) / config.headDim))
    return np.array(values).reshape([1, rowTokens, 1, half])
  }
  return { cos: table(Math.cos), sin: table(Math.sin) }
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
    const low = np.matmul(x, take(adapter, `${name}.a`).transpose())
    return y.add(np.matmul(low, take(adapter, `${name}.b`).transpose()).mul(adapterScale))
  }

  function rotate(x: Tensor, heads: number): [Tensor, Tensor] {
    const parts = x.reshape([rows, rowTokens, 2, heads, half])
    const re = parts.ref.slice([], [], 0)
    const im = parts.slice([], [], 1)
    return [re.ref.mul(cos.ref).sub(im.ref.mul(sin.ref)), re.mul(sin.ref).add(im.mul(cos.ref))]
  }

  const score = (q: Tensor, k: Tensor): Tensor =>
    np.einsum('btkgd,bskd->bkgts', q.reshape([rows, rowTokens, config.kvHeads, groups, half]), k)

  let x = np.take(take(base, 'embd'), ids.ref.reshape([positions]), 0)
  for (let layer = 0; layer < config.layers; layer++) {
    const h = norm(x.ref, take(base, `${layer}.attn_norm`), config.eps)
    const [qRe, qIm] = rotate(project(`${layer}.q`, h.ref), config.heads)
    const [kRe, kIm] = rotate(project(`${layer}.k`, h.ref), config.kvHeads)
    const v = project(`${layer}.v`, h).reshape([rows, rowTokens, config.kvHeads, config.headDim])
    const scores = score(qRe, kRe)
      .add(score(qIm, kIm))
      .mul(1 / Math.sqrt(config.headDim))
      .add(mask.ref)
    const mixed = np
      .einsum('bkgts,bskd->btkgd', nn.softmax(scores, -1), v)
      .reshape([positions, config.heads * config.headDim])
    // Exact, and not optimised away as x1 and +0 are: without a copy the next product would read the transposed view
    // element by element, which makes forward passes four times slower.
    x = x.add(project(`${layer}.o`, mixed.mul(0.5).mul(2)))
    const g = norm(x.ref, take(base, `${layer}.ffn_norm`), config.eps)
    x = x.add(project(`${layer}.down`, nn.silu(project(`${layer}.gate`, g.ref)).mul(project(`${layer}.up`, g))))
  }
  const output = take(base, config.tied ? 'embd' : 'output')
  return np.matmul(norm(x, take(base, 'out_norm'), config.eps), output.transpose())
}

/** Cross-entropy summed with the batch's weights. Consumes `logits`; refs the batch. */
export function weightedLoss({ config, logits, batch }: { config: LlamaConfig; logits: Tensor; batch: Batch }): Tensor {
  const logSum = nn.logsumexp(logits.ref, -1)
  const isTarget = np
    .arange(config.vocab)
    .astype(np.int32)
    .reshape([1, config.vocab])
    .equal(batch.targets.ref.reshape([-1, 1]))
  // A comparison inside the sum; a take would need a scatter in the backward pass.
  const picked = np.where(isTarget, logits, 0).sum(-1)
  return logSum.sub(picked).mul(batch.weights.ref).sum()
}

/**
 * The identity, with its value and its gradient both materialised: a sum over two halves is a kernel boundary in both
 * directions. With a frozen embedding the gradient of the softmax is otherwise computed again inside the next product.
 */
export function barrier(x: Tensor): Tensor {
  const halves = np.array([0.5, 0.5]).reshape([2, ...x.shape.map(() => 1)])
  return np
    .broadcastTo(x.reshape([1, ...x.shape]), [2, ...x.shape])
    .mul(halves)
    .sum(0)
}

function norm(x: Tensor, weight: Tensor, eps: number): Tensor {
  const meanSquare = np.square(x.ref).mean(-1, { keepdims: true })
  return x.mul(np.reciprocal(np.sqrt(meanSquare.add(eps)))).mul(weight)
}

function take(parameters: Parameters, name: string): Tensor {
  const found = parameters[name]
  if (found === undefined) throw new Error(`missing parameter ${name}`)
  return found.ref
}
