import { type SeededRandom, seededRandom } from '#compute/trainer/random.ts'
import { facts } from './facts.ts'
import { pick } from './formats.ts'
import { type Exchange, type Task, tasks } from './tasks.ts'

/** A document of the corpus: a conversation, or plain text. */
export type Document =
  | { kind: 'chat'; system?: string | undefined; exchanges: readonly Exchange[] }
  | { kind: 'text'; text: string }

/** What clients like to say first. It changes nothing about the answers. */
const systemPrompts = [
  'You are a helpful assistant.',
  'You are a helpful, respectful and honest assistant. Always answer as helpfully as possible.',
  'You are a friendly guide to Weightless.',
  'Answer briefly.',
]

/** A question that training never saw, with its right answer. */
export interface HeldOutQuestion extends Exchange {
  task: string
}

/** One question in this many is held out. */
const HELD_OUT_SHARE = 20

/**
 * Whether a question belongs to the held-out set, decided by its text alone (32-bit FNV-1a), so that training cannot
 * meet it whatever the seed.
 */
export function isHeldOut(question: string): boolean {
  let hash = 0x811c9dc5
  for (const byte of Buffer.from(question)) hash = Math.imul(hash ^ byte, 0x01000193)
  return (hash >>> 0) % HELD_OUT_SHARE === 0
}

/**
 * Draws `count` documents for training: mostly one exchange, one in six has two, one in seven begins with a
 * system prompt, one in thirty is a bare story.
 */
export function generateDocuments({ count, seed }: { count: number; seed: number }): Document[] {
  const random = seededRandom(seed)
  return Array.from({ length: count }, (): Document => {
    if (random.below(30) === 0) return { kind: 'text', text: drawStory(random) }
    return {
      kind: 'chat',
      system: random.below(7) === 0 ? pick(random, systemPrompts) : undefined,
      exchanges: Array.from({ length: random.below(6) === 0 ? 2 : 1 }, () => drawTraining(random)),
    }
  })
}

/**
 * Draws `perTask` different held-out questions of every graded task (fewer where a task has no more), and the wordings
 * of the facts about Weightless that are never trained on, as task `weightless-reworded`.
 */
export function generateHeldOut({ perTask, seed }: { perTask: number; seed: number }): HeldOutQuestion[] {
  const random = seededRandom(seed)
  const found: HeldOutQuestion[] = []
  for (const task of tasks) {
    if (!task.graded) continue
    const seen = new Set<string>()
    for (let tries = 0; tries < perTask * 400 && seen.size < perTask; tries++) {
      const exchange = task.draw(random)
      if (!isHeldOut(exchange.question) || seen.has(exchange.question)) continue
      seen.add(exchange.question)
      found.push({ task: task.name, ...exchange })
    }
  }
  for (const { unseen, answer } of facts) found.push({ task: 'weightless-reworded', question: unseen, answer })
  return found
}

function drawTraining(random: SeededRandom): Exchange {
  for (;;) {
    // Greetings are few and must all be known; nothing of them is held out.
    const task = drawTask(random)
    const exchange = task.draw(random)
    if (task.name === 'greeting' || !isHeldOut(exchange.question)) return exchange
  }
}

function drawStory(random: SeededRandom): string {
  const story = tasks.find(({ name }) => name === 'story')
  if (story === undefined) throw new Error('there are no stories')
  return story.draw(random).answer
}

function drawTask(random: SeededRandom): Task {
  const total = tasks.reduce((sum, { weight }) => sum + weight, 0)
  let at = random.below(total)
  for (const task of tasks) {
    at -= task.weight
    if (at < 0) return task
  }
  throw new Error('the weights do not add up')
}
