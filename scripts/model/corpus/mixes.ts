import type { TaskName } from './tasks.ts'

/** What a corpus is made of. */
export interface Mix {
  /** Shares of the kinds of questions, relative to their sum. */
  tasks: Readonly<Record<TaskName, number>>
  /** Conversations about one scene, in percent of the documents. */
  scenePercent: number
  /** One document in this many is a story without a question. */
  textEvery: number
}

/** The first stage: everything, and much about Weightless. */
export const broadMix: Mix = {
  tasks: {
    weightless: 22,
    colour: 6,
    place: 6,
    owner: 5,
    mood: 3,
    count: 4,
    format: 12,
    record: 8,
    'yes-no': 4,
    unknown: 2,
    larger: 4,
    sum: 8,
    difference: 5,
    spelling: 5,
    order: 4,
    opposite: 3,
    plain: 3,
    story: 5,
    greeting: 1,
  },
  scenePercent: 0,
  textEvery: 30,
}

/** The second stage: more of what must be worked out from the question, less of what is known by heart. */
export const carefulMix: Mix = {
  tasks: {
    weightless: 12,
    colour: 5,
    place: 5,
    owner: 5,
    mood: 4,
    count: 5,
    format: 12,
    record: 8,
    'yes-no': 4,
    unknown: 3,
    larger: 5,
    sum: 11,
    difference: 9,
    spelling: 9,
    order: 5,
    opposite: 2,
    plain: 2,
    story: 2,
    greeting: 1,
  },
  scenePercent: 22,
  textEvery: 60,
}
