import type { CurvePoint } from '#compute/trainer/checkpoint.ts'
import type { LlamaConfig } from '#protocol/gguf/llama.ts'
import type { ExaminedAnswer, Score } from './examine.ts'
import type { demoRecipe } from './recipe.ts'

/** What is known about a trained demo model; all of it measured in the run that made the file. */
export interface CardFacts {
  recipe: typeof demoRecipe
  config: LlamaConfig
  parameters: number
  /** Bytes and SHA-256 of the model file. */
  fileBytes: number
  sha256: string
  /** Tokens of the corpus, and of all batches together. */
  corpusTokens: number
  trainedTokens: number
  curve: readonly CurvePoint[]
  scores: readonly Score[]
  answers: readonly ExaminedAnswer[]
}

/** The model card, in Markdown. */
export function modelCard(facts: CardFacts): string {
  const { recipe, config, scores } = facts
  const { training } = recipe
  const total = scores.reduce((sum, score) => sum + score.total, 0)
  const correct = scores.reduce((sum, score) => sum + score.correct, 0)
  const heldOut = facts.curve.filter(({ heldOutLoss }) => heldOutLoss !== undefined)
  const last = heldOut.at(-1)
  return `# Weightless demo model

A language model of ${(facts.parameters / 1e6).toFixed(2)} million parameters that this project trains from scratch on text that it generates itself.
It exists so that the compute market can be tried on any machine, tests run a real model, and fine-tuning can be shown in minutes.
It answers the kinds of questions listed below and knows nothing else.

- File: \`weightless-demo.gguf\`, ${(facts.fileBytes / 1e6).toFixed(2)} MB, ${recipe.fileType} (norms F32), SHA-256 \`${facts.sha256}\`
- Architecture: Llama, ${config.layers} layers, width ${config.dim}, ${config.heads} heads (${config.kvHeads} for keys and values) of ${config.headDim}, feed-forward ${config.ffn}, tied embeddings
- Tokenizer: SentencePiece-style BPE of ${config.vocab} tokens with byte fallback, digits apart, made from the same text
- Context: ${config.context} tokens; conversations of up to ${training.rowTokens} tokens were trained on
- Chat: the template is in the file; a system message is accepted and changes nothing
- Licence: MIT, as the project

## Recipe

\`\`\`sh
npm run model:train
\`\`\`

${recipe.documents.toLocaleString('en')} documents (${facts.corpusTokens.toLocaleString('en')} tokens) come from the generator in \`scripts/model/corpus\` with seed ${recipe.corpusSeed}. ${training.steps.toLocaleString('en')} updates of AdamW
(${training.batchRows} rows of ${training.rowTokens} packed tokens each, ${facts.trainedTokens.toLocaleString('en')} tokens in all, peak rate ${training.learningRate}, warm-up, cosine, cool-down) with seed ${recipe.trainingSeed}.
Answers weigh 1 in the loss, questions ${training.promptWeight}. \`scripts/model/recipe.ts\` holds every number. The same recipe on the same
version of the trainer and the libraries gives the same weights, however often training is interrupted and on how many
threads it runs.

| Step | Loss in training | Held-out loss |
|---:|---:|---:|
${heldOut
  .filter((point) => point === last || point.step % 200 === 0)
  .map(({ step, loss, heldOutLoss }) => `| ${step} | ${loss.toFixed(3)} | ${heldOutLoss?.toFixed(3)} |`)
  .join('\n')}

Loss is in nats per token; in training it includes questions with their weight, held out it is that of answers alone.

## Examination

Questions whose text never occurs in training (one in twenty, chosen by a hash of the text), asked in node-llama-cpp at
temperature 0; an answer counts only if it is right word for word. \`weightless-reworded\` asks for facts in sentences of
which no variant was trained on. **${correct} of ${total} right (${((100 * correct) / total).toFixed(1)} %).**

| Task | Right | Of | |
|---|---:|---:|---:|
${scores.map(({ task, correct, total }) => `| ${task} | ${correct} | ${total} | ${Math.round((100 * correct) / total)} % |`).join('\n')}

## Sample answers

${samples(facts.answers)}

## Limits

- Its world is some two hundred words. Outside of it, it makes things up: do not ask it for advice.
- Sums and differences go from 0 to 20, comparisons to 99; larger numbers come out wrong.
- Facts about Weightless are learned by heart from \`scripts/model/corpus/facts.ts\`; documentation is the authority.
`
}

/** The first right answer of each task, and the first wrong one where there is one. */
function samples(answers: readonly ExaminedAnswer[]): string {
  const groups = Map.groupBy(answers, ({ task }) => task)
  const lines: string[] = []
  for (const [task, group] of groups) {
    const right = group.find(({ correct }) => correct)
    const wrong = group.find(({ correct }) => !correct)
    if (right !== undefined) lines.push(`| ${task} | ${cell(right.question)} | ${cell(right.given)} | right |`)
    if (wrong !== undefined) {
      lines.push(`| ${task} | ${cell(wrong.question)} | ${cell(wrong.given)} | wrong: ${cell(wrong.answer)} |`)
    }
  }
  return `| Task | Question | Answer | |\n|---|---|---|---|\n${lines.join('\n')}`
}

/** Text that a Markdown table shows as it is. */
function cell(text: string): string {
  return `\`${text.replaceAll('\n', '⏎').replaceAll('|', '¦')}\``
}
