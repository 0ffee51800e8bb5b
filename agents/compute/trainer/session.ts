import { defaultDevice, init, jit, lax, numpy as np, type Array as Tensor, tree, valueAndGrad } from '@jax-js/jax'
import type { LlamaConfig, Weights } from '#protocol/gguf/llama.ts'
import { TrainerError } from './error.ts'
import { type Batch, crossEntropy, forward, type Parameters, type Rotation, rotation } from './graph.ts'

/** One batch in host memory; see `Batch` for shapes. `segments` numbers the documents of a row, 0 = padding. */
export interface HostBatch {
  rows: number
  rowTokens: number
  ids: Int32Array
  targets: Int32Array
  weights: Float32Array
  segments: Int32Array
}

/** Numbers that drive AdamW. */
export interface Optimiser {
  beta1: number
  beta2: number
  epsilon: number
  /** Decoupled decay of matrices; norms never decay. */
  weightDecay: number
  /** Largest norm of the whole gradient; a longer one is scaled down. */
  clipNorm: number
}

/** What is trained, with both moments of AdamW; the whole state of a session. */
export interface TrainedState {
  trained: Weights
  m: Weights
  v: Weights
}

export interface SessionParameters {
  config: LlamaConfig
  /** The base weights, frozen when `adapterScale` is given, else trained themselves. */
  base: Weights
  /** Where to go on from. */
  state: TrainedState
  /** alpha / rank of the adapter under training; undefined trains every weight. */
  adapterScale?: number | undefined
  optimiser: Optimiser
  device?: 'wasm' | 'webgpu' | undefined
}

/** A compiled model on a device: gradients, updates, losses. One at a time per process; `close` frees it. */
export interface TrainingSession {
  /** One AdamW update from the summed gradients of `batches`. `step` counts from 1. Returns the loss before it. */
  update(o: { batches: readonly HostBatch[]; learningRate: number; step: number }): Promise<UpdateResult>
  /** Mean loss over the weighted positions of `batches`; all batches must have one shape. */
  evaluate(batches: readonly HostBatch[]): Promise<number>
  /** Loss (mean over weights) and the gradient of every trained weight, without an update. */
  gradients(batch: HostBatch): Promise<{ loss: number; gradients: Weights }>
  /** A copy of the state, to store. */
  state(): Promise<TrainedState>
  close(): void
}

export interface UpdateResult {
  loss: number
  /** Norm of the gradient before clipping. */
  gradientNorm: number
}

/**
 * Opens a session. Call `installWorkerThreads` before this module is imported when more than one thread is wanted.
 *
 * @throws TrainerError `TRAINER_DEVICE` when the device is not there, `TRAINER_MEMORY` when it is too small.
 */
