import { getLlama, LlamaLogLevel, type Token } from 'node-llama-cpp'
import { fileSource } from '#kit/files.ts'
import { readGgufHead } from '#protocol/gguf/read.ts'
import { Tokenizer } from '#protocol/gguf/tokenizer.ts'
import { readVocabulary } from '#protocol/gguf/vocabulary.ts'

/** A question with the one right answer, and the group it is counted in. */
export interface ExaminationQuestion {
  task: string
  question: string
  answer: string
}

/** One answer as the engine gave it. */
export interface ExaminedAnswer extends ExaminationQuestion {
  given: string
  correct: boolean
}

/** How many were right, by task. */
export interface Score {
  task: string
  correct: number
  total: number
}

export interface ExamineParameters {
  modelPath: string
  /** A LoRA adapter to lay over the model. */
  adapterPath?: string | undefined
  questions: readonly ExaminationQuestion[]
  /** Longest answer. Default 80. */
  maxTokens?: number | undefined
  signal?: AbortSignal | undefined
}

/**
 * Asks a model every question by itself, in node-llama-cpp at temperature 0 on one thread, and compares word for word.
 * This is the engine that serves the model, so what is measured is what users get.
 */
export async function examine({
  modelPath,
  adapterPath,
  questions,
  maxTokens = 80,
  signal,
}: ExamineParameters): Promise<ExaminedAnswer[]> {
  const tokenizer = await tokenizerOf(modelPath)
  const { eos } = tokenizer.vocabulary
  const llama = await getLlama({ gpu: false, build: 'never', maxThreads: 1, logLevel: LlamaLogLevel.error })
  const model = await llama.loadModel({ modelPath })
  try {
    const lora = adapterPath === undefined ? {} : { lora: adapterPath }
    const context = await model.createContext({ contextSize: 256, sequences: 1, threads: 1, ...lora })
    const sequence = context.getSequence()
    const answers: ExaminedAnswer[] = []
    for (const question of questions) {
      signal?.throwIfAborted()
      const prompt = tokenizer.encode(`<s><|user|>${question.question}</s><|assistant|>`, { special: true })
      await sequence.clearHistory()
      const given: number[] = []
      for await (const token of sequence.evaluate(prompt as Token[], { temperature: 0, yieldEogToken: true })) {
        if (token === eos || given.length === maxTokens) break
        given.push(token)
      }
      const text = tokenizer.decode(given)
      answers.push({ ...question, given: text, correct: text === question.answer })
    }
    await context.dispose()
    return answers
  } finally {
    await model.dispose()
    await llama.dispose()
  }
}

/** Right answers by task, in the order the tasks first occur. */
export function scoresOf(answers: readonly ExaminedAnswer[]): Score[] {
  const scores = new Map<string, Score>()
  for (const { task, correct } of answers) {
    const score = scores.get(task) ?? { task, correct: 0, total: 0 }
    score.total += 1
    if (correct) score.correct += 1
    scores.set(task, score)
  }
  return [...scores.values()]
}

async function tokenizerOf(path: string): Promise<Tokenizer> {
  await using source = await fileSource(path)
  return new Tokenizer(readVocabulary(await readGgufHead(source)))
}
