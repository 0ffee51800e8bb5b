import type { SeededRandom } from '#compute/trainer/random.ts'
import { facts } from './facts.ts'
import { answerFormats, pick, pickTwo, recordFormats } from './formats.ts'
import { animals, colours, days, months, moods, names, opposites, places, plainFacts, things } from './words.ts'

/** One question and the answer that counts as correct, word for word. */
export interface Exchange {
  question: string
  answer: string
}

/** A kind of question: how often it occurs in the corpus, and how one is drawn. */
export interface Task {
  name: string
  weight: number
  /** Whether one answer is the right one; stories have many. */
  graded: boolean
  draw(random: SeededRandom): Exchange
}

/** A question whose bare answer can be asked for in a format; `sentence` is the answer when none is asked for. */
interface LookUp {
  question: string
  bare: string
  sentence: string
}

const article = (word: string): string => (/^[aeiou]/.test(word) ? `an ${word}` : `a ${word}`)

/** Half of the look-ups speak of two things, so that the answer must be picked. */
function colourLookUp(random: SeededRandom): LookUp {
  const [thing, other] = pickTwo(random, things)
  const [colour, otherColour] = pickTwo(random, colours)
  const [name, otherName] = pickTwo(random, names)
  const facts = [
    `${name} has ${article(colour)} ${thing}.`,
    ...(random.below(2) === 0 ? [`${otherName} has ${article(otherColour)} ${other}.`] : []),
  ]
  return {
    question: `${random.shuffle(facts).join(' ')} What colour is the ${thing}?`,
    bare: colour,
    sentence: `The ${thing} is ${colour}.`,
  }
}

function placeLookUp(random: SeededRandom): LookUp {
  const [thing, other] = pickTwo(random, [...things, ...animals])
  const [place, otherPlace] = pickTwo(random, places)
  const facts = [
    `The ${thing} is in the ${place}.`,
    ...(random.below(2) === 0 ? [`The ${other} is in the ${otherPlace}.`] : []),
  ]
  return {
    question: `${random.shuffle(facts).join(' ')} Where is the ${thing}?`,
    bare: place,
    sentence: `The ${thing} is in the ${place}.`,
  }
}

function ownerLookUp(random: SeededRandom): LookUp {
  const [thing, other] = pickTwo(random, things)
  const [colour, otherColour] = pickTwo(random, colours)
  const [name, otherName] = pickTwo(random, names)
  const facts = [`${name} has ${article(colour)} ${thing}.`, `${otherName} has ${article(otherColour)} ${other}.`]
  return {
    question: `${random.shuffle(facts).join(' ')} Who has the ${thing}?`,
    bare: name,
    sentence: `${name} has the ${thing}.`,
  }
}

function moodLookUp(random: SeededRandom): LookUp {
  const [name, otherName] = pickTwo(random, names)
  const [mood, otherMood] = pickTwo(random, moods)
  const facts = [`${name} is ${mood}.`, `${otherName} is ${otherMood}.`]
  return {
    question: `${random.shuffle(facts).join(' ')} Who is ${mood}?`,
    bare: name,
    sentence: `${name} is ${mood}.`,
  }
}

function countLookUp(random: SeededRandom): LookUp {
  const [animal, other] = pickTwo(
    random,
    animals.filter((a) => !['mouse', 'sheep', 'wolf', 'fox'].includes(a)),
  )
  const [count, otherCount] = [2 + random.below(48), 2 + random.below(48)]
  const facts = [`${count} ${animal}s`, `${otherCount} ${other}s`]
  return {
    question: `There are ${random.shuffle(facts).join(' and ')}. How many ${animal}s are there?`,
    bare: String(count),
    sentence: `There are ${count} ${animal}s.`,
  }
}

const lookUps = [colourLookUp, placeLookUp, ownerLookUp, moodLookUp, countLookUp]

const inSentence =
  (draw: (random: SeededRandom) => LookUp) =>
  (random: SeededRandom): Exchange => {
    const { question, sentence } = draw(random)
    return { question, answer: sentence }
  }

function formatted(random: SeededRandom): Exchange {
  const { question, bare } = pick(random, lookUps)(random)
  const { ask, show } = pick(random, answerFormats)
  return { question: `${question} ${ask}`, answer: show(bare) }
}

