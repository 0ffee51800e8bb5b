import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { TrainerError, type TrainerErrorCode } from '#compute/trainer/error.ts'
import { TrainerProcess, type TrainerProcessParameters } from '#compute/trainer/process.ts'
import { jobSchema, type TrainerEvent, type TrainerJobInput } from '#compute/trainer/protocol.ts'
import { seededRandom } from '#compute/trainer/random.ts'
import { type TinyModel, tinyDataset, tinyModel } from './tiny-model.ts'

const run = fileURLToPath(new URL('../../../agents/compute/trainer/run.ts', import.meta.url))
const failsWith =
  (code: TrainerErrorCode, check: (error: TrainerError) => boolean = () => true) =>
  (error: unknown): boolean =>
    error instanceof TrainerError && error.code === code && check(error)

let model: TinyModel
let datasetPath: string
let outputs = 0

before(async () => {
  model = await tinyModel()
  datasetPath = await tinyDataset({ folder: model.folder, count: 40 })
})
after(() => model[Symbol.asyncDispose]())

function jobOf(changes: Partial<TrainerJobInput> = {}): TrainerJobInput {
  outputs += 1
  return {
    basePath: model.path,
    datasetPath,
    outputDir: join(model.folder, `out-${outputs}`),
    recipe: { rank: 2, alpha: 4, steps: 6, batchRows: 2, learningRate: 1e-2, evaluateEvery: 2, checkpointEvery: 1 },
    seed: 3,
    ...changes,
  }
}

/** Runs a job and gives what it said and the adapter's digest. */
async function train(job: TrainerJobInput, parameters: TrainerProcessParameters = {}) {
  const events: TrainerEvent[] = []
  const result = await new TrainerProcess(parameters).run({ job, onEvent: (event) => events.push(event) })
  const adapter = await readFile(result.adapterPath ?? '')
  return { result, events, digest: createHash('sha256').update(adapter).digest('hex') }
}

/** An external trainer in a few lines of JavaScript. */
const speaking = (script: string): TrainerProcessParameters => ({ command: [process.execPath, '-e', script] })

