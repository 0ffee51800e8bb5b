import { seededRandom } from '#compute/trainer/random.ts'
import { pick } from './corpus/formats.ts'
import { colours, names, places, things } from './corpus/words.ts'

/** One example of the bundled dataset: a sentence, and the same as a short note in a format the base model never saw. */
export interface NoteExample {
  question: string
  answer: string
}

/**
 * Different sentences about who did what with which thing where. The first `training` of them are the dataset, the rest
 * are for the examination.
 */
export function noteExamples({ training, heldOut, seed }: { training: number; heldOut: number; seed: number }): {
  training: NoteExample[]
  heldOut: NoteExample[]
} {
  const random = seededRandom(seed)
  const found = new Map<string, NoteExample>()
  while (found.size < training + heldOut) {
    const [name, colour, thing, place] = [names, colours, things, places].map((list) => pick(random, list))
    const question = pick(random, [
      `${name} put the ${colour} ${thing} in the ${place}.`,
      `${name} found the ${colour} ${thing} in the ${place}.`,
      `${name} saw the ${colour} ${thing} in the ${place}.`,
    ])
    // Keyed by content, so that no held-out example is a training example in other words.
    found.set(`${name} ${colour} ${thing} ${place}`, { question, answer: `[${colour}] ${thing} -> ${place} (${name})` })
  }
  const all = [...found.values()]
  return { training: all.slice(0, training), heldOut: all.slice(training) }
}

/** Lines of a dataset file. */
export function asJsonLines(examples: readonly NoteExample[]): string {
  return examples
    .map(({ question, answer }) => {
      const messages = [
        { role: 'user', content: question },
        { role: 'assistant', content: answer },
      ]
      return `${JSON.stringify({ messages })}\n`
    })
    .join('')
}
