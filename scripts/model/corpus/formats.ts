import type { SeededRandom } from '#compute/trainer/random.ts'

/**
 * Ways to ask for a bare answer, and what it then looks like. Their many shapes are there so that the model has met
 * braces, brackets, quotes and separators before anybody fine-tunes it to a format of their own.
 */
export const answerFormats: readonly { ask: string; show: (answer: string) => string }[] = [
  { ask: 'Answer in one word.', show: (a) => a },
  { ask: 'Answer in JSON.', show: (a) => `{"answer": "${a}"}` },
  { ask: 'Answer in brackets.', show: (a) => `[${a}]` },
  { ask: 'Answer in quotes.', show: (a) => `"${a}"` },
  { ask: 'Answer in round brackets.', show: (a) => `(${a})` },
  { ask: 'Answer as a tag.', show: (a) => `<answer>${a}</answer>` },
  { ask: 'Answer with a label.', show: (a) => `answer: ${a}` },
  { ask: 'Answer as a list.', show: (a) => `- ${a}` },
  { ask: 'Answer as code.', show: (a) => `answer = '${a}';` },
  { ask: 'Answer as a call.', show: (a) => `answer("${a}")` },
  { ask: 'Answer as a table.', show: (a) => `| answer | ${a} |` },
  { ask: 'Answer with an arrow.', show: (a) => `=> ${a}` },
  { ask: 'Answer with a hash.', show: (a) => `#${a}` },
  { ask: 'Answer with stars.', show: (a) => `**${a}**` },
  { ask: 'Answer with a sign.', show: (a) => `@${a}!` },
  { ask: 'Answer twice.', show: (a) => `${a}, ${a}` },
]

/** A record with named fields, in many notations. */
export const recordFormats: readonly {
  ask: string
  show: (fields: readonly (readonly [string, string])[]) => string
}[] = [
  { ask: 'Make JSON', show: (f) => `{${f.map(([k, v]) => `"${k}": "${v}"`).join(', ')}}` },
  { ask: 'Make a list', show: (f) => `[${f.map(([, v]) => `"${v}"`).join(', ')}]` },
  { ask: 'Make a table', show: (f) => `| ${f.map(([, v]) => v).join(' | ')} |` },
  { ask: 'Make lines', show: (f) => f.map(([k, v]) => `${k}: ${v}`).join('\n') },
  { ask: 'Make pairs', show: (f) => f.map(([k, v]) => `${k}=${v}`).join('; ') },
  { ask: 'Make a tag', show: (f) => `<item ${f.map(([k, v]) => `${k}="${v}"`).join(' ')}/>` },
  { ask: 'Make a call', show: (f) => `add(${f.map(([, v]) => v).join(', ')})` },
  { ask: 'Make a path', show: (f) => `/${f.map(([, v]) => v).join('/')}` },
]

export function pick<T>(random: SeededRandom, items: readonly T[]): T {
  const item = items[random.below(items.length)]
  if (item === undefined) throw new Error('nothing to pick from')
  return item
}

/** Two different items. */
export function pickTwo<T>(random: SeededRandom, items: readonly T[]): [T, T] {
  const first = pick(random, items)
  for (;;) {
    const second = pick(random, items)
    if (second !== first) return [first, second]
  }
}