describe('the trainer process', () => {
  // A job says what it does, in order: started, a line per step, checkpoints, the result.
  it('trains, reports and leaves an adapter', async () => {
    const { result, events } = await train(jobOf({ export: { safetensors: true, merged: 'F16' } }))
    assert.equal(events[0]?.type, 'started')
    const steps = events.flatMap((e) => (e.type === 'progress' ? [e.step] : []))
    assert.deepEqual(steps, [1, 2, 3, 4, 5, 6])
    assert.equal(events.filter(({ type }) => type === 'checkpoint').length, 6)
    assert.ok(result.heldOutLoss !== undefined && result.heldOutLoss > 0)
    const curve = JSON.parse(await readFile(result.curvePath ?? '', 'utf8')) as { loss: number }[]
    assert.equal(curve.length, 6)
    assert.ok((curve.at(-1)?.loss ?? 9) < (curve[0]?.loss ?? 0), 'the loss falls')
    const safetensors = await readFile(result.safetensorsPath ?? '')
    assert.match(safetensors.subarray(8, 400).toString(), /layers\.0\.self_attn\.q_proj\.lora_A\.weight/)
    assert.equal((await readFile(result.modelPath ?? '')).subarray(0, 4).toString(), 'GGUF')
  })

  // A trainer killed at any step, as often as it likes, ends with the same adapter, byte for byte.
  it('resumes to the same result after kills', async () => {
    const whole = await train(jobOf())
    const seed = Number(process.env.TEST_SEED ?? Date.now() % 100_000)
    const random = seededRandom(seed)
    const job = jobOf()
    const kills = [1 + random.below(3), 4 + random.below(2)]
    for (const killAt of kills) {
      // The parent of the killed trainer: a shell command is no help here, the process itself must die at the step.
      const command = [process.execPath, join(import.meta.dirname, 'killed-trainer.ts'), run, String(killAt)]
      await assert.rejects(train(job, { command }), failsWith('TRAINER_CRASHED'), `seed ${seed}, killed at ${killAt}`)
    }
    const resumed = await train(job)
    const started = resumed.events[0]
    assert.ok(started?.type === 'started' && started.resumedAt >= (kills[1] ?? 0) - 1, `seed ${seed}`)
    assert.equal(resumed.digest, whole.digest, `seed ${seed}, killed at ${kills}`)
    assert.equal(resumed.result.loss, whole.result.loss)
    assert.deepEqual(await readFile(resumed.result.curvePath ?? ''), await readFile(whole.result.curvePath ?? ''))
  })

  // An abort leaves a checkpoint from which the job goes on.
  it('stops with a checkpoint when it is aborted', async () => {
    const job = jobOf()
    job.recipe = { ...job.recipe, steps: 400, checkpointEvery: 400 }
    const abort = new AbortController()
    const onEvent = (event: TrainerEvent): void => {
      if (event.type === 'progress' && event.step === 3) abort.abort()
    }
    const running = new TrainerProcess({}).run({ job, onEvent, signal: abort.signal })
    await assert.rejects(running, failsWith('TRAINER_ABORTED'))
    const checkpoint = await readFile(join(job.outputDir, 'checkpoint.safetensors'))
    assert.match(checkpoint.subarray(8, 2000).toString(), /weightless-checkpoint-1/)
  })

  // A trainer whose parent is gone, so that nobody reads or writes its streams any more, does not go on for nobody: it writes a
  // checkpoint and ends, and the job goes on from there to the same result.
  it('ends with a checkpoint when its parent is gone', async () => {
    const recipe = { ...jobOf().recipe, steps: 200, checkpointEvery: 1000, evaluateEvery: 1000 }
    const whole = await train({ ...jobOf(), recipe })
    const job = { ...jobOf(), recipe }
    const child = spawn(process.execPath, [run], { stdio: ['pipe', 'pipe', 'ignore'] })
    const ended = once(child, 'exit')
    child.stdin.on('error', () => undefined)
    child.stdin.write(`${JSON.stringify({ type: 'job', protocol: 1, job: jobSchema.parse(job) })}\n`)
    for await (const line of createInterface({ input: child.stdout })) {
      if ((JSON.parse(line) as TrainerEvent).type === 'progress') break
    }
    child.stdout.destroy()
    child.stdin.destroy()
    await ended
    const resumed = await train(job)
    const started = resumed.events[0]
    assert.ok(started?.type === 'started' && started.resumedAt > 0 && started.resumedAt < 200)
    assert.equal(resumed.digest, whole.digest)
  })

  // A checkpoint of another job, or a damaged one, is refused, not trained on from.
  it('refuses a checkpoint that is not its own', async () => {
    const job = jobOf()
    job.recipe = { ...job.recipe, steps: 1 }
    await train(job)
    await assert.rejects(train({ ...job, seed: 4 }), failsWith('TRAINER_CHECKPOINT'))
    await writeFile(join(job.outputDir, 'checkpoint.safetensors'), 'not a checkpoint at all')
    await assert.rejects(train(job), failsWith('TRAINER_CHECKPOINT'))
  })

  // What is wrong with a job is said with its code before anything is computed.
  it('names what is wrong with a job', async () => {
    const write = async (name: string, content: string | Uint8Array): Promise<string> => {
      const path = join(model.folder, name)
      await writeFile(path, content)
      return path
    }
    const image = await readFile(model.path)
    const swap = (from: string, to: string): Uint8Array => {
      const changed = Buffer.from(image)
      changed.write(to, changed.indexOf(from))
      return changed
    }
    const long = JSON.stringify({ prompt: 'x '.repeat(500), completion: 'y' })
    const cases: [TrainerErrorCode, Partial<TrainerJobInput>][] = [
      ['TRAINER_DATASET_LINE', { datasetPath: await write('broken.jsonl', '{"text": "a"}\n{"text": \n') }],
      ['TRAINER_DATASET_EMPTY', { datasetPath: await write('empty.jsonl', '\n\n') }],
      ['TRAINER_DATASET_SIZE', { datasetPath: await write('long.jsonl', long) }],
      ['TRAINER_BASE', { basePath: join(model.folder, 'missing.gguf') }],
      ['TRAINER_BASE', { basePath: await write('short.gguf', image.subarray(0, 3000)) }],
      ['TRAINER_ARCHITECTURE', { basePath: await write('other.gguf', swap('llama', 'qwen2')) }],
      ['TRAINER_TOKENIZER', { basePath: await write('bpe.gguf', image) }],
      ['TRAINER_DEVICE', { device: 'webgpu' }],
      ['TRAINER_WRITE', { outputDir: join(model.path, 'inside-a-file') }],
    ]
    // The second "llama" value in the file is the kind of the tokenizer.
    const second = Buffer.from(image)
    second.write('gpt-2', second.indexOf('llama', second.indexOf('tokenizer.ggml.model') + 20))
    await writeFile(join(model.folder, 'bpe.gguf'), second)
    for (const [code, changes] of cases) {
      await assert.rejects(train(jobOf(changes)), failsWith(code), `${code} for ${JSON.stringify(changes)}`)
    }
    const recipe = { rank: 0 }
    await assert.rejects(
      train(jobOf({ recipe })),
      failsWith('TRAINER_RECIPE', (e) => e.details.field === 'recipe.rank'),
    )
  })

  // A loss that is no number ends the job; nothing is delivered.
  it('stops when the loss is no longer a number', async () => {
    const job = jobOf()
    job.recipe = { ...job.recipe, steps: 60, learningRate: 1, clipNorm: 1000, alpha: 1024, rank: 1, warmupShare: 0 }
    const image = await readFile(model.path)
    const huge = Buffer.from(image)
    // The last tensor is the output norm: values near the largest f32 overflow in the first step.
    for (let at = huge.length - 4 * model.config.dim; at < huge.length; at += 4) huge.writeFloatLE(3e38, at)
    job.basePath = join(model.folder, 'huge.gguf')
    await writeFile(job.basePath, huge)
    await assert.rejects(
      train(job),
      failsWith('TRAINER_LOSS', (e) => e.details.step === 1),
    )
  })

  // A disk without room is an error with its name, and the job goes on once there is room.
  it('says so when a file cannot be written, and goes on later', async () => {
    const whole = await train(jobOf())
    const job = jobOf()
    // Files of at most 8 KiB; the checkpoint is larger. The signal is ignored so that writes fail as on a full disk.
    const command = ['bash', '-c', `trap '' XFSZ; ulimit -f 8; exec "$0" "$1"`, process.execPath, run]
    await assert.rejects(train(job, { command }), failsWith('TRAINER_WRITE'))
    assert.equal((await train(job)).digest, whole.digest)
  })
})