export async function openSession(parameters: SessionParameters): Promise<TrainingSession> {
  const { config, adapterScale, optimiser, device = 'wasm' } = parameters
  await openDevice(device)

  let trained = upload(parameters.state.trained)
  let m = upload(parameters.state.m)
  let v = upload(parameters.state.v)
  const frozen = adapterScale === undefined ? {} : upload(parameters.base)
  const rotations = new Map<number, Rotation>()

  interface Input {
    trained: Parameters
    frozen: Parameters
    batch: Batch
    angles: Rotation
  }

  const logitsOf = (weights: Parameters, { frozen: base, batch, angles }: Input): Tensor => {
    const { ids, mask } = batch
    return adapterScale === undefined
      ? forward({ config, base: weights, ids, mask, rotation: angles })
      : forward({ config, base, ids, mask, rotation: angles, adapter: weights, adapterScale })
  }

  const gradientOf = jit((input: Input) => {
    const objective = (weights: Parameters): [Tensor, { loss: Tensor; gradient: Tensor }] => {
      const logits = logitsOf(weights, input)
      const { loss, gradient } = crossEntropy({ config, logits: logits.ref, batch: input.batch })
      // Its gradient to the logits is `gradient`; its value means nothing.
      return [logits.mul(lax.stopGradient(gradient.ref)).sum(), { loss, gradient }]
    }
    const [[surrogate, { loss, gradient }], gradients] = valueAndGrad(objective, { hasAux: true })(input.trained)
    surrogate.dispose()
    tree.dispose([input.frozen, input.batch, input.angles])
    // The gradient to the logits is given out so that it is computed once; whoever calls frees it.
    return { loss, logitGradient: gradient, gradients: gradients as Parameters }
  })

  const lossOnly = jit((input: Input) => {
    const { loss, gradient } = crossEntropy({ config, logits: logitsOf(input.trained, input), batch: input.batch })
    gradient.dispose()
    tree.dispose([input.trained, input.frozen, input.batch, input.angles])
    return loss
  })

  function lossAndGradients(batch: HostBatch, scale: number) {
    const { loss, logitGradient, gradients } = gradientOf(inputOf(batch, scale))
    logitGradient.dispose()
    return { loss, gradients }
  }

  const sum = jit((a: Parameters, b: Parameters) => {
    const out: Parameters = {}
    for (const [name, x] of Object.entries(a)) out[name] = x.add(of(b, name))
    return out
  })

  // The numbers that change per step travel in an array: a plain number would be a new constant and a new compilation.
  const apply = jit(
    (input: { trained: Parameters; m: Parameters; v: Parameters; gradients: Parameters; hyper: Tensor }) => {
      const { beta1, beta2, epsilon, weightDecay, clipNorm } = optimiser
      const squares = Object.values(input.gradients).map((g) => np.square(g.ref).sum())
      const norm = np.sqrt(squares.reduce((a, b) => a.add(b)))
      const clip = np.minimum(1, np.reciprocal(norm.ref.add(1e-6)).mul(clipNorm))
      const rate = input.hyper.ref.slice(0)
      const correction1 = input.hyper.ref.slice(1)
      const correction2 = input.hyper.slice(2)
      const next = { trained: {} as Parameters, m: {} as Parameters, v: {} as Parameters }
      for (const [name, gradient] of Object.entries(input.gradients)) {
        const g = gradient.mul(clip.ref)
        const first = of(input.m, name)
          .mul(beta1)
          .add(g.ref.mul(1 - beta1))
        const second = of(input.v, name)
          .mul(beta2)
          .add(np.square(g).mul(1 - beta2))
        const weight = of(input.trained, name)
        let change = first.ref.mul(correction1.ref).div(np.sqrt(second.ref.mul(correction2.ref)).add(epsilon))
        if (weight.ndim > 1 && weightDecay > 0) change = change.add(weight.ref.mul(weightDecay))
        next.trained[name] = weight.sub(change.mul(rate.ref))
        next.m[name] = first
        next.v[name] = second
      }
      tree.dispose([clip, rate, correction1, correction2])
      return { norm, ...next }
    },
  )

  function anglesFor(rowTokens: number): Rotation {
    let angles = rotations.get(rowTokens)
    if (angles === undefined) {
      angles = rotation({ config, rowTokens })
      rotations.set(rowTokens, angles)
    }
    return tree.ref(angles)
  }

  function inputOf(batch: HostBatch, scale: number): Input {
    return {
      trained: tree.ref(trained),
      frozen: tree.ref(frozen),
      batch: uploadBatch(batch, scale),
      angles: anglesFor(batch.rowTokens),
    }
  }

  return {
    async update({ batches, learningRate, step }) {
      const scale = 1 / totalWeight(batches)
      let loss = 0
      let gradients: Parameters | undefined
      for (const batch of batches) {
        const result = lossAndGradients(batch, scale)
        gradients = gradients === undefined ? result.gradients : sum(gradients, result.gradients)
        loss += await scalar(result.loss)
      }
      if (gradients === undefined)
        throw new TrainerError({ code: 'TRAINER_RECIPE', message: 'an update needs a batch' })
      if (!Number.isFinite(loss)) {
        tree.dispose(gradients)
        throw lossError(step, loss)
      }
      const corrections = [1 / (1 - optimiser.beta1 ** step), 1 / (1 - optimiser.beta2 ** step)]
      const hyper = np.array(Float32Array.of(learningRate, ...corrections))
      const next = apply({ trained, m, v, gradients, hyper })
      trained = next.trained
      m = next.m
      v = next.v
      const gradientNorm = await scalar(next.norm)
      if (!Number.isFinite(gradientNorm)) throw lossError(step, gradientNorm)
      return { loss, gradientNorm }
    },
    async evaluate(batches) {
      const scale = 1 / totalWeight(batches)
      let loss = 0
      for (const batch of batches) loss += await scalar(lossOnly(inputOf(batch, scale)))
      return loss
    },
    async gradients(batch) {
      const result = lossAndGradients(batch, 1 / totalWeight([batch]))
      const loss = await scalar(result.loss)
      const gradients = await download(result.gradients)
      tree.dispose(result.gradients)
      return { loss, gradients }
    },
    async state() {
      return { trained: await download(trained), m: await download(m), v: await download(v) }
    },
    close() {
      tree.dispose([trained, m, v, frozen, ...rotations.values()])
      rotations.clear()
    },
  }
}