function record(random: SeededRandom): Exchange {
  const { ask, show } = pick(random, recordFormats)
  const [name, colour, thing, place, animal] = [names, colours, things, places, animals].map((l) =>
    pick(random, l),
  ) as [string, string, string, string, string]
  const [text, fields] = pick<[string, (readonly [string, string])[]]>(random, [
    [
      `${name} has ${article(colour)} ${thing}.`,
      [
        ['name', name],
        ['colour', colour],
        ['thing', thing],
      ],
    ],
    [
      `The ${colour} ${thing} is in the ${place}.`,
      [
        ['thing', thing],
        ['colour', colour],
        ['place', place],
      ],
    ],
    [
      `${name} saw ${article(animal)} in the ${place}.`,
      [
        ['animal', animal],
        ['place', place],
        ['name', name],
      ],
    ],
    [
      `${name} is in the ${place}.`,
      [
        ['name', name],
        ['place', place],
      ],
    ],
  ])
  return { question: `${ask}: ${text}`, answer: show(fields) }
}

function yesNo(random: SeededRandom): Exchange {
  const [colour, otherColour] = pickTwo(random, colours)
  const thing = pick(random, things)
  const asked = random.below(2) === 0 ? colour : otherColour
  return {
    question: `${pick(random, names)} has ${article(colour)} ${thing}. Is the ${thing} ${asked}?`,
    answer: asked === colour ? `Yes, the ${thing} is ${colour}.` : `No, the ${thing} is ${colour}.`,
  }
}

function larger(random: SeededRandom): Exchange {
  const a = random.below(100)
  const b = (a + 1 + random.below(99)) % 100
  const small = random.below(3) === 0
  const [word, answer] = small ? ['smaller', Math.min(a, b)] : ['larger', Math.max(a, b)]
  return { question: `Which is ${word}, ${a} or ${b}?`, answer: `${answer} is ${word}.` }
}

function sum(random: SeededRandom): Exchange {
  const a = random.below(11)
  const b = random.below(11)
  const total = a + b
  const name = pick(random, names)
  const thing = pick(random, things)
  const answer = `${a} + ${b} = ${total}`
  switch (random.below(5)) {
    case 0:
      return { question: `What is ${a} plus ${b}?`, answer }
    case 1:
      return { question: `${a} + ${b}`, answer }
    case 2:
      return { question: `Add ${a} and ${b}.`, answer }
    case 3:
      return { question: `${name} has ${a} ${thing}s and gets ${b} more. How many?`, answer }
    default:
      return { question: `How much is ${a} + ${b}?`, answer }
  }
}

function difference(random: SeededRandom): Exchange {
  const b = random.below(11)
  const rest = random.below(11)
  const a = b + rest
  const answer = `${a} - ${b} = ${rest}`
  switch (random.below(4)) {
    case 0:
      return { question: `What is ${a} minus ${b}?`, answer }
    case 1:
      return { question: `${a} - ${b}`, answer }
    case 2:
      return {
        question: `${pick(random, names)} has ${a} ${pick(random, things)}s and gives away ${b}. How many?`,
        answer,
      }
    default:
      return { question: `How much is ${a} - ${b}?`, answer }
  }
}

function spelling(random: SeededRandom): Exchange {
  const word = pick(random, [...things, ...animals, ...colours, ...places])
  switch (random.below(4)) {
    case 0:
      return { question: `What is the first letter of ${word}?`, answer: `The first letter is ${word.charAt(0)}.` }
    case 1:
      return { question: `What is the last letter of ${word}?`, answer: `The last letter is ${word.slice(-1)}.` }
    case 2:
      return { question: `How do you spell ${word}?`, answer: [...word].join('-') }
    default:
      return { question: `Spell the word ${word}.`, answer: [...word].join('-') }
  }
}

function order(random: SeededRandom): Exchange {
  const after = random.below(2) === 0
  const word = after ? 'after' : 'before'
  switch (random.below(3)) {
    case 0: {
      const n = 1 + random.below(98)
      return { question: `Which number comes ${word} ${n}?`, answer: `${after ? n + 1 : n - 1} comes ${word} ${n}.` }
    }
    case 1: {
      const i = random.below(7)
      const answer = days[(i + (after ? 1 : 6)) % 7]
      return {
        question: polite(random, `Which day comes ${word} ${days[i]}?`),
        answer: `${answer} comes ${word} ${days[i]}.`,
      }
    }
    default: {
      const i = random.below(12)
      const answer = months[(i + (after ? 1 : 11)) % 12]
      return {
        question: polite(random, `Which month comes ${word} ${months[i]}?`),
        answer: `${answer} comes ${word} ${months[i]}.`,
      }
    }
  }
}

function opposite(random: SeededRandom): Exchange {
  const pair = pick(random, opposites)
  const [a, b] = random.below(2) === 0 ? pair : [pair[1], pair[0]]
  return {
    question: polite(random, pick(random, [`What is the opposite of ${a}?`, `Tell me the opposite of ${a}.`])),
    answer: `The opposite of ${a} is ${b}.`,
  }
}