describe('an external trainer', () => {
  // Anything that speaks the protocol can train; events that are not known are passed over.
  it('is a command that speaks JSON lines', async () => {
    const script = `
      process.stdin.once('data', (line) => {
        const { job } = JSON.parse(line)
        const say = (x) => console.log(JSON.stringify(x))
        say({ type: 'started', protocol: 1, steps: 1, resumedAt: 0, examples: 1, heldOutExamples: 0, learnedTokens: 5 })
        say({ type: 'gpu', memory: 3 })
        say({ type: 'progress', step: 1, steps: 1, loss: 0.5 })
        say({ type: 'result', result: { adapterPath: job.basePath, steps: 1, loss: 0.5, examples: 1, learnedTokens: 5 } })
        process.exit(0)
      })`
    const { result, events } = await train(jobOf(), speaking(script))
    assert.equal(result.adapterPath, model.path)
    assert.deepEqual(
      events.map(({ type }) => type),
      ['started', 'progress', 'result'],
    )
  })

  // Nothing that a foreign command does goes unnoticed or without a name.
  const faults: [string, TrainerErrorCode, TrainerProcessParameters][] = [
    ['speaks nonsense', 'TRAINER_PROTOCOL', speaking(`console.log('epoch 1: loss 3')`)],
    [
      'sends a number that is none',
      'TRAINER_PROTOCOL',
      speaking(`console.log('{"type":"progress","step":1,"steps":2,"loss":null}')`),
    ],
    [
      'sends a line without end',
      'TRAINER_PROTOCOL',
      speaking(`setInterval(() => process.stdout.write('x'.repeat(65536)), 1)`),
    ],
    ['ends without a result', 'TRAINER_CRASHED', speaking('process.exit(0)')],
    ['fails', 'TRAINER_CRASHED', speaking('throw new Error("out of memory on device 0")')],
    ['does not exist', 'TRAINER_CRASHED', { command: ['/nonexistent/trainer'] }],
    ['falls silent', 'TRAINER_STALLED', { ...speaking('setInterval(() => {}, 1000)'), silenceMs: 300 }],
    [
      'reports an error of its own',
      'TRAINER_CRASHED',
      speaking(`console.log('{"type":"error","code":"CUDA_OOM","message":"full"}')`),
    ],
    [
      'reports an error that is known',
      'TRAINER_LOSS',
      speaking(`console.log('{"type":"error","code":"TRAINER_LOSS","message":"NaN"}')`),
    ],
  ]
  for (const [what, code, parameters] of faults) {
    it(`that ${what} is ${code}`, () => assert.rejects(train(jobOf(), parameters), failsWith(code)))
  }

  // A command sees PATH and HOME, none of the agent's secrets.
  it('gets no secrets from the environment', async () => {
    process.env.WEIGHTLESS_TEST_SECRET = 'hush'
    try {
      const script = `console.log(JSON.stringify({ type: 'error', code: 'X', message: Object.keys(process.env).join() }))`
      await assert.rejects(
        train(jobOf(), speaking(script)),
        failsWith(
          'TRAINER_CRASHED',
          (e) => e.message.includes('PATH') && !e.message.includes('WEIGHTLESS_TEST_SECRET'),
        ),
      )
    } finally {
      delete process.env.WEIGHTLESS_TEST_SECRET
    }
  })
})