async function openDevice(device: 'wasm' | 'webgpu'): Promise<void> {
  if (device === 'webgpu') await offerWebGpu()
  const ready = await init(device)
  if (!ready.includes(device)) {
    throw new TrainerError({
      code: 'TRAINER_DEVICE',
      message: `this machine has no ${device} device that jax-js accepts`,
      fix: device === 'webgpu' ? 'install a graphics driver with Vulkan, or train with device wasm' : 'use Node 24',
    })
  }
  defaultDevice(device)
}

/** Puts the optional `webgpu` package (Dawn) where jax-js looks for a browser's GPU. */
async function offerWebGpu(): Promise<void> {
  const optional = 'webgpu' // in a variable: the package is not a dependency, its types are not there
  try {
    const { create, globals } = (await import(optional)) as { create: (o: string[]) => unknown; globals: object }
    Object.assign(globalThis, globals)
    Object.defineProperty(globalThis.navigator, 'gpu', { value: create([]), configurable: true })
  } catch (cause) {
    throw new TrainerError({
      code: 'TRAINER_DEVICE',
      message: 'the package webgpu is not installed',
      fix: 'run npm install webgpu, or train with device wasm',
      cause,
    })
  }
}

function upload(weights: Weights): Parameters {
  // Copied, because the device takes whole buffers that are not shared.
  const out: Parameters = {}
  for (const [name, { shape, data }] of Object.entries(weights))
    out[name] = np.array(new Float32Array(data)).reshape([...shape])
  return out
}

async function download(parameters: Parameters): Promise<Weights> {
  const out: Weights = {}
  for (const [name, x] of Object.entries(parameters)) {
    out[name] = { shape: [...x.shape], data: Float32Array.from((await x.ref.data()) as Float32Array) }
  }
  return out
}

function uploadBatch(batch: HostBatch, scale: number): Batch {
  const { rows, rowTokens, segments } = batch
  const mask = new Float32Array(rows * rowTokens * rowTokens).fill(-1e30)
  for (let row = 0; row < rows; row++) {
    const start = row * rowTokens
    for (let query = 0; query < rowTokens; query++) {
      const at = (start + query) * rowTokens
      const segment = segments[start + query]
      // A document is contiguous: look back from the query until another begins.
      for (let key = query; key >= 0 && segments[start + key] === segment; key--) mask[at + key] = 0
    }
  }
  return {
    ids: np.array(new Int32Array(batch.ids), { dtype: np.int32 }).reshape([rows, rowTokens]),
    targets: np.array(new Int32Array(batch.targets), { dtype: np.int32 }),
    weights: np.array(batch.weights.map((w) => w * scale)),
    mask: np.array(mask).reshape([rows, 1, 1, rowTokens, rowTokens]),
  }
}

function totalWeight(batches: readonly HostBatch[]): number {
  let total = 0
  for (const { weights } of batches) for (const w of weights) total += w
  if (total === 0)
    throw new TrainerError({ code: 'TRAINER_DATASET_EMPTY', message: 'a batch has nothing to learn from' })
  return total
}

async function scalar(x: Tensor): Promise<number> {
  return Number((await x.data())[0])
}

function lossError(step: number, loss: number): TrainerError {
  return new TrainerError({
    code: 'TRAINER_LOSS',
    message: `the loss at step ${step} is ${loss}`,
    fix: 'lower the learning rate, lengthen the warm-up, or look for damaged examples',
    details: { step, loss: String(loss) },
  })
}

function of(parameters: Parameters, name: string): Tensor {
  const found = parameters[name]
  if (found === undefined) throw new Error(`missing parameter ${name}`)
  return found
}