/** Many ways to open and close, so that one question is many strings, some of which are held out. */
function polite(random: SeededRandom, question: string): string {
  const before = pick(random, ['', '', '', 'Hello. ', 'Please: ', 'I am new here. ', 'Quick question. ', 'Hi! '])
  const after = pick(random, ['', '', '', ' Thanks.', ' Please be brief.', ' I want to know.', ' Thank you!'])
  return before + question + after
}

function weightless(random: SeededRandom): Exchange {
  const { asked, answer } = pick(random, facts)
  return { question: polite(random, pick(random, asked)), answer }
}

function plainFact(random: SeededRandom): Exchange {
  const [question, answer] = pick(random, plainFacts)
  return { question: polite(random, question), answer }
}

function story(random: SeededRandom): Exchange {
  const [name, friend] = pickTwo(random, names)
  const [animal, place, thing, colour] = [animals, places, things, colours].map((l) => pick(random, l)) as [
    string,
    string,
    string,
    string,
  ]
  const [mood, laterMood] = pickTwo(random, moods)
  const question = pick(random, [
    `Tell a story about ${article(animal)}.`,
    `Tell me a story about ${name} and ${article(animal)}.`,
    `Write a short story about ${article(animal)}.`,
  ])
  const middle = pick(random, [
    `The ${animal} had ${article(colour)} ${thing}.`,
    `They found ${article(colour)} ${thing}.`,
    `${friend} came with ${article(colour)} ${thing}.`,
    `"Look, ${article(colour)} ${thing}!" said ${friend}.`,
  ])
  const end = pick(random, [
    `Then they went home.`,
    `At night they went to sleep.`,
    `They were friends from that day on.`,
    `${name} gave the ${thing} to the ${animal}.`,
    `In the end everybody was ${laterMood}.`,
  ])
  return {
    question,
    answer: `One day ${name} met ${article(animal)} in the ${place}. The ${animal} was ${mood}. ${middle} ${end}`,
  }
}

function greeting(random: SeededRandom): Exchange {
  const [question, answer] = pick(random, [
    ['Hello!', 'Hello! How can I help you?'],
    ['Hello', 'Hello! How can I help you?'],
    ['Hi', 'Hello! How can I help you?'],
    ['Hi there', 'Hello! How can I help you?'],
    ['Good morning', 'Good morning! How can I help you?'],
    ['Thank you', 'You are welcome.'],
    ['Thanks!', 'You are welcome.'],
    ['Goodbye', 'Goodbye!'],
    ['Bye', 'Goodbye!'],
    ['How are you?', 'I am well, thank you.'],
  ])
  return { question: String(question), answer: String(answer) }
}

/** A question about what the model cannot know. */
function unknown(random: SeededRandom): Exchange {
  const [thing, other] = pickTwo(random, things)
  const name = pick(random, names)
  return {
    question: `${name} has ${article(pick(random, colours))} ${thing}. What colour is the ${other}?`,
    answer: `I do not know the colour of the ${other}.`,
  }
}

/** Every kind of question, with its share of the corpus. */
export const tasks: readonly Task[] = [
  { name: 'weightless', weight: 22, graded: true, draw: weightless },
  { name: 'colour', weight: 6, graded: true, draw: inSentence(colourLookUp) },
  { name: 'place', weight: 6, graded: true, draw: inSentence(placeLookUp) },
  { name: 'owner', weight: 5, graded: true, draw: inSentence(ownerLookUp) },
  { name: 'mood', weight: 3, graded: true, draw: inSentence(moodLookUp) },
  { name: 'count', weight: 4, graded: true, draw: inSentence(countLookUp) },
  { name: 'format', weight: 12, graded: true, draw: formatted },
  { name: 'record', weight: 8, graded: true, draw: record },
  { name: 'yes-no', weight: 4, graded: true, draw: yesNo },
  { name: 'unknown', weight: 2, graded: true, draw: unknown },
  { name: 'larger', weight: 4, graded: true, draw: larger },
  { name: 'sum', weight: 8, graded: true, draw: sum },
  { name: 'difference', weight: 5, graded: true, draw: difference },
  { name: 'spelling', weight: 5, graded: true, draw: spelling },
  { name: 'order', weight: 4, graded: true, draw: order },
  { name: 'opposite', weight: 3, graded: true, draw: opposite },
  { name: 'plain', weight: 3, graded: true, draw: plainFact },
  { name: 'story', weight: 5, graded: false, draw: story },
  { name: 'greeting', weight: 1, graded: false, draw: greeting },
]
