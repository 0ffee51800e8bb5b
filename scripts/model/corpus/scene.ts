import type { SeededRandom } from '#compute/trainer/random.ts'
import type { Exchange } from './tasks.ts'
import { colours, moods, names, places, things } from './words.ts'

/**
 * Two or three people with a thing each, perhaps where it is or how they are, and three questions about it all. Many
 * answers to one text teach a model to look things up instead of guessing.
 */
export function scene(random: SeededRandom): Exchange[] {
  const count = 2 + random.below(2)
  const [who, colour, thing, place, mood] = [names, colours, things, places, moods].map((words) =>
    random.shuffle([...words]).slice(0, count),
  ) as [string[], string[], string[], string[], string[]]
  const sentences: string[] = []
  const questions: Exchange[] = []
  for (let i = 0; i < count; i++) {
    const a = /^[aeiou]/.test(colour[i] ?? '') ? 'an' : 'a'
    sentences.push(`${who[i]} has ${a} ${colour[i]} ${thing[i]}.`)
    questions.push({ question: `What colour is the ${thing[i]}?`, answer: `The ${thing[i]} is ${colour[i]}.` })
    questions.push({ question: `Who has the ${thing[i]}?`, answer: `${who[i]} has the ${thing[i]}.` })
  }
  for (let i = 0; i < 2; i++) {
    if (random.below(2) === 0) {
      sentences.push(`The ${thing[i]} is in the ${place[i]}.`)
      questions.push({ question: `Where is the ${thing[i]}?`, answer: `The ${thing[i]} is in the ${place[i]}.` })
    } else {
      sentences.push(`${who[i]} is ${mood[i]}.`)
      questions.push({ question: `Who is ${mood[i]}?`, answer: `${who[i]} is ${mood[i]}.` })
    }
  }
  const text = random.shuffle(sentences).join(' ')
  return random
    .shuffle(questions)
    .slice(0, 3)
    .map(({ question, answer }, i) => {
      const oneWord = random.below(3) === 0
      const bare = oneWord ? bareAnswer(question, answer) : answer
      return {
        question: `${i === 0 ? `${text} ` : ''}${question}${oneWord ? ' Answer in one word.' : ''}`,
        answer: bare,
      }
    })
}

/** The word that was asked for: the first of an answer to "who", else the last. */
function bareAnswer(question: string, answer: string): string {
  const words = answer.replace('.', '').split(' ')
  return (question.startsWith('Who') ? words[0] : words.at(-1)) ?? answer
}
